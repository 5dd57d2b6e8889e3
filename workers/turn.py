"""A turn, from claim to finish: the loop a hint starts.

    claim ─▶ witness on the row ─▶ agent ─▶ terminal ─▶ whom it names ─▶ row ─▶ claim again …

A death after any step is harmless: the lane stands in the due index until its terminal stands.
"""

import asyncio
from typing import Any, Final, assert_never, cast

from dispatch import log, payloads
from dispatch.errors import ArbeError, Fenced, Invalid, Unavailable
from dispatch.ids import AgentId, entry_of, new_run_id
from dispatch.models import providers
from dispatch.models.houses import Agent
from dispatch.operations import delegations, pass_on, project
from dispatch.operations.record import Record
from dispatch.payloads.chat import Chat
from dispatch.payloads.signals import Cancelled as CancelledSignal
from dispatch.payloads.signals import Checkpoint, Terminal
from dispatch.payloads.signals import Completed as CompletedSignal
from dispatch.payloads.signals import Failed as FailedSignal
from dispatch.stores.postgres import agents, engine
from dispatch.streams import lanes, runs
from dispatch.streams.lanes import LaneRef
from dispatch.streams.replies import ReplyRef
from dispatch.streams.runs import Claimed
from workers import tools
from workers.agents import TurnRequest, registry
from workers.hands import TurnHands
from workers.heartbeat import Heartbeats
from workers.outcomes import (
    Cancelled,
    Completed,
    Failed,
    Interrupted,
    LeaseLost,
    Outcome,
    Waiting,
)
from workers.writer import RunWriter

_log = log.get(__name__)
_UNWIND_SECONDS: Final = 5.0
"""A stopped agent may clean up for this long; less than the cancel grace."""


async def run_lane(record: Record, heartbeats: Heartbeats, ref: LaneRef) -> int:
    """Run the lane's dispatches, one after the other, until none is left for us.

    Promise: at most one open run per lane, whoever else was hinted; returns how many ran here.
    """
    count = 0
    while not heartbeats.draining and await _rows_answer(record):
        claimed = await _claim(record, heartbeats, ref)
        if claimed is None:
            break
        count += 1
        if not await _run(record, heartbeats, claimed):
            break
    return count


async def _rows_answer(record: Record) -> bool:
    """Tell whether a run could have its witness; asks only after Postgres was away.

    Without this an outage would claim and release each waiting dispatch again and again, and
    tell its followers so each time.
    """
    if record.rows_answered:
        return True
    try:
        await engine.check(record.projector)
    except Unavailable:
        return False
    record.rows_answered = True
    return True


async def _claim(record: Record, heartbeats: Heartbeats, ref: LaneRef) -> Claimed | None:
    run_id = new_run_id()
    for _ in range(2):
        answer = await runs.claim(
            record.scripts,
            ref.thread_id,
            ref.lane,
            run_id=run_id,
            worker_id=heartbeats.worker_id,
            lease_seconds=record.settings.lease_seconds,
        )
        if isinstance(answer, Claimed):
            return answer
        if answer.reason != "expired":
            return None
        # The holder's lease is over and nobody has looked yet: we do, then ask again.
        await lanes.expire(record.scripts, ref, settings=record.settings)
        await project.project(record, ref.thread_id)
    return None


async def _run(record: Record, heartbeats: Heartbeats, claimed: Claimed) -> bool:
    """Take one claimed turn; tell whether the lane may be asked for the next."""
    fence = claimed.fence
    writer = RunWriter(
        record.scripts,
        record.connection,
        fence=fence,
        started_id=claimed.started_id,
        worker_id=heartbeats.worker_id,
        settings=record.settings,
    )
    fields = {"thread_id": str(fence.thread_id), "dispatch_id": fence.dispatch_id}
    _log.info("run.claimed", attempt=fence.attempt, run_id=fence.run_id, **fields)
    # The beat goes on until the end is recorded: no reaper may come between.
    with heartbeats.tracking(writer):
        outcome = await _outcome(record, writer, claimed)
        recorded = await _record_outcome(writer, outcome)
    _log.info("run.ended", outcome=type(outcome).__name__, recorded=recorded, **fields)
    if recorded and isinstance(outcome, Completed) and writer.may_name_agents:
        await _pass_on(record, ReplyRef(fence.thread_id, fence.dispatch_id))
    try:
        await project.project(record, fence.thread_id)
    except Unavailable as error:
        _log.warning("row.lags", cause=error.server, **fields)
    return recorded and not isinstance(outcome, Interrupted)


async def _pass_on(record: Record, ref: ReplyRef) -> None:
    """Let the answer wake whom it names; if that fails now, a sweep finds its note."""
    try:
        await pass_on.pass_on(record, ref)
    except Unavailable as error:
        fields = {"thread_id": str(ref.thread_id), "dispatch_id": ref.dispatch_id}
        _log.warning("reply.lags", cause=error.server, **fields)


async def _outcome(record: Record, writer: RunWriter, claimed: Claimed) -> Outcome:
    try:
        entry = _entry(claimed)
        if entry.delegated_by is not None and not await delegations.is_wanted(
            record, entry.delegated_by
        ):
            return Cancelled("cascade")
        request, handles = await _request(record, claimed, entry)
    except Unavailable as error:
        # Without its witness on the row a run may do nothing visible.
        record.rows_answered = False
        return Interrupted(why=f"{error.server} unavailable")
    except ArbeError as error:
        return Failed(reason=error.code, message=str(error))
    hands = TurnHands(record, writer, request, handles)
    agent = asyncio.create_task(_take_turn(request, hands))
    ends: set[asyncio.Future[Outcome]] = {
        agent,
        cast("asyncio.Future[Outcome]", writer.stopped),
    }
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if not agent.done():
        agent.cancel()
        await asyncio.wait({agent}, timeout=_UNWIND_SECONDS)
    if writer.stopped.done():
        return writer.stopped.result()
    return agent.result()


def _entry(claimed: Claimed) -> Chat:
    """Return the entry that asks for the turn. Raises: Invalid."""
    entry = payloads.decode(claimed.entry)
    if not isinstance(entry, Chat):
        raise Invalid("The dispatch's entry is not a chat entry.")
    return entry


async def _request(
    record: Record, claimed: Claimed, entry: Chat
) -> tuple[TurnRequest, dict[str, str]]:
    """Read what the turn needs, after the row has witnessed that the run started.

    Returns: also the handle of each agent of the house, by id.

    Raises: NotFound (the agent is gone), Invalid (its config, or the agent's key would go
    where it may not), Unavailable.
    """
    fence = claimed.fence
    (agent, handles), _ = await asyncio.gather(
        _agent(record, fence.lane), project.project(record, fence.thread_id)
    )
    providers.require_allowed(agent.config, record.settings)
    request = TurnRequest(
        thread_id=fence.thread_id,
        dispatch_id=fence.dispatch_id,
        attempt=fence.attempt,
        run_id=fence.run_id,
        agent=agent,
        entry_id=entry_of(fence.dispatch_id),
        text=entry.text,
        tools=tools.offered(agent),
        checkpoint=_checkpoint(claimed.checkpoint),
    )
    return request, handles


def _checkpoint(raw: bytes) -> dict[str, Any] | None:
    if not raw:
        return None
    found = payloads.decode(raw)
    return found.state if isinstance(found, Checkpoint) else None


async def _agent(record: Record, agent_id: AgentId) -> tuple[Agent, dict[str, str]]:
    # One transaction: when many turns begin at once, these are what they wait for.
    async with engine.as_worker(record.projector) as connection:
        agent = await agents.get(connection, agent_id=agent_id)
        return agent, await agents.handles(connection, house_id=agent.house_id)


async def _take_turn(request: TurnRequest, hands: TurnHands) -> Outcome:
    try:
        runner = await asyncio.to_thread(registry.find, request.agent.runner)
        return await runner(request, hands)
    except Fenced:
        return LeaseLost()
    except Exception as error:  # noqa: BLE001 - any code may be an agent
        # Whatever an agent's code does, its thread is told and the worker goes on.
        _log.exception("agent.failed", dispatch_id=request.dispatch_id)
        reason = error.code if isinstance(error, ArbeError) else "agent_error"
        message = log.scrub(f"{type(error).__name__}: {error}")
        return Failed(reason=reason, message=message, retryable=True)


async def _record_outcome(writer: RunWriter, outcome: Outcome) -> bool:
    """Write the ending; False if it is not ours to write, or could not be."""
    try:
        given_back = await _give_back(writer, outcome)
        if given_back in {"released", "retried", "waiting"}:
            return True
        terminal = _terminal(writer, _ending(given_back, outcome))
        if terminal is None:
            return False
        await writer.finish(terminal)
    except (Fenced, Unavailable) as error:
        _log.warning("run.end_unrecorded", cause=str(error))
        return False
    return True


def _ending(given_back: str, outcome: Outcome) -> Outcome:
    """Return how a turn ends that could not be given back."""
    if given_back == "cancelling":
        return Cancelled()
    is_parked = isinstance(outcome, Waiting)
    return Interrupted(why="what it did may not be done again") if is_parked else outcome


async def _give_back(writer: RunWriter, outcome: Outcome) -> str:
    """Let another attempt take the turn up, if it may; tell what became of that."""
    match outcome:
        case Interrupted():
            return await writer.release()
        case Waiting():
            waits = await writer.wait()
            # Answered in the last moment: another run goes on at once.
            return await writer.release() if waits == "answered" else waits
        case Failed(retryable=True, message=message):
            return await writer.retry(message)
        case _:
            return "ended"


def _terminal(writer: RunWriter, outcome: Outcome) -> Terminal | None:
    dispatch_id, run_id = writer.fence.dispatch_id, writer.fence.run_id
    match outcome:
        case Completed(usage=usage):
            return CompletedSignal(dispatch_id=dispatch_id, run_id=run_id, usage=usage)
        case Failed(reason=reason, message=message, usage=usage):
            return FailedSignal(
                dispatch_id=dispatch_id,
                run_id=run_id,
                reason=reason,
                message=message,
                usage=usage,
            )
        case Interrupted(why=why):
            return FailedSignal(
                dispatch_id=dispatch_id, run_id=run_id, reason="interrupted", message=why
            )
        case Cancelled(reason=reason):
            return CancelledSignal(dispatch_id=dispatch_id, run_id=run_id, reason=reason)
        case Waiting() | LeaseLost():
            return None
        case _:
            assert_never(outcome)
