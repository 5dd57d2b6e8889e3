"""Cancels of many dispatches that somebody else must finish: swept, died over, repeated."""

import asyncio

import pytest

from dispatch.config import Settings
from dispatch.errors import Unavailable
from dispatch.operations import cancel_many, walk_cancellation
from dispatch.stores.postgres import cancellations
from tests.operations.test_cancellations import (
    CANCELLED,
    REQUESTED,
    held,
    last,
    let_go,
    owed,
    pages_of,
    queued,
    running,
)
from tests.system.houses import Casa
from workers.sweeps import cancellations as sweep


async def test_what_is_left_of_a_large_cancel_is_swept_and_later_posts_stay(
    casa: Casa, settings: Settings
) -> None:
    tops = [await casa.dm() for _ in range(7)]
    for each in tops:
        await queued(casa, each)
    async with pages_of(casa, settings, 2) as record:
        asked = await cancel_many.cancel_house(record, casa.who)
        assert asked.done_at is None
        assert asked.cancelled_count < 7
    later = await queued(casa, tops[-1])
    await sweep.sweep(casa.record)
    done = await cancel_many.get(casa.record, casa.who, asked.id)
    assert done.done_at is not None
    assert (done.cancelled_count, done.thread_count) == (7, 7)
    assert (await casa.types(tops[-1])).count(CANCELLED) == 1
    assert list((await casa.state(tops[-1])).dispatches) == [later]


async def test_many_sweepers_at_once_end_each_once_and_count_it_once(
    casa: Casa, settings: Settings
) -> None:
    tops = [await casa.dm() for _ in range(9)]
    for each in tops:
        await queued(casa, each)
    async with pages_of(casa, settings, 2) as record:
        asked = await cancel_many.cancel_house(record, casa.who)
        await asyncio.gather(*(sweep.sweep(record) for _ in range(4)))
        await sweep.sweep(record)
    done = await cancel_many.get(casa.record, casa.who, asked.id)
    assert done.done_at is not None
    assert done.cancelled_count == 9
    for each in tops:
        assert (await casa.types(each)).count(CANCELLED) == 1


async def test_a_request_that_died_after_its_intention_is_carried_out(
    casa: Casa, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = await casa.dm()
    await queued(casa, top)

    async def away(*_: object, **__: object) -> None:
        raise Unavailable("Redis")

    with monkeypatch.context() as dying:
        dying.setattr(walk_cancellation, "step", away)
        asked = await cancel_many.cancel_thread(casa.record, casa.who, top)
    assert asked.done_at is None
    assert await last(casa, top) == "signal.dispatch.queued"
    await sweep.sweep(casa.record)
    assert await last(casa, top) == "signal.dispatch.queued"  # somebody may still be at it
    await let_go(casa)
    await sweep.sweep(casa.record)
    assert await last(casa, top) == CANCELLED


async def test_a_holder_that_died_after_a_page_is_followed_from_there(
    casa: Casa, settings: Settings
) -> None:
    tops = [await casa.dm() for _ in range(5)]
    for each in tops:
        await queued(casa, each)
    async with pages_of(casa, settings, 2) as record:
        asked = await cancel_many.cancel_house(record, casa.who)
        dying = await held(casa, asked)
        stepped = await walk_cancellation.step(record, dying)
        assert stepped is not None
        await let_go(casa)
        await sweep.sweep(record)
        # It was only paused: what it holds is not its own any more, and it is told so.
        assert await walk_cancellation.step(record, stepped) is None
    done = await cancel_many.get(casa.record, casa.who, asked.id)
    assert done.done_at is not None
    assert done.cancelled_count == 5


async def test_a_holder_that_died_before_it_wrote_a_page_down_is_repeated(
    casa: Casa, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = await casa.dm()
    await running(casa, top)
    await queued(casa, top)

    async def dies(*_: object, **__: object) -> None:
        raise Unavailable("Postgres")

    with monkeypatch.context() as dying:
        dying.setattr(cancellations, "update", dies)
        await cancel_many.cancel_thread(casa.record, casa.who, top)
    await let_go(casa)
    await sweep.sweep(casa.record)
    types = await casa.types(top)
    assert (types.count(CANCELLED), types.count(REQUESTED)) == (1, 1)
    assert await owed(casa) == 0
