"""Prune over 100,000 rows of which 1,000 say `running` though their worker is long gone.

The floor does the same amount of raw work: it finds the rows, appends the two entries of each
ending in pipelines and updates the rows in one statement (of a table that is a copy).
"""

import asyncio
import time
from collections.abc import Sequence

import psycopg
from redis.asyncio import Redis

from dispatch import ids
from dispatch.ids import ThreadId
from dispatch.operations import project
from dispatch.operations import prune as pruning
from dispatch.operations.record import Record
from dispatch.streams import runs
from tests.bench import running
from tests.bench.figures import Goal, Row
from tests.bench.stage import Scale, Stage, System, tell
from tests.system.houses import Casa, found_casa

MAX_ROUNDS = 5
LEASE_SECONDS = 0.001
AT_ONCE = 100
ORPHANED = b'{"type":"signal.thread.pi_session_orphaned","reason":"orphaned"}'


def measure(stage: Stage, scale: Scale) -> list[Row]:
    with stage.system("prune") as system:
        return asyncio.run(_measure(system, scale))


async def _measure(system: System, scale: Scale) -> list[Row]:
    rows, stranded = scale.of(100_000, 500), scale.of(1_000, 20)
    row = Row(
        f"prune, {rows:,} rows, {stranded:,} stranded",
        "s",
        (Goal("p50", 2.0),),
        against="scan + pipelined XADD + one UPDATE",
    )
    async with found_casa(system.settings) as casa:
        thread_ids = [ThreadId(ids.uuid7()) for _ in range(rows)]
        await _load(system, casa, thread_ids)
        chosen = thread_ids[:: rows // stranded]
        for number in range(min(scale.rounds, MAX_ROUNDS)):
            tell(f"prune: round {number + 1} of {min(scale.rounds, MAX_ROUNDS)}")
            await _strand(casa.record, chosen)
            floor = await _floor(system, chosen)
            began = time.perf_counter()
            counts = await pruning.prune(casa.record)
            row.add(ours=[time.perf_counter() - began], floor=[floor])
            assert counts["repaired"] == counts["checked"] == len(chosen), counts
    return [row]


async def _load(system: System, casa: Casa, thread_ids: Sequence[ThreadId]) -> None:
    """Load resting rows, and an empty copy of the table for the floor."""
    house_id = casa.who.house_id
    async with await psycopg.AsyncConnection.connect(_database(system)) as connection:
        copy = connection.cursor().copy("copy threads (id, house_id, status, tags) from stdin")
        async with copy as rows:
            for thread_id in thread_ids:
                await rows.write_row((thread_id, house_id, "open", []))
        await connection.execute("create table copied (like threads including all)")
        await connection.commit()
        await connection.set_autocommit(True)
        await connection.execute("vacuum analyze threads")


async def _strand(record: Record, thread_ids: Sequence[ThreadId]) -> None:
    """Open a run on each thread, let it say a word, and let its lease be over."""

    async def strand(thread_id: ThreadId) -> None:
        fence = await running.open_run(
            record.scripts, record.settings, thread_id=thread_id, lease_seconds=LEASE_SECONDS
        )
        await runs.append(
            record.scripts, fence, [running.chunk()], n=1, max_stream_entries=1_000
        )

    for start in range(0, len(thread_ids), AT_ONCE):
        page = thread_ids[start : start + AT_ONCE]
        await asyncio.gather(*map(strand, page))
        await project.project_many(record, page)


async def _floor(system: System, thread_ids: Sequence[ThreadId]) -> float:
    async with await psycopg.AsyncConnection.connect(_database(system)) as connection:
        await connection.execute("truncate copied")
        await connection.execute("insert into copied select * from threads")
        await connection.commit()
        await connection.set_autocommit(True)
        await connection.execute("vacuum analyze copied")
        async with Redis.from_url(system.settings.stream_url.get_secret_value()) as client:
            began = time.perf_counter()
            found = await connection.execute("select id from copied where status = 'running'")
            targets = [row[0] for row in await found.fetchall()]
            pipeline = client.pipeline(transaction=False)
            for thread_id in targets:
                pipeline.xadd(f"floor-{thread_id}", {"p": ORPHANED, "s": "1"})
                pipeline.xadd(f"floor-{thread_id}", {"p": ORPHANED, "s": "2"})
            await pipeline.execute()
            await connection.execute(
                "update copied set status = 'failed', updated_at = now() where id = any(%s)",
                [targets],
            )
            took = time.perf_counter() - began
    assert len(targets) == len(thread_ids), len(targets)
    return took


def _database(system: System) -> str:
    return system.settings.database_url.get_secret_value()
