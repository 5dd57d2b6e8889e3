"""The sweep of 100,000 closed chats in Postgres, while the API serves one who reads its own.

The floor removes as many rows of a copy in one DELETE: the least that could do it, and what
would hold 100,000 row locks for as long as it takes. The same reader runs beside both.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

import psycopg

from dispatch.operations.record import Record
from tests.bench.figures import Goal, Row
from tests.bench.stage import Scale, Served, Stage, System, tell
from tests.bench.wire import HOST, HttpSocket
from tests.system.houses import Casa, found_casa
from workers.sweeps import chats as sweep

MAX_ROUNDS = 5
OWN_CHATS = 20
IDLE_SECONDS = 1.0
OVER = """
    insert into {table} (chat_id, status, target_agent, metadata, closed_at, expires_at)
    select gen_random_uuid() || '/' || gen_random_uuid(), 'CLOSED', 'demo',
        jsonb_build_object('threadId', gen_random_uuid(), 'agentId', gen_random_uuid(),
            'framework', 'langgraph', 'framework_thread_id', gen_random_uuid()),
        now() - interval '2 days', now() - interval '1 day'
    from generate_series(1, {count})
"""


def measure(stage: Stage, scale: Scale) -> list[Row]:
    with stage.system("chats") as system:
        api = system.start_api()
        return asyncio.run(_measure(system, api, scale))


async def _measure(system: System, api: Served, scale: Scale) -> list[Row]:
    count = scale.of(100_000, 500)
    swept = Row(
        f"sweep of {count:,} closed chats, API serving",
        "s",
        (Goal("p50", 10.0),),
        against="one DELETE of as many rows",
    )
    read = Row("list of one's chats meanwhile", "ms", against="the same, nothing swept")
    async with found_casa(system.settings) as casa:
        await _open_chats(casa)
        for number in range(min(scale.rounds, MAX_ROUNDS)):
            tell(f"chats: round {number + 1} of {min(scale.rounds, MAX_ROUNDS)}")
            idle: list[float] = []
            with _reading(api.port, casa.token, idle):
                await asyncio.sleep(IDLE_SECONDS)
            floor = await _floor(system, api.port, casa, count)
            await _load(system, "arc_chats", count)
            busy: list[float] = []
            with _reading(api.port, casa.token, busy):
                ours = await _sweep(casa.record, count)
            swept.add(ours=[ours], floor=[floor])
            read.add(ours=busy, floor=idle)
    return [swept, read]


async def _open_chats(casa: Casa) -> None:
    for number in range(OWN_CHATS):
        await casa.record.chats.create_chat("demo", f"{casa.who.member_id}/{number}")


async def _sweep(record: Record, count: int) -> float:
    began, removed = time.perf_counter(), 0
    while removed < count:
        counts = await sweep.sweep(record)
        assert counts["expired"], removed
        removed += counts["expired"]
    return time.perf_counter() - began


async def _floor(system: System, port: int, casa: Casa, count: int) -> float:
    await _load(system, "copied", count)
    with _reading(port, casa.token, []):
        async with await psycopg.AsyncConnection.connect(_database(system)) as connection:
            began = time.perf_counter()
            done = await connection.execute("delete from copied where expires_at <= now()")
            await connection.commit()
            took = time.perf_counter() - began
    assert done.rowcount == count, done.rowcount
    return took


async def _load(system: System, table: str, count: int) -> None:
    async with await psycopg.AsyncConnection.connect(
        _database(system), autocommit=True
    ) as connection:
        if table != "arc_chats":
            await connection.execute(f"drop table if exists {table}")
            await connection.execute(f"create table {table} (like arc_chats including all)")
        await connection.execute(OVER.format(table=table, count=count))
        await connection.execute(f"vacuum analyze {table}")


@contextlib.contextmanager
def _reading(port: int, token: str, samples: list[float]) -> Iterator[None]:
    """Read one's chats over and over, from an OS thread; gathers milliseconds."""
    over = threading.Event()
    request = (
        f"GET /v1/chats HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()

    def read() -> None:
        with contextlib.closing(HttpSocket(port)) as client:
            while not over.is_set() or not samples:
                began = time.perf_counter()
                status, answer = client.send(request)
                samples.append((time.perf_counter() - began) * 1000)
                assert status == 200, answer

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        over.set()
        reader.join()


def _database(system: System) -> str:
    return system.settings.database_url.get_secret_value()
