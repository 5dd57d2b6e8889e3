"""Requests of any shape, and errors of any kind, become answers of one shape."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch.arc import envelope, errors
from dispatch.chats.errors import ChatAlreadyClosed, ChatExists, ChatNotFound
from dispatch.errors import (
    ArbeError,
    Conflict,
    Fenced,
    Forbidden,
    Gone,
    Invalid,
    TooBusy,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from dispatch.models.arc import AgentNotFound

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
BOUNDED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FIELDS = ("arc", "id", "method", "requestAgent", "targetAgent", "params", "traceId")


def check(body: bytes) -> dict[str, Any]:
    """Read and refuse; return the answer, after looking at what every client needs."""
    call = envelope.read(body)
    fault = call.fault or Invalid("x")
    answer: dict[str, Any] = json.loads(envelope.refusal(call, errors.of(fault, call)))
    assert {"arc", "id", "responseAgent", "targetAgent", "result", "error"} <= set(answer)
    assert isinstance(answer["error"]["code"], int)
    assert isinstance(answer["error"]["details"], dict)
    return answer


@BOUNDED
@given(st.binary())
def test_any_bytes_are_answered(body: bytes):
    check(body)


@BOUNDED
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)))
def test_any_fields_are_answered(fields: dict[str, Any]):
    check(json.dumps(fields).encode())


@BOUNDED
@given(st.text(min_size=1) | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_an_id_is_repeated_as_it_came(given_id: Any):
    body = json.dumps({"id": given_id}).encode()
    assert check(body)["id"] == given_id
    assert json.dumps(given_id).encode() in envelope.result(envelope.read(body), {})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AgentNotFound("x"), -41001),
        (ChatNotFound("c"), -43001),
        (ChatAlreadyClosed("c"), -43002),
        (ChatExists("c"), -32602),
        (Invalid("x"), -32602),
        (TooLarge("x", limit_bytes=1, setting="X"), -45004),
        (TooBusy("x", retry_after_seconds=5), -44007),
        (Unauthenticated(), -44001),
        (Forbidden("x"), -44006),
        (Unavailable("Redis"), -41002),
        (Gone("t"), -43001),
        (Conflict("busy", "x"), -41002),
        (Conflict("stream_full", "x"), -43006),
        (Conflict("key_reused", "x"), -32602),
        (Conflict("already_answered", "x"), -42006),
        (Fenced("d", "x"), -32603),
        (ArbeError("x"), -32603),
    ],
)
def test_each_error_has_its_code(error: ArbeError, code: int):
    call = envelope.read(b'{"params": {"chatId": "c"}, "targetAgent": "a"}')
    found = errors.of(error, call)
    assert found["code"] == code
    assert found["message"]
    assert found["details"]["chatId"] == "c"
