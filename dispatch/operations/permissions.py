"""What turns asked people: which questions are open, and their answers."""

import asyncio
from typing import Final, Literal
from uuid import UUID

import msgspec

from dispatch.errors import Conflict, Invalid, NotFound
from dispatch.ids import AgentId, ThreadId
from dispatch.models import permissions
from dispatch.models.houses import Caller
from dispatch.models.permissions import Question
from dispatch.models.state import from_fields
from dispatch.operations import authorize, narrate
from dispatch.operations.record import Record
from dispatch.payloads.signals import PermissionDenied, PermissionGranted
from dispatch.stores.postgres import agents, engine, unsettled_threads
from dispatch.streams import entries
from dispatch.streams import threads as streams
from dispatch.task_names import TURNS_QUEUE
from dispatch.transport import Hint

_MAX_THREADS: Final = 500
"""Running threads of a house that are looked at, those made first."""
_PERMISSION: Final = b'"signal.permission.'
"""What every entry about a question holds."""
Decision = Literal["grant", "deny"]


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """One question, and where it was asked."""

    thread_id: ThreadId
    question: Question


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody decides. `output`: what came of a call that was theirs to make."""

    decision: Decision
    message: str | None = None
    output: str | None = None
    is_error: bool = False


async def list_open(record: Record, who: Caller, thread_id: ThreadId) -> tuple[Permission, ...]:
    """Return the questions of a thread that nobody has answered, the oldest first.

    Raises: NotFound, Gone, Unavailable.
    """
    await authorize.thread(record, who, thread_id)
    return await _open(record, thread_id)


async def list_in_house(record: Record, who: Caller) -> tuple[Permission, ...]:
    """Return the open questions of the threads that run, thread by thread; at most 500 threads.

    Raises: Unavailable.
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        found = await unsettled_threads.list_running(
            connection, house_id=who.house_id, limit=_MAX_THREADS
        )
    each = await asyncio.gather(*(_open(record, row.id) for row in found))
    return tuple(permission for some in each for permission in some)


async def answer(
    record: Record, who: Caller, thread_id: ThreadId, permission_id: str, reply: Reply
) -> Question:
    """Answer a question; the turn goes on with it, in this run or in another.

    Promise: a question has one answer, and it stands on the stream when this returns. The same
    answer again is answered alike.
    Raises: NotFound, Gone, Unavailable; Conflict (`already_answered`, `turn_ended`); Invalid,
        for an output nobody asked for, or none where one was.
    """
    await authorize.thread(record, who, thread_id)
    question = await _find(record, thread_id, permission_id)
    _check(question, reply)
    told = _told(question, reply, who)
    lane = await streams.answer(
        record.scripts,
        thread_id,
        told,
        redeliver_after_seconds=record.settings.redeliver_after_seconds,
    )
    if lane == "none":
        return _as_before(await _find(record, thread_id, permission_id), reply)
    if isinstance(lane, UUID):
        await _ring(record, thread_id, lane)
    return Question(question.asked, told)


async def _open(record: Record, thread_id: ThreadId) -> tuple[Permission, ...]:
    fields = await entries.state_fields(record.connection, thread_id)
    asks = [
        ask
        for each in from_fields(fields).dispatches.values()
        for ask in each.asks
        if ask.kind != "delegation"
    ]
    if not asks:
        return ()
    known = await _questions(record, thread_id)
    return tuple(
        Permission(thread_id=thread_id, question=known[ask.id])
        for ask in asks
        if ask.id in known and known[ask.id].answer is None
    )


async def _questions(record: Record, thread_id: ThreadId) -> dict[str, Question]:
    pages = record.entries.pages(thread_id, size=record.settings.read_chunk_entries)
    return permissions.questions(
        [each async for page in pages for each in page if _PERMISSION in each.raw]
    )


async def _find(record: Record, thread_id: ThreadId, permission_id: str) -> Question:
    await entries.require_open(record.connection, thread_id)
    found = (await _questions(record, thread_id)).get(permission_id)
    if found is None:
        raise NotFound(
            "permission",
            permission_id[:120],
            next_step="See what is asked with `arbe permission list`.",
        )
    return found


def _check(question: Question, reply: Reply) -> None:
    wants_output = question.asked.kind == "output"
    if reply.decision == "deny" and reply.output is not None:
        raise Invalid(
            "A refusal has no `output`.",
            next_step="Say why in `message`, or grant with `output` and `isError`.",
        )
    if reply.is_error and reply.output is None:
        raise Invalid(
            "`isError` tells of an `output`, and there is none.",
            next_step="Send what went wrong as `output`.",
        )
    if reply.decision == "grant" and wants_output != (reply.output is not None):
        word = "needs" if wants_output else "takes no"
        raise Invalid(
            f"The question about '{question.asked.tool_name}' {word} `output`.",
            next_step="`output` is what came of a call that your program makes.",
        )


def _told(
    question: Question, reply: Reply, who: Caller
) -> PermissionGranted | PermissionDenied:
    asked, by = question.asked, narrate.author(who)
    if reply.decision == "deny":
        return PermissionDenied(
            permission_id=asked.permission_id,
            dispatch_id=asked.dispatch_id,
            by=by,
            message=reply.message,
        )
    return PermissionGranted(
        permission_id=asked.permission_id,
        dispatch_id=asked.dispatch_id,
        by=by,
        message=reply.message,
        output=reply.output,
        is_error=reply.is_error,
    )


def _as_before(question: Question, reply: Reply) -> Question:
    """Return a question that had been answered alike."""
    match question.answer:
        case None:
            raise Conflict(
                "turn_ended",
                "The turn that asked this has ended.",
                next_step="Nothing is left to decide.",
            )
        case PermissionGranted(output=output, is_error=is_error) if reply.decision == "grant":
            if (output, is_error) == (reply.output, reply.is_error):
                return question
        case PermissionDenied() if reply.decision == "deny":
            return question
        case _:
            pass
    raise Conflict(
        "already_answered",
        "This question has another answer.",
        next_step="Read it in the thread: `arbe thread entries list`.",
    )


async def _ring(record: Record, thread_id: ThreadId, lane: AgentId) -> None:
    async with engine.as_worker(record.projector) as connection:
        queues = await agents.queues(connection, agent_ids=[lane])
    record.transport.ring([Hint(thread_id, lane, queues.get(lane, TURNS_QUEUE))])
