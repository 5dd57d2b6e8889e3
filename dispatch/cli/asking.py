"""How a transcript tells what a turn asks people, and what they answered."""

from dispatch.cli import rows
from dispatch.payloads import signals
from dispatch.payloads.chat import Author


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
        case signals.PermissionGranted(output=None):
            return f"granted{_by(payload.by)}{_why(payload.message)}"
        case signals.PermissionGranted():
            word = "an error" if payload.is_error else "the output"
            return f"{word} came{_by(payload.by)}{_why(payload.message)}"
        case signals.PermissionDenied():
            return f"denied{_by(payload.by)}{_why(payload.message)}"
        case signals.PermissionExpired(default=default):
            word = "granted" if default == "grant" else "denied"
            return f"nobody answered in time: {word}"
        case signals.Waiting():
            return "the turn waits for answers, without a worker"
        case signals.Resumed():
            return "all is answered; a worker takes the turn up again"
        case _:
            return None


def _by(author: Author | None) -> str:
    return f" by {author.name or author.kind}" if author else ""


def _why(message: str | None) -> str:
    return f": {message}" if message else ""
