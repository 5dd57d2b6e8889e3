"""Tasks that agents give to agents: how one begins, and how its end comes to whoever waits.

A task is a thread below the one whose call gave it. The thread is made first, under its call,
then the call's turn asks on its own stream and waits (`streams.runs.ask`). So whoever repeats
the call finds the same task; and a task never ends unheard: its worker tells the parent, else
whoever brings its row up to date, else the sweep that looks at the waiting turn.

Not guaranteed: one task for a call, if its first was deleted, or if nobody came back to the
call within `idempotency_seconds`.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec
from msgspec.structs import replace

from dispatch.errors import Forbidden, Gone, Invalid, NotFound, Unavailable
from dispatch.ids import AgentId, DispatchId, ThreadId
from dispatch.models import delegations as tasks
from dispatch.models.delegations import NewTask, Task
from dispatch.models.houses import Agent
from dispatch.models.state import Ask
from dispatch.models.threads import Listener, Thread, ThreadAccess
from dispatch.operations import answers, narrate, post_entry
from dispatch.operations.post_entry import Chain, Draft
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author, Delegator
from dispatch.payloads.signals import Cancelled, Completed, DelegationEnded, Failed
from dispatch.stores.postgres import agents, delegations, engine, threads
from dispatch.streams import entries, lanes
from dispatch.streams import threads as streams
from dispatch.task_names import TURNS_QUEUE
from dispatch.transport import Hint


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call that gives a task, and whose."""

    agent: Agent
    thread_id: ThreadId
    dispatch_id: DispatchId
    call_id: str
    handle: str
    """Who shall take it, without `@`."""
    text: str
    name: str | None = None
    max_depth: int


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A task that somebody works at."""

    thread_id: ThreadId
    dispatch_id: DispatchId
    agent_id: AgentId

    @property
    def id(self) -> str:
        """Return the task's name on the stream of whoever gave it."""
        return tasks.delegation_id(self.thread_id, self.dispatch_id)


async def begin(record: Record, call: Call) -> Begun:
    """Make the thread of a call's task and wake its agent there; again, it is the same one.

    Raises: NotFound (no such agent), Forbidden (it is never woken), Invalid (too deep, or what
        cannot stand as an entry), Gone, Unavailable.
    """
    draft = Draft(call.text, when_busy="enqueue")
    post_entry.check(draft, record.settings)
    thread, taker = await _make(record, call)
    by = Author("agent", str(call.agent.id), call.agent.handle)
    await narrate.birth(record, thread.id, by=by, name=thread.name)
    accepted = await post_entry.accept(
        record,
        taker.access,
        draft,
        by=by,
        key=f"delegate:{call.dispatch_id}:{call.call_id}",
        chain=Chain(
            delegated_by=Delegator(str(call.thread_id), call.dispatch_id, call.call_id)
        ),
        only=taker.listener,
    )
    [(dispatch_id, agent_id)] = accepted.dispatches
    return Begun(thread_id=thread.id, dispatch_id=dispatch_id, agent_id=agent_id)


class _Taker(msgspec.Struct, frozen=True):
    access: ThreadAccess
    listener: Listener


async def _make(record: Record, call: Call) -> tuple[Thread, _Taker]:
    async with engine.as_worker(record.projector) as connection:
        found = await agents.find_by_handle(
            connection, house_id=call.agent.house_id, handle=call.handle
        )
        if found is None:
            raise NotFound("agent", f"@{call.handle}", next_step=_WHO)
        if found.trigger_mode == "never":
            raise Forbidden(
                f"@{call.handle} takes no tasks: its trigger mode is `never`.", next_step=_WHO
            )
        depth = await delegations.depth(connection, thread_id=call.thread_id)
        if depth >= call.max_depth:
            raise Invalid(
                f"This thread is {depth} tasks deep; at most {call.max_depth} may hang below "
                "each other (ARBE_MAX_DELEGATION_DEPTH, `maxDelegationDepth`).",
                next_step="Do it yourself, or say that it cannot be done.",
            )
        parent = await threads.get(connection, thread_id=call.thread_id)
        thread = await delegations.insert(
            connection,
            new=NewTask(
                house_id=parent.house_id,
                parent_thread_id=parent.id,
                parent_dispatch_id=call.dispatch_id,
                parent_call_id=tasks.call_key(call.call_id),
                name=_name(call, record.settings.max_name_characters),
                environment_id=parent.environment_id,
            ),
        )
        access = await threads.access(connection, thread_id=thread.id, defaults=record.settings)
    listener = next(each for each in access.listeners if each.agent_id == found.id)
    return thread, _Taker(access, listener)


_WHO: Final = "Give the handle of an agent of this house."


def _name(call: Call, max_characters: int) -> str:
    line = " ".join((call.name or call.text).split())
    return line[:max_characters] or call.handle


async def is_wanted(record: Record, by: Delegator) -> bool:
    """Tell whether the turn that gave a task may still want it.

    Whoever ends that turn looks for its tasks after its end, and a task looks here after its
    birth: one of the two sees the other.
    """
    thread_id, dispatch_id = ThreadId(UUID(by.thread_id)), DispatchId(by.dispatch_id)
    found = await entries.dispatch_status(record.connection, thread_id, dispatch_id)
    return found == "open"


async def tell_parents(record: Record, ended: Sequence[Task]) -> None:
    """Let whoever gave these tasks hear what became of those that have ended.

    Raises: Unavailable; twice is as once.
    """
    for each in ended:
        await look_at(
            record, each.parent_thread_id, each.parent_dispatch_id, only=each.thread_id
        )


async def look_at(
    record: Record,
    thread_id: ThreadId,
    dispatch_id: DispatchId,
    *,
    only: ThreadId | None = None,
) -> int:
    """Answer what a turn waits for where it has ended; tell how many are still open.

    Args: only: the one thread that may have ended.
    Raises: Unavailable; twice is as once.
    """
    asks = await entries.list_asks(record.connection, thread_id, dispatch_id)
    count = 0
    for ask in asks:
        if ask.kind != "delegation":
            continue
        task_id, _ = tasks.place_of(ask.id)
        if only not in {None, task_id}:
            continue
        ended = await _ended(record, dispatch_id, ask)
        if ended is None:
            count += 1
        else:
            await _answer(record, thread_id, ended)
    return count


async def give_up(record: Record, thread_id: ThreadId) -> None:
    """Owe the end of a task that nobody waits for any more.

    Raises: Unavailable.
    """
    now_ms = await lanes.now_ms(record.connection)
    async with engine.as_worker(record.projector) as connection:
        row = await threads.find(connection, thread_id=thread_id)
        if row is not None:
            asked = tasks.cancellation(row.id, row.house_id, before_ms=now_ms)
            await delegations.cancel(connection, asked=[asked])


async def _ended(record: Record, asking: DispatchId, ask: Ask) -> DelegationEnded | None:
    """Return what became of a task; None: somebody works at it."""
    thread_id, dispatch_id = tasks.place_of(ask.id)
    told = DelegationEnded(delegation_id=ask.id, dispatch_id=asking, status="failed")
    match await entries.dispatch_status(record.connection, thread_id, dispatch_id):
        case "open":
            return None
        case "deleted":
            return replace(told, reason="gone", message="Its thread was deleted.")
        case _:
            pass
    said = await answers.read(record, thread_id, dispatch_id)
    match said.story.end if said is not None else None:
        case Completed(usage=usage):
            text = _tail(said.text if said is not None else "", record.settings.max_text_bytes)
            return replace(told, status="completed", text=text, usage=usage)
        case Failed(reason=reason, message=message, usage=usage):
            return replace(told, reason=reason, message=message, usage=usage)
        case Cancelled(reason=reason, message=message, usage=usage):
            told = replace(told, status="cancelled", usage=usage)
            return replace(told, reason=reason, message=message)
        case _:
            why = "Its thread does not tell how it ended."
            return replace(told, reason="lost", message=why)


def _tail(text: str, max_bytes: int) -> str:
    raw = text.encode("utf-8", "replace")
    return raw[-max_bytes:].decode("utf-8", "ignore")


async def _answer(record: Record, thread_id: ThreadId, ended: DelegationEnded) -> None:
    try:
        lane = await streams.answer(
            record.scripts,
            thread_id,
            ended,
            redeliver_after_seconds=record.settings.redeliver_after_seconds,
        )
    except (Gone, NotFound):
        return  # with the thread, nobody waits
    if isinstance(lane, str):
        return
    try:
        async with engine.as_worker(record.projector) as connection:
            queues = await agents.queues(connection, agent_ids=[lane])
    except Unavailable:
        queues = {}
    record.transport.ring([Hint(thread_id, lane, queues.get(lane, TURNS_QUEUE))])
