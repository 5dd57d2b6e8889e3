"""Listen to a turn of an ARC chat on its thread's stream.

The turn does not depend on who listens: whoever leaves can listen again, and hears it again.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from dispatch.errors import ArbeError, Gone, NotFound
from dispatch.models.arc import ArcError, Code
from dispatch.models.arc_turns import ChatEvent, ChatTurn, Content, Done, Error, Hearing
from dispatch.operations import chats
from dispatch.operations.record import Record
from dispatch.streams.batches import Batch
from dispatch.streams.topics import Ending


async def events(
    record: Record, turn: ChatTurn, *, seconds: float | None = None
) -> AsyncGenerator[ChatEvent]:
    """Tell a turn from its beginning; the last event is `Done` or `Error`, and only that.

    Args: seconds: how long to listen; None: `arc_stream_seconds`. The turn goes on after.
    """
    hearing = Hearing(turn)
    if turn.dispatch_id is None:
        yield hearing.done("ACTIVE")
        return
    limit = record.settings.arc_stream_seconds if seconds is None else seconds
    until = asyncio.get_running_loop().time() + limit
    try:
        async with aclosing(_batches(record, turn, until=until)) as batches:
            async for batch in batches:
                for event in hearing.hear(batch.frames, up_to_date=batch.up_to_date):
                    yield await _told(record, turn, event)
                if hearing.is_over:
                    return
        yield hearing.over_time(limit)
    except ArcError as error:
        yield Error(error.number, str(error), hearing.place | error.details)
    except (NotFound, Gone):
        gone = _gone(turn)
        yield Error(gone.number, str(gone), hearing.place)
    except ArbeError as error:
        yield hearing.goes_on(Code.AGENT_NOT_AVAILABLE, str(error))


async def result(record: Record, turn: ChatTurn) -> dict[str, Any]:
    """Wait for a turn's end, `arc_wait_seconds` at most; return the chat with its `message`.

    Raises: ArcError.
    """
    seconds = record.settings.arc_wait_seconds
    async with aclosing(events(record, turn, seconds=seconds)) as told:
        async for event in told:
            match event:
                case Done(chat):
                    return chat
                case Error(code, message, details):
                    raise ArcError(Code(code), message, **details)
                case Content():
                    pass
    raise ArcError(Code.INTERNAL, "The turn has no end.")


async def _batches(record: Record, turn: ChatTurn, *, until: float) -> AsyncGenerator[Batch]:
    """Yield what comes after the message, as long as the caller may read it.

    Promise: a listener that is too slow for the ring goes on from where it was.
    """
    loop = asyncio.get_running_loop()
    every = record.settings.authorization_cache_seconds
    cursor = turn.entry_id
    while loop.time() < until:
        async with record.feed.follow(turn.thread_id, cursor) as follower:
            check_at = loop.time() + every
            ending: Ending | None = None
            while ending is None and loop.time() < until:
                answer = await follower.next(until=min(until, check_at))
                cursor = follower.cursor
                match answer:
                    case Batch():
                        yield answer
                    case Ending():
                        ending = answer
                    case None:
                        pass
                if loop.time() >= check_at:
                    check_at = loop.time() + every
                    await _require_right(record, turn)
        if ending is not None and ending is not Ending.LAGGING:
            raise _ended(ending, turn)


async def _told(record: Record, turn: ChatTurn, event: ChatEvent) -> ChatEvent:
    """Say of a turn that was cancelled with its chat that the chat is closed."""
    if not isinstance(event, Error) or event.code != Code.TASK_CANCELED:
        return event
    with suppress(ArbeError):
        chat = await record.chats.get_chat(chats.stored_id(turn.who, turn.chat_id))
        if chat["status"] == "CLOSED":
            return Error(Code.CHAT_CLOSED, "The chat was ended.", event.details)
    return event


async def _require_right(record: Record, turn: ChatTurn) -> None:
    if not await record.visible.sees(turn.who.member_id, turn.thread_id):
        raise _gone(turn)


def _ended(ending: Ending, turn: ChatTurn) -> ArcError:
    if ending is Ending.CLOSING:
        return ArcError(
            Code.AGENT_NOT_AVAILABLE,
            "This server is restarting; the turn goes on.",
            next_step=turn.read_on,
        )
    return _gone(turn)


def _gone(turn: ChatTurn) -> ArcError:
    return ArcError(Code.CHAT_NOT_FOUND, "The chat's thread is gone.", chatId=turn.chat_id)
