"""Requests as they come in and answers as they go out.

    {"arc": "1.0", "id": …, "method": …, "requestAgent": …, "targetAgent": …, "params": {…}}
    {"arc": "1.0", "id": …, "responseAgent": …, "targetAgent": …, "result": …, "error": null}

Promise: `id` is repeated byte for byte, `traceId` as it came, also in refusals, where they can
be read. `error` always has `details`: clients read keys of it unasked.
"""

from typing import Any, Final

import msgspec

from dispatch.models.arc import ArcError, Code

VERSION: Final = "1.0"
SERVER: Final = "arbe-dispatch"
_MAX_TRACE_CHARACTERS: Final = 200

_NULL: Final = msgspec.Raw(b"null")
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder: Final = msgspec.json.Encoder()


class Call(msgspec.Struct, kw_only=True):
    """What could be read of a request; `fault` says why it is none."""

    id: msgspec.Raw = _NULL
    method: str = ""
    request_agent: str = ""
    target_agent: str = SERVER
    trace_id: str | None = None
    params: dict[str, Any] = {}
    fault: ArcError | None = None

    @property
    def wants_stream(self) -> bool:
        """Tell whether the answer shall be an event stream."""
        return self.params.get("stream") is True and self.method in STREAMED


STREAMED: Final = frozenset({"chat.start", "chat.message"})


def read(body: bytes) -> Call:
    """Read a request; never fails."""
    call = Call()
    try:
        body.decode()  # fields are decoded one by one, and `id` is not: the whole must be text
        _fill(call, _fields.decode(body))
    except ArcError as fault:
        call.fault = fault
    except msgspec.ValidationError:
        call.fault = _invalid("A request is a JSON object.")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        call.fault = ArcError(Code.PARSE, f"The body is not valid JSON: {error}.")
    return call


def result(call: Call, found: dict[str, Any]) -> bytes:
    """Return the answer to a call that was done."""
    return _answer(call, result=found, error=None)


def refusal(call: Call, error: dict[str, Any]) -> bytes:
    """Return the answer to a call that was not.

    It also carries `message` and `details` at its top: what clients show of HTTP errors.
    """
    shown = {"message": error["message"], "details": error["details"]}
    return _answer(call, result=None, error=error, **shown)


def _fill(call: Call, fields: dict[str, msgspec.Raw]) -> None:
    """Read field after field; what comes first is echoed by the refusal of what comes later."""
    given = bytes(fields.get("id", _NULL)).strip()
    if given[:1] == b'"' or given[:1].isdigit() or given[:1] == b"-":
        call.id = msgspec.Raw(given)
    call.request_agent = _text(fields, "requestAgent", optional=True)
    call.target_agent = _text(fields, "targetAgent", optional=True) or SERVER
    call.trace_id = _text(fields, "traceId", optional=True) or None
    call.method = _text(fields, "method", optional=True)
    _read_params(call, fields)
    if _text(fields, "arc") != VERSION:
        raise ArcError(Code.ARC_VERSION, "This server speaks ARC 1.0.", supported=VERSION)
    if bytes(call.id) == b"null":
        raise _invalid("`id` must be a string or a number.")
    for name in ("method", "requestAgent", "targetAgent"):
        _text(fields, name)
    if "params" not in fields:
        raise _invalid("`params` is missing.")
    if len(call.trace_id or "") > _MAX_TRACE_CHARACTERS:
        call.trace_id = None
        raise ArcError(
            Code.TRACE_INVALID, f"`traceId` has more than {_MAX_TRACE_CHARACTERS} characters."
        )


def _read_params(call: Call, fields: dict[str, msgspec.Raw]) -> None:
    if "params" not in fields:
        return
    try:
        call.params = msgspec.json.decode(fields["params"], type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise _invalid("`params` must be an object.") from error


def _text(fields: dict[str, msgspec.Raw], name: str, *, optional: bool = False) -> str:
    raw = bytes(fields.get(name, _NULL)).strip()
    if raw == b"null":
        if optional:
            return ""
        raise _invalid(f"`{name}` is missing.")
    try:
        found = msgspec.json.decode(raw, type=str)
    except msgspec.ValidationError as error:
        raise _invalid(f"`{name}` must be a string.") from error
    if not found and not optional:
        raise _invalid(f"`{name}` is empty.")
    return found


def _invalid(what: str) -> ArcError:
    return ArcError(
        Code.INVALID_REQUEST,
        what,
        next_step="Send arc, id, method, requestAgent, targetAgent and params.",
    )


def _answer(call: Call, **fields: Any) -> bytes:
    answer: dict[str, Any] = {
        "arc": VERSION,
        "id": call.id,
        "responseAgent": call.target_agent,
        "targetAgent": call.request_agent,
    }
    if call.trace_id is not None:
        answer["traceId"] = call.trace_id
    return _encoder.encode(answer | fields)
