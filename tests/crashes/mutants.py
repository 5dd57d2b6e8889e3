"""The product with one guard removed: what a crash sweep must catch, or it proves nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Final, NamedTuple
from unittest import mock

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.ids import BEGINNING, ThreadId
from dispatch.models.archives import Pointer
from dispatch.operations import prune, restore_thread
from dispatch.operations.record import Record
from dispatch.stores.postgres import (
    engine,
    idempotency,
    old_threads,
    segments,
    thread_statements,
)
from dispatch.streams import replies
from tests.crashes.campaign import Result, Task, distinct, doubled, paused
from tests.crashes.world import World
from workers.sweeps import redeliver

_GUARD: Final = 'and row.stream_id < told.stream_id collate "C"'


class Mutant(NamedTuple):
    """How to remove a guard, and which plays show it."""

    story: str
    choose: Callable[[Result], list[Task]]
    broken: Callable[[World], AbstractAsyncContextManager[None]]


def _script(
    name: str, piece: str, other: str
) -> Callable[[World], AbstractAsyncContextManager]:
    return lambda world: world.doors.mutated(name, piece, other)


@asynccontextmanager
async def _no_deletion_is_noted(world: World) -> AsyncIterator[None]:
    await world.admin.execute("alter table threads disable trigger threads_note_deletion")
    yield
    await world.admin.execute("alter table threads enable trigger threads_note_deletion")


@asynccontextmanager
async def _rows_go_back(_world: World) -> AsyncIterator[None]:
    text = str(thread_statements.PROJECT)
    assert _GUARD in text, "the mutation must find its place"
    with mock.patch.object(thread_statements, "PROJECT", sa.text(text.replace(_GUARD, ""))):
        yield


@asynccontextmanager
async def _deletions_are_left(_world: World) -> AsyncIterator[None]:
    async def leave(*_: object, **__: object) -> int:
        return 0

    with mock.patch.object(prune, "finish_deletions", leave):
        yield


@asynccontextmanager
async def _no_hint_is_rung_again(_world: World) -> AsyncIterator[None]:
    async def none(*_: object) -> list[object]:
        return []

    with mock.patch.object(redeliver, "_hints", none):
        yield


@asynccontextmanager
async def _a_slept_claim_is_held(_world: World) -> AsyncIterator[None]:
    async def hold(*_: object, **__: object) -> None:
        """Say that the claim is still ours."""

    with mock.patch.object(idempotency, "hold", hold):
        yield


@asynccontextmanager
async def _no_reply_is_noted(_world: World) -> AsyncIterator[None]:
    async def forget(*_: object, **__: object) -> None:
        """Leave nothing for the sweep."""

    with mock.patch.object(replies, "note", forget):
        yield


@asynccontextmanager
async def _old_threads_are_not_ended(_world: World) -> AsyncIterator[None]:
    async def fit(connection: AsyncConnection, **_: object) -> datetime:
        """Say that its time is over, in as many steps, and write nothing."""
        return (await connection.execute(sa.select(sa.func.now()))).scalar_one()

    with mock.patch.object(old_threads, "end", fit):
        yield


def _unanswered(dry: Result) -> list[Task]:
    return [task._replace(insists=False) for task in distinct(dry)]


@asynccontextmanager
async def _the_archive_goes_first(_world: World) -> AsyncIterator[None]:
    restore = restore_thread._restore

    async def forget_and_restore(record: Record, thread_id: ThreadId, seen: Pointer) -> int:
        found = await record.archived.after(thread_id, BEGINNING)
        async with engine.as_worker(record.projector) as connection:
            for row in await segments.list_beyond(
                connection, thread_id=thread_id, place=BEGINNING
            ):
                await segments.delete(connection, segment_id=row.id)
        assert found is not None
        return await restore(record, thread_id, seen)

    with mock.patch.object(restore_thread, "_restore", forget_and_restore):
        yield


MUTANTS: Final = {
    "repeat_after_effects": Mutant(
        "turn", distinct, _script("expire", "not found[10] or limits.repeatable", "true")
    ),
    "accept_without_due": Mutant(
        "turn",
        distinct,
        _script("accept", "redis.call('ZADD', due, now + ARGV[6], due_member(lane))", ""),
    ),
    "accept_a_key_again": Mutant(
        "turn", distinct, _script("accept", "if known then", "if false then")
    ),
    "append_by_anybody": Mutant(
        "turn",
        doubled,
        _script(
            "append",
            "if found[1] ~= ARGV[2] or",
            "if not found[1] or",
        ),
    ),
    "delete_without_a_note": Mutant("delete while running", distinct, _no_deletion_is_noted),
    "clean_up_without_an_end": Mutant(
        "a cleanup of old threads", _unanswered, _old_threads_are_not_ended
    ),
    "leave_deletions_half_done": Mutant("delete while running", distinct, _deletions_are_left),
    "tell_no_row_of_a_cancel": Mutant(
        "cancel before the start", distinct, _script("cancel", "mark_dirty(KEYS[4])", "")
    ),
    "trust_a_redis_that_forgot": Mutant(
        "Redis forgets an end",
        distinct,
        _script("revalidate", "found[1] and newest() >= witness", "found[1]"),
    ),
    "make_a_row_after_the_claim": Mutant(
        "thread by HTTP under a key", paused, _a_slept_claim_is_held
    ),
    "note_no_reply": Mutant("agents that ask agents", distinct, _no_reply_is_noted),
    "tell_a_limit_again": Mutant(
        "agents that ask agents", distinct, _script("signal", "if known then", "if false then")
    ),
    "lose_a_tasks_end_with_a_run": Mutant(
        "turn that gives tasks",
        distinct,
        _script(
            "expire",
            "for _, call in ipairs(answered) do asked[call] = true end",
            "",
        ),
    ),
    "forget_the_archive_before_the_restore": Mutant(
        "restore", distinct, _the_archive_goes_first
    ),
    "let_rows_go_back": Mutant("one turn after the other", paused, _rows_go_back),
    "ring_no_lost_hint_again": Mutant("turn", distinct, _no_hint_is_rung_again),
}
