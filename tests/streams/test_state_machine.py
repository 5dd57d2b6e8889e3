"""The scripts keep their promises in any order of events; and the net bites.

A plain run plays the same lives every time. `ARBE_TEST_EXAMPLES=5000 ARBE_TEST_STEPS=80` plays
others, a night long.
"""

import os

import pytest
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis

from tests.streams import directed, mutants
from tests.streams.lives import settings

EXAMPLES = int(os.environ.get("ARBE_TEST_EXAMPLES", "120"))
IS_PLAIN = "ARBE_TEST_EXAMPLES" not in os.environ
STEPS = int(os.environ.get("ARBE_TEST_STEPS", "40"))


def test_every_promise_holds_in_any_order_of_events(stream_url: str, redis: "Redis") -> None:
    with mutants.machine(stream_url, redis) as lives:
        told = settings(EXAMPLES, STEPS, derandomize=IS_PLAIN)
        run_state_machine_as_test(lives, settings=told)


@pytest.mark.parametrize("name", directed.LIVES)
def test_every_promise_holds_in_a_directed_life(
    stream_url: str, redis: "Redis", name: str
) -> None:
    with mutants.machine(stream_url, redis) as lives:
        directed.play(lives, name)


@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_the_net_catches_a_script_with_its_guard_removed(
    stream_url: str, redis: "Redis", name: str
) -> None:
    assert mutants.caught(stream_url, redis, name), "nobody noticed"
