"""Everything that can go wrong, as one small tree. Fields, not sentences.

    ArbeError
    ├── NotFound           the thing does not exist, or the caller may not see it (same answer)
    ├── Gone               the thread was deleted, or has expired
    ├── Invalid            the request cannot be understood or breaks a limit of its own
    │   └── AmbiguousRef   a prefix that fits several things
    ├── Unauthenticated    no token, or not a living one
    ├── Forbidden          a member without that right
    ├── Conflict           the request contradicts what is there (key reused, status, full …)
    ├── TooBusy            a limit that passes: queue depth, followers
    ├── TooLarge           a body, text or payload beyond its limit
    ├── Fenced             a run writes after it lost its lane; it must stop and say no more
    ├── SandboxDied        a command's sandbox is gone; the run ends with it
    └── Unavailable        Postgres, Redis, the broker or the API cannot be reached just now

Each has a stable `code`; `api/problems.py` alone knows HTTP statuses.
"""

from typing import ClassVar


class ArbeError(Exception):
    """Base: `code` is stable, `what` says what happened, `next_step` what to do about it."""

    code: ClassVar[str] = "error"

    def __init__(self, what: str, *, next_step: str = "", **fields: str | float | None) -> None:
        self.what = what
        self.next_step = next_step
        self.fields = fields
        super().__init__(what if not next_step else f"{what} {next_step}")


class NotFound(ArbeError):
    """No such thing for this caller; whether it exists for others is not told."""

    code = "not_found"

    def __init__(self, kind: str, ref: str, *, next_step: str = "") -> None:
        super().__init__(
            f"No {kind} '{ref}' in this house.",
            next_step=next_step or f"List what is there with `arbe {kind} list`.",
            kind=kind,
            ref=ref,
        )


class Gone(ArbeError):
    """The thread was deleted, and its stream will not come back; or its time is over."""

    code = "gone"

    def __init__(self, thread_id: str, *, expired: bool = False) -> None:
        super().__init__(
            f"Thread {thread_id} {'has expired' if expired else 'was deleted'}.",
            next_step="Create a new thread with `arbe thread create`.",
            threadId=thread_id,
        )


class Invalid(ArbeError):
    """The request is wrong in itself; sending it again changes nothing."""

    code = "invalid"


class AmbiguousRef(Invalid):
    """A prefix fits several things."""

    code = "ambiguous_ref"

    def __init__(self, kind: str, ref: str, candidates: list[str]) -> None:
        super().__init__(
            f"'{ref}' fits several: {', '.join(candidates[:5])}.",
            next_step=f"Give more characters of the {kind}'s id.",
            kind=kind,
            ref=ref,
        )


class Unauthenticated(ArbeError):
    """No token, an unknown, wrong, expired or revoked one: one answer for all."""

    code = "unauthenticated"

    def __init__(self) -> None:
        super().__init__(
            "This needs a valid API token.",
            next_step="Send `Authorization: Bearer <token>`; set ARBE_TOKEN for the CLI.",
        )


class Forbidden(ArbeError):
    """The caller is known but may not do this."""

    code = "forbidden"


class Conflict(ArbeError):
    """The request contradicts the present state. `reason` is stable."""

    code = "conflict"

    def __init__(
        self, reason: str, what: str, *, next_step: str = "", **fields: str | float | None
    ) -> None:
        self.reason = reason
        super().__init__(what, next_step=next_step, reason=reason, **fields)


class TooBusy(ArbeError):
    """A limit that passes by itself; try again after `retry_after_seconds`."""

    code = "too_busy"

    def __init__(
        self, what: str, *, retry_after_seconds: float, **fields: str | float | None
    ) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(
            what,
            next_step=f"Try again in {retry_after_seconds:g} s.",
            retryAfterSeconds=retry_after_seconds,
            **fields,
        )


class TooLarge(ArbeError):
    """Something is beyond its named limit."""

    code = "too_large"

    def __init__(self, what: str, *, limit_bytes: int, setting: str) -> None:
        super().__init__(
            f"{what} is larger than {limit_bytes} bytes.",
            next_step=f"Send less, or raise {setting}.",
            limitBytes=limit_bytes,
            setting=setting,
        )


class Fenced(ArbeError):
    """The run does not hold its lane (any more): reaped, ended, or its thread is gone."""

    code = "fenced"

    def __init__(self, dispatch_id: str, answer: str) -> None:
        self.answer = answer
        super().__init__(
            f"The run of dispatch {dispatch_id} no longer holds its lane ({answer}).",
            next_step="Stop the run; what it did after is not on the stream.",
            dispatchId=dispatch_id,
        )


class SandboxDied(ArbeError):
    """A command's sandbox is gone, before it or under it; the run ends with it."""

    code = "sandbox_died"

    def __init__(self, sandbox_id: str, *, cause: str) -> None:
        super().__init__(
            f"Sandbox {sandbox_id} died ({cause}).",
            next_step="Post again: the next turn gets a sandbox that lives.",
            sandboxId=sandbox_id,
        )


class Unavailable(ArbeError):
    """A server we need does not answer. Nothing was half done; the call may be repeated."""

    code = "unavailable"

    def __init__(self, server: str, *, cause: str = "", next_step: str = "") -> None:
        self.server = server
        super().__init__(
            f"{server} cannot be reached{f' ({cause})' if cause else ''}.",
            next_step=next_step
            or "Nothing was lost or half done: repeat the same call in a moment.",
            server=server,
        )
