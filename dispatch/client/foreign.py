"""Any ARC client behind one face: ours, the protocol's own SDK, a client of your own.

Nothing here is imported from them: a client is what has `.chat.start`, `.chat.message` and
`.chat.end`, its errors are told by what they carry.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any, Final, Protocol, cast

from dispatch.client import arc_answers
from dispatch.client.arc_answers import STREAM_FAILED, ARCEvent, ArcRefusal, ARCResponse
from dispatch.client.connection import Json
from dispatch.errors import ArbeError, Unavailable

_NETWORK: Final = frozenset({"NetworkError", "ConnectionError", "TimeoutError", "SSLError"})
_BROKEN: Final = ArcRefusal(STREAM_FAILED, "The answer broke off; the turn may go on.")
_ANY: Final = "ARCException"
"""The SDK's base of all errors; some carry no code."""


class ChatCalls(Protocol):
    """The part of an ARC client that chats."""

    async def start(self, *, target_agent: str, initial_message: Json, **more: Any) -> Any:
        """Open a chat."""

    async def message(
        self, *, target_agent: str, chat_id: str, message: Json, **more: Any
    ) -> Any:
        """Say something in a chat."""

    async def end(self, *, target_agent: str, chat_id: str, **more: Any) -> Any:
        """Close a chat."""


class ArcClient(Protocol):
    """What a `ThreadManager` talks through."""

    @property
    def chat(self) -> ChatCalls:
        """Return the calls."""
        ...


async def answer(call: Awaitable[Any]) -> ARCResponse:
    """Wait for an answer.

    Raises: what the client said, as one of ours; an answer that holds an error is raised too.
    """
    try:
        given = await call
    except Exception as error:
        refusal = _translated(error)
        if refusal is None or refusal is error:
            raise
        raise refusal from error
    found = ARCResponse(cast("Json", given if isinstance(given, dict) else given.to_dict()))
    if found.error is not None:
        raise arc_answers.refusal_of(found.error)
    return found


async def events(call: Awaitable[Any]) -> AsyncGenerator[ARCEvent]:
    """Yield the events of a streamed answer under our names; `done` or `error` is the last.

    Promise: a refusal becomes an `error`, however the client tells it; so does a stream that
    ends without either, or a piece of an answer would pass for the whole.
    Raises: as `answer`, but no ArcRefusal.
    """
    chat_id: str | None = None
    was_heard = False
    try:
        async with aclosing(_generator(await call)) as given:
            async for each in given:
                event = ARCEvent.of(each)
                chat_id = event.chat_id or chat_id
                was_heard = True
                yield event
                if event.is_last:
                    return
    except Exception as error:
        refusal = _translated(error)
        if isinstance(refusal, Unavailable) and was_heard:
            refusal = _BROKEN
        if refusal is None or (refusal is error and not isinstance(error, ArcRefusal)):
            raise
        if not isinstance(refusal, ArcRefusal):
            raise refusal from error
    else:
        refusal = _BROKEN
    yield ARCEvent.refused(refusal, chat_id=chat_id)


async def _generator(stream: AsyncIterator[Any]) -> AsyncGenerator[Any]:
    """Let a client's stream be closed whatever kind of iterator it is."""
    try:
        async for each in stream:
            yield each
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _translated(error: Exception) -> ArbeError | None:
    """Return our error for a client's, ours as it is; None for a mistake in code."""
    if isinstance(error, ArbeError):
        return error
    code = _code(error)
    names = {kind.__name__ for kind in type(error).__mro__}
    if code is None and (isinstance(error, OSError) or names & _NETWORK):
        return Unavailable("The ARC server", cause=str(error) or type(error).__name__)
    if code is None and _ANY not in names:
        return None
    details = getattr(error, "details", None) or getattr(error, "data", None)
    return arc_answers.made(code or 0, str(error), details)


def _code(error: Exception) -> int | None:
    for name in ("code", "error_code"):
        given = getattr(error, name, None)
        try:
            return int(given) if given is not None else None
        except (TypeError, ValueError):
            continue
    return None
