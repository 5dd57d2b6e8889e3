"""Archives and restores in any order of all other events; and the net bites."""

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis

from tests.streams import mutants
from tests.streams.lives import Copy, Holder, Known, settings
from tests.streams.machine_archiving import Archiving
from tests.streams.scene import ASSISTANT, CHUNK
from tests.streams.test_state_machine import EXAMPLES, IS_PLAIN, STEPS

Directed = Callable[[Archiving, Known], object]


def test_every_promise_holds_with_archives_and_restores(
    stream_url: str, redis: "Redis"
) -> None:
    with mutants.machine(stream_url, redis, base=Archiving) as lives:
        told = settings(EXAMPLES, STEPS, derandomize=IS_PLAIN)
        run_state_machine_as_test(lives, settings=told)


def _posts(life: Archiving, known: Known, count: int = 6) -> None:
    for _ in range(count):
        life.post(known, life.new_key(), [])


def _overtaken(life: Archiving, known: Known) -> None:
    _posts(life, known)
    life.archive(known, 1, 2, late=3)
    life.archive(known, 1, 2, late=0)
    life.restore(known, posts=False, swept=False)
    life.late_one_goes_on()


def _chunks_go(life: Archiving, known: Known) -> None:
    holder = life.hold(known, life.lane(0))
    assert isinstance(holder, Holder)
    life.write(holder, [CHUNK, CHUNK, ASSISTANT])
    life.end(holder)
    _posts(life, known)
    life.archive(known, 3, 50, late=3)
    life.touch(known)
    life._compact(holder)
    life.late_one_goes_on()


def _work_comes_back(life: Archiving, known: Known) -> None:
    """Redis goes back to when a turn was open whose entry somebody has packed since."""
    life.post(known, life.new_key(), [life.lane(0)])
    life.back_up(known)
    holder = life.take_first(known, life.lane(0))
    assert isinstance(holder, Holder)
    life.end(holder)
    life.archive(known, 1, 2, late=3)
    life.lose(known, known.copy, restarts=False)
    life.late_one_goes_on()


def _is_read(life: Archiving, known: Known) -> None:
    _posts(life, known)
    life.archive(known, 1, 5, late=0)
    life.follower_reads(known, 7, anew=0)


def _is_flushed(life: Archiving, known: Known) -> None:
    _posts(life, known)
    life.archive(known, 3, 50, late=0)
    life.lose(known, Copy(), restarts=True)
    life.post(known, life.new_key(), [])


def _is_restored(life: Archiving, known: Known) -> None:
    _posts(life, known)
    life.archive(known, 1, 5, late=0)
    life.restore(known, posts=True, swept=True)


LIVES: Final[dict[str, Directed]] = {
    "archive_though_overtaken": _overtaken,
    "archive_another_head": _chunks_go,
    "archive_what_is_needed": _work_comes_back,
    "archive_and_tell_nobody_where": _is_read,
    "rollback_forgets_the_archive": _is_flushed,
    "restore_forgets_to_stay": _is_restored,
    "restore_without_what_came": _is_restored,
}


def _play(lives: type[Archiving], name: str) -> None:
    life = lives()
    try:
        LIVES[name](life, life.create())
        life.every_promise_holds()
    finally:
        life.teardown()


@pytest.mark.parametrize("name", LIVES)
def test_every_promise_holds_in_a_directed_life(
    stream_url: str, redis: "Redis", name: str
) -> None:
    with mutants.machine(stream_url, redis, base=Archiving) as lives:
        _play(lives, name)


@pytest.mark.parametrize("name", mutants.ARCHIVE)
def test_the_net_catches_an_archive_with_its_guard_removed(
    stream_url: str, redis: "Redis", name: str
) -> None:
    with (
        mutants.machine(stream_url, redis, name, base=Archiving) as lives,
        pytest.raises(AssertionError),
    ):
        _play(lives, name)
