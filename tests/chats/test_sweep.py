"""The sweep of closed chats: bounded batches, safe twice at once, and it waits for nobody."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from beat_schedule import TIMETABLE
from dispatch import task_names
from dispatch.chats import ChatNotFound, open_storage
from dispatch.config import Settings
from dispatch.operations import chats as operations
from dispatch.operations.record import Record, open_record
from workers.sweeps import chats as sweep


@pytest_asyncio.fixture
async def record(settings: Settings) -> AsyncIterator[Record]:
    async with open_record(settings.model_copy(update={"chat_sweep_batch": 7})) as opened:
        await sweep.sweep(opened)  # what other tests left
        yield opened


async def left_over(record: Record, name: str, count: int) -> None:
    for i in range(count):
        await record.chats.create_chat("a", f"{name}/{i}")
        await record.chats.close_chat(f"{name}/{i}", ttl_seconds=0)


async def test_what_is_over_goes_in_batches_and_the_rest_stays(
    record: Record, name: str
) -> None:
    await left_over(record, name, 30)
    for chat_id in ("active", "closed"):
        await record.chats.create_chat("a", f"{name}/{chat_id}")
    await record.chats.close_chat(f"{name}/closed")
    counts = await operations.sweep(record.chats.storage, record.settings, dry_run=True)
    assert counts == {"expired": 30}
    assert await sweep.sweep(record) == {"expired": 30}
    assert await sweep.sweep(record) == {"expired": 0}
    for chat_id in ("active", "closed"):
        await record.chats.get_chat(f"{name}/{chat_id}")


async def test_a_pass_is_bounded(
    record: Record, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_MAX_BATCHES", 2)
    await left_over(record, name, 20)
    assert await sweep.sweep(record) == {"expired": 14}
    assert await sweep.sweep(record) == {"expired": 6}


async def test_two_sweeps_at_once_remove_each_chat_once(record: Record, name: str) -> None:
    await left_over(record, name, 40)
    counts = await asyncio.gather(*(sweep.sweep(record) for _ in range(3)))
    again = await sweep.sweep(record)  # what one skipped while another held it
    assert sum(each["expired"] for each in (*counts, again)) == 40


async def test_a_row_that_somebody_holds_is_left_to_the_next_pass(
    record: Record, name: str, postgres_url: str
) -> None:
    await left_over(record, name, 10)
    async with await psycopg.AsyncConnection.connect(postgres_url) as holder:
        await holder.execute(
            "select from arc_chats where chat_id = %s for update", [f"{name}/3"]
        )
        assert await sweep.sweep(record) == {"expired": 9}
        await holder.rollback()
    assert await sweep.sweep(record) == {"expired": 1}


@pytest.mark.parametrize("kind", ["redis", "pymongo"], indirect=True)
async def test_a_storage_that_removes_by_itself_is_swept_too(
    url: str, settings: Settings, name: str
) -> None:
    chosen = settings.model_copy(update={"chats_url": SecretStr(url)})
    async with open_record(chosen) as record:
        await left_over(record, name, 3)
        await sweep.sweep(record)
        with pytest.raises(ChatNotFound):
            await record.chats.get_chat(f"{name}/0")
        async with open_storage(chosen) as storage:
            assert await operations.sweep(storage, chosen, dry_run=True) == {"expired": 0}


def test_the_sweep_is_in_the_timetable() -> None:
    (tick,) = (each for each in TIMETABLE if each.task == task_names.SWEEP_CHATS)
    assert tick.every_seconds == tick.expires_seconds == 60.0
