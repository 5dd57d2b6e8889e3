"""Say how the whole stands: servers, workers, backlog, sweeps, and the caller's threads.

Read only. A part whose server is away is left out, the rest is told. Of other houses nothing is
read but what all share: numbers and ids of workers, lanes and sweeps.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Final, TypeVar

import anyio

from dispatch import queues, transport
from dispatch.errors import Unavailable
from dispatch.models.diagnosis import AgentSeen, Sight, verdicts
from dispatch.models.diagnosis.fleet import FleetDiagnosis, Seen
from dispatch.models.diagnosis.servers import BrokerSeen, PostgresSeen, RedisSeen, Servers
from dispatch.models.houses import Caller
from dispatch.operations import unsettled
from dispatch.operations.record import Record
from dispatch.stores.postgres import agents, engine, server
from dispatch.streams import fleet as shared
from dispatch.streams import lanes
from dispatch.task_names import PRODUCERS_QUEUE, SWEEPS_QUEUE, TURNS_QUEUE

_PATIENCE_SECONDS: Final = 5.0
"""One part is waited for this long; several are asked at once."""
_MAX_AGENTS: Final = 200
_SHARED_QUEUES: Final = (TURNS_QUEUE, PRODUCERS_QUEUE, SWEEPS_QUEUE)
Part = TypeVar("Part")


async def diagnose_fleet(
    record: Record, who: Caller, *, cursor: str | None = None, limit: int | None = None
) -> FleetDiagnosis:
    """Judge the whole, and list one page of the house's threads that need a look.

    Raises: Invalid (cursor, limit).
    """
    wanted = unsettled.page_of(cursor, limit, record.settings)
    known, redis, postgres = await asyncio.gather(
        _asked(_agents(record, who)),
        _asked(shared.read_server(record.connection)),
        _asked(_postgres(record)),
    )
    seen_agents = known or {}
    servers = Servers(
        redis=redis or RedisSeen(answer="down"),
        postgres=postgres or PostgresSeen(answer="down"),
        broker=await _broker(record, seen_agents),
    )
    if redis is None:
        return verdicts.judge(Seen(servers=servers))
    # The rows before their states: one read after may know of more than the state did.
    chosen = await _asked(unsettled.rows(record, who)) if postgres is not None else None
    sight, backlog, sweeps = await asyncio.gather(
        _asked(_sight(record, seen_agents, broker_answers=servers.broker.answer == "up")),
        _asked(shared.backlog(record.connection)),
        _asked(shared.list_sweeps(record.connection)),
    )
    threads = None
    if chosen is not None and sight is not None:
        threads = await _asked(unsettled.judge(record, chosen, sight, wanted))
    return verdicts.judge(
        Seen(servers=servers, sight=sight, backlog=backlog, sweeps=sweeps, threads=threads)
    )


async def _asked(question: Awaitable[Part]) -> Part | None:
    """Return a part, or None if its server does not answer in time."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await question
    except (Unavailable, TimeoutError):
        return None


async def _agents(record: Record, who: Caller) -> Mapping[str, AgentSeen]:
    async with engine.as_member(record.members, who.member_id) as connection:
        found = await agents.list(connection, house_id=who.house_id, limit=_MAX_AGENTS)
    return {
        str(agent.id): AgentSeen(agent.handle, agents.queue_of(agent.config)) for agent in found
    }


async def _postgres(record: Record) -> PostgresSeen:
    async with engine.as_nobody(record.members) as connection:
        return await server.read_server(connection)


async def _broker(record: Record, seen_agents: Mapping[str, AgentSeen]) -> BrokerSeen:
    names = dict.fromkeys((*_SHARED_QUEUES, *(each.queue for each in seen_agents.values())))
    found = await _asked(
        anyio.to_thread.run_sync(queues.measure, record.settings, names, abandon_on_cancel=True)
    )
    return BrokerSeen(
        answer="down" if found is None else "up",
        kind="redis" if transport.uses_redis(record.settings) else "rabbitmq",
        queues=found or (),
    )


async def _sight(
    record: Record, seen_agents: Mapping[str, AgentSeen], *, broker_answers: bool
) -> Sight:
    workers, now_ms = await asyncio.gather(
        shared.list_workers(record.connection), lanes.now_ms(record.connection)
    )
    return Sight(
        now_ms=now_ms,
        patience=record.settings,
        workers=workers,
        agents=seen_agents,
        broker_answers=broker_answers,
    )
