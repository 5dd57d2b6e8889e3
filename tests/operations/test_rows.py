"""Rows keep their promises in any order of reads, writes and deaths; and the net bites."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis.stateful import run_state_machine_as_test
from pydantic import SecretStr
from redis import Redis

from dispatch.config import Settings
from dispatch.operations import delete_thread, prune
from dispatch.stores.postgres import deletions, engine, threads
from dispatch.stores.postgres import thread_statements as statements
from dispatch.stores.postgres.migrations import runner as migrations
from dispatch.streams import threads as streams
from tests.operations.row_machine import RowMachine
from tests.operations.row_world import World
from tests.stores.factories import address
from tests.streams.lives import settings as hypothesis_settings
from tests.system.houses import found_casa

IS_PLAIN = "ARBE_TEST_EXAMPLES" not in os.environ
EXAMPLES = int(os.environ.get("ARBE_TEST_EXAMPLES", "60")) // 4
STEPS = int(os.environ.get("ARBE_TEST_STEPS", "40"))
NAME = "rows"
REDIS_DB = 14
Mutant = Callable[[psycopg.Connection], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def row_settings(postgres_url: str, stream_url: str) -> Settings:
    """A database and a Redis of our own: the mutants drop guards, the sweeps sweep all."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"drop database if exists {NAME} with (force)")
        admin.execute(f"create database {NAME}")
    database_url = address(postgres_url, database=NAME)
    migrations.upgrade(database_url)
    stream = urlunsplit(urlsplit(stream_url)._replace(path=f"/{REDIS_DB}"))
    return Settings(
        database_url=SecretStr(database_url),
        stream_url=SecretStr(stream),
        sweep_batch=2,
        max_queue_depth=3,
    )


@contextlib.contextmanager
def lives(
    settings: Settings,
    mutant: Mutant | None = None,
    script: tuple[str, str, str] | None = None,
) -> Iterator[type]:
    """Make the machine's class on our own servers, with one guard removed or with all."""
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        casa = found_casa(settings)
        made = runner.run(casa.__aenter__())
        stack.callback(lambda: runner.run(casa.__aexit__(None, None, None)))
        url = settings.database_url.get_secret_value()
        looker = stack.enter_context(psycopg.connect(url, autocommit=True))
        redis = stack.enter_context(Redis.from_url(settings.stream_url.get_secret_value()))
        written = stack.enter_context(_remembered())
        if mutant is not None:
            stack.enter_context(mutant(looker))
        world = World(made, looker, redis, script)
        yield type(
            "Rows", (RowMachine,), {"world": world, "runner": runner, "written": written}
        )


@contextlib.contextmanager
def _remembered() -> Iterator[list[tuple]]:
    """Keep what every projector writes."""
    written: list[tuple] = []
    project = threads.project

    async def remember(connection, *, projections):
        written.append(tuple(projections))
        return await project(connection, projections=projections)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "project", remember)
        yield written


def test_every_row_holds_in_any_order_of_reads_writes_and_deaths(
    row_settings: Settings,
) -> None:
    with lives(row_settings) as rows:
        run_state_machine_as_test(
            rows, settings=hypothesis_settings(EXAMPLES, STEPS, derandomize=IS_PLAIN)
        )


def _projecting(piece: str, other: str) -> Mutant:
    """Replace a piece of the projecting statement."""

    @contextlib.contextmanager
    def mutant(_looker: psycopg.Connection) -> Iterator[None]:
        text = str(statements.PROJECT)
        assert text.count(piece) == 1, "the mutation must find its place"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(statements, "PROJECT", sa.text(text.replace(piece, other)))
            yield

    return mutant


def _replacing(module, name: str, other) -> Mutant:
    @contextlib.contextmanager
    def mutant(_looker: psycopg.Connection) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, other)
            yield

    return mutant


@contextlib.contextmanager
def _without_trigger(looker: psycopg.Connection) -> Iterator[None]:
    looker.execute("alter table threads disable trigger threads_note_deletion")
    try:
        yield
    finally:
        looker.execute("alter table threads enable trigger threads_note_deletion")


async def _nothing_repaired(record, thread_ids, *, who) -> None:
    pass


async def _tick_off_first(record, thread_id) -> None:
    async with engine.as_worker(record.projector) as connection:
        await deletions.mark_done(connection, thread_id=thread_id)
    await streams.delete(
        record.scripts, thread_id, tombstone_seconds=record.settings.tombstone_seconds
    )


async def _nothing_owed(connection, **_page):
    return ()


MUTANTS: dict[str, Mutant] = {
    "project_without_guard": _projecting('and row.stream_id < told.stream_id collate "C"', ""),
    "project_in_one_vocabulary": _projecting("told.sub_job_status", "told.chat_status"),
    "project_without_usage": _projecting("usage = told.usage,", ""),
    "project_without_watermark": _projecting("stream_id = told.stream_id,", ""),
    "delete_without_note": _without_trigger,
    "delete_ticked_off_before_it_is_done": _replacing(
        delete_thread, "remove_stream", _tick_off_first
    ),
    "deletions_never_swept": _replacing(deletions, "list_open", _nothing_owed),
    "orphans_left_running": _replacing(prune, "_end_orphans", _nothing_repaired),
}


SCRIPTS = {
    "witness_not_compared": (
        "revalidate",
        "if found[1] and newest() >= witness then",
        "if found[1] then",
    ),
    "end_without_dirty_mark": ("finish", "mark_dirty(KEYS[5])", ""),
    "dirty_mark_taken_too_early": ("projected", "if not mark or mark == ARGV[1] then", "do"),
    "row_not_told_that_its_run_is_lost": (
        "revalidate",
        "if ARGV[2] == '1' then redis.call('HSET', state, 'outcome', 'orphaned') end",
        "",
    ),
}


@pytest.mark.parametrize("name", [*MUTANTS, *SCRIPTS])
def test_the_net_catches_a_row_with_its_guard_removed(
    row_settings: Settings, name: str
) -> None:
    bites = hypothesis_settings(300, 40, phases=[hypothesis.Phase.generate], derandomize=True)
    with (
        lives(row_settings, MUTANTS.get(name), SCRIPTS.get(name)) as rows,
        pytest.raises(AssertionError),
    ):
        run_state_machine_as_test(rows, settings=bites)
