"""The scripts keep their promises in any order of events; and the net bites.

`ARBE_TEST_EXAMPLES=5000 ARBE_TEST_STEPS=80` makes it a night's work.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis

from dispatch.config import Settings
from dispatch.streams.connection import Connection
from tests.streams.machine import Machine, settings
from tests.streams.scene import CLOCK, Heard, Scene

EXAMPLES = int(os.environ.get("ARBE_TEST_EXAMPLES", "60"))
STEPS = int(os.environ.get("ARBE_TEST_STEPS", "40"))


@contextlib.contextmanager
def machine(url: str, redis: "Redis", mutant: tuple[str, str, str] | None) -> Iterator[type]:
    """Make the machine's class for scripts with one text replaced, or as they are."""
    with asyncio.Runner() as runner:
        connection = Connection(url, timeout_seconds=5)
        scripts = Heard(connection, clock=CLOCK, mutant=mutant)
        scene = Scene(connection, scripts, redis, Settings(max_queue_depth=3))
        yield type("Lives", (Machine,), {"scene": scene, "runner": runner})
        runner.run(scene.close())


def test_every_promise_holds_in_any_order_of_events(stream_url: str, redis: "Redis") -> None:
    with machine(stream_url, redis, None) as lives:
        run_state_machine_as_test(lives, settings=settings(EXAMPLES, STEPS))


MUTANTS = {
    "append_by_anybody": (
        "append",
        "if found[1] ~= ARGV[2] or",
        "if not found[1] or",
    ),
    "append_in_any_order": ("append", "if n ~= last + 1 then", "if false then"),
    "finish_by_anybody": ("finish", "if found[1] ~= fence or", "if not found[1] or"),
    "reap_the_living": ("expire", "if now < over and dead ~= run then", "if false then"),
    "repeat_after_effects": ("expire", "not found[10] or limits.repeatable", "true"),
    "accept_without_due": (
        "accept",
        "redis.call('ZADD', due, now + ARGV[6], due_member(lane))",
        "",
    ),
    "accept_any_key_again": ("accept", "if known then", "if false then"),
    "release_burns_an_attempt": (
        "release",
        "record.attempt = record.attempt - 1",
        "",
    ),
    "delete_without_tombstone": (
        "delete",
        "redis.call('HSET', state, 'deleted', now_ms())",
        "",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_net_catches_a_script_with_its_guard_removed(
    stream_url: str, redis: "Redis", name: str
) -> None:
    bites = settings(200, 40, phases=[hypothesis.Phase.generate], derandomize=True)
    with (
        machine(stream_url, redis, MUTANTS[name]) as lives,
        pytest.raises(AssertionError),
    ):
        run_state_machine_as_test(lives, settings=bites)
