"""Problem documents (RFC 9457) read back into the errors they were made of."""

from typing import Any, Final

import msgspec

from dispatch import errors
from dispatch.errors import ArbeError

_STANDARD: Final = frozenset({"type", "title", "status", "detail", "code", "nextStep"})
_CLASSES: Final[dict[str, type[ArbeError]]] = {
    kind.code: kind
    for kind in (
        errors.NotFound,
        errors.Gone,
        errors.Invalid,
        errors.AmbiguousRef,
        errors.Unauthenticated,
        errors.Forbidden,
        errors.Conflict,
        errors.TooBusy,
        errors.TooLarge,
        errors.Fenced,
        errors.Unavailable,
    )
}


class UnknownProblem(ArbeError):
    """A problem of a code that this version does not know; `problem_code` is its word."""

    code = "unknown_problem"

    def __init__(self, problem_code: str, what: str, *, next_step: str) -> None:
        self.problem_code = problem_code
        super().__init__(what, next_step=next_step, problemCode=problem_code)


class UnexpectedAnswer(ArbeError):
    """Something answered that does not speak this API: another server, or a proxy."""

    code = "unexpected_answer"


def read(status: int, body: bytes, *, url: str) -> ArbeError:
    """Return the error a refused request's answer tells of.

    Promise: never raises, whatever the body is. The server's own sentences are kept.
    """
    problem = _problem(body)
    if problem is None:
        return _not_ours(status, url)
    code, what = str(problem["code"]), str(problem.get("detail") or problem.get("title") or "")
    next_step = str(problem.get("nextStep") or "")
    fields = {
        name: value
        for name, value in problem.items()
        if name not in _STANDARD and isinstance(value, str | int | float | None)
    }
    kind = _CLASSES.get(code)
    if kind is None:
        return UnknownProblem(code, what or f"HTTP {status}.", next_step=next_step)
    return _make(kind, what or f"HTTP {status}.", next_step, fields)


def _make(
    kind: type[ArbeError], what: str, next_step: str, fields: dict[str, Any]
) -> ArbeError:
    """Make the error without its constructor, which would write the sentences anew."""
    error = kind.__new__(kind)
    ArbeError.__init__(error, what, next_step=next_step, **fields)
    match error:
        case errors.Conflict():
            error.reason = str(fields.get("reason", ""))
        case errors.TooBusy():
            error.retry_after_seconds = float(fields.get("retryAfterSeconds") or 1.0)
        case errors.Fenced():
            error.answer = str(fields.get("answer", ""))
        case errors.Unavailable():
            error.server = str(fields.get("server", ""))
        case _:
            pass
    return error


def _problem(body: bytes) -> dict[str, Any] | None:
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
    return problem if "code" in problem else None


def _not_ours(status: int, url: str) -> ArbeError:
    if status in {502, 503, 504}:
        return errors.Unavailable(f"The API at {url}", cause=f"HTTP {status} from a proxy")
    return UnexpectedAnswer(
        f"{url} answered HTTP {status}, and not as an arbe API does.",
        next_step="Check the address: ARBE_URL or --url.",
        status=status,
    )
