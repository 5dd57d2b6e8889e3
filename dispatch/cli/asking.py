"""How a transcript tells what a turn asks people, and what they answered."""

from dispatch.cli import rows
from dispatch.payloads import signals


def request(asked: signals.PermissionRequested, *, who: str, call: str, thread: str) -> str:
    """Return a question with the commands that answer it. Args: call: how the call reads."""
    place = f"{thread} {asked.permission_id}"
    refusal = f"arbe permission deny {place}"
    grant = f"arbe permission grant {place}"
    wish = "asks for permission"
    if asked.kind == "output":
        wish, grant = "waits for what comes of", f"{grant} --output -"
    default = "granted" if asked.default == "grant" else "denied"
    return (
        f"? {who} {wish}: {call}\n  {grant}\n  {refusal}\n"
        f"  without an answer by {rows.moment(asked.deadline)} it is {default}"
    )


def news(payload: signals.Signal) -> str | None:
    """Return how an answer or a wait reads; None for other signals."""
    match payload:
        case signals.PermissionGranted() | signals.PermissionDenied():
            word = _answer(payload)
            by = f" by {payload.by.name or payload.by.kind}" if payload.by else ""
            return f"{word}{by}: {payload.message}" if payload.message else f"{word}{by}"
        case signals.PermissionExpired(default=default):
            word = "granted" if default == "grant" else "denied"
            return f"nobody answered in time: {word}"
        case signals.Waiting():
            return "the turn waits, without a worker"
        case signals.Resumed():
            return "all is answered; a worker takes the turn up again"
        case _:
            return None


def _answer(told: signals.PermissionGranted | signals.PermissionDenied) -> str:
    if isinstance(told, signals.PermissionDenied):
        return "denied"
    if told.output is None:
        return "granted"
    return "what came of it, an error, given" if told.is_error else "what came of it, given"
