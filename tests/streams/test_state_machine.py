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
from tests.streams.lives import Lives
from tests.streams.machine import settings
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
        yield type("Played", (Lives,), {"scene": scene, "runner": runner})
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
    "take_for_another_turn": (
        "take",
        "steering(found[6], target)",
        "steering(found[6], string.match(found[6] or '', ',(%S+)'))",
    ),
    "take_twice": ("take", "redis.call('HDEL', state, 'dispatch:' .. dispatch)", ""),
    "steering_forgotten_by_a_turns_end": ("finish", "fall_through(lane, dispatch, seq)", ""),
    "interrupt_waits_behind_others": (
        "accept",
        "is_first and 1 or #work.queue + 1",
        "#work.queue + 1",
    ),
    "reject_is_not_heeded": (
        "accept",
        "if active and when_busy == 'reject' then return {'ACTIVE', lane, active} end",
        "",
    ),
    "any_status_will_do": ("accept", "if wanted ~= '' then", "if false then"),
    "withdraw_what_runs": (
        "cancel",
        "if ARGV[5] == 'queued' then return {'RUNNING'} end",
        "",
    ),
    "release_undoes_a_cancel": ("release", "if found[3] then return {'CANCELLING'} end", ""),
    "retry_undoes_a_cancel": ("retry", "if found[3] then return {'CANCELLING'} end", ""),
    "retry_after_effects": ("retry", "if is_spoiled or", "if"),
    "checkpoint_that_spoils": ("append", "redis.call('HDEL', state, 'effects:' .. lane)", ""),
    "a_beat_is_progress": (
        "expire",
        "and spoke + limits.progress",
        "and alive + limits.progress",
    ),
    "mute_agents_run_for_ever": (
        "expire",
        "if stop_at and now >= stop_at then",
        "if false then",
    ),
    "write_after_a_restart_unasked": (
        "accept",
        "if found[1] ~= BOOT then",
        "if not found[1] then",
    ),
    "believe_a_shorter_stream": (
        "revalidate",
        "if found[1] and newest() >= witness then",
        "if found[1] then",
    ),
    "rollback_keeps_the_work": (
        "revalidate",
        "for _, each in ipairs(open) do",
        "for _, each in ipairs({}) do",
    ),
    "rows_never_hear_of_an_end": ("finish", "mark_dirty(KEYS[5])", ""),
    "rows_never_hear_of_a_cancel": ("cancel", "mark_dirty(KEYS[4])", ""),
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
