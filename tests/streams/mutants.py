"""Scripts and readers with one guard removed: what the machine must catch.

A mutant: a script's name, a piece of its text, and what stands there instead.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis

from dispatch.config import Settings
from dispatch.ids import BEGINNING, redis_id_of
from dispatch.streams import entries, keys
from dispatch.streams.connection import Connection
from tests.streams import directed
from tests.streams.listening import Channels
from tests.streams.lives import settings
from tests.streams.machine import Machine
from tests.streams.scene import Scene
from tests.streams.simulated import CLOCK, Heard

Mutant = tuple[str, str, str]
TRIES: Final = settings(300, 40, phases=[hypothesis.Phase.generate], derandomize=True)
"""The same lives each time; none is given up because it took long."""

SCRIPTS: Final[dict[str, Mutant]] = {
    # births
    "accept_any_key_again": ("accept", "if known then", "if false then"),
    "accept_without_due": (
        "accept",
        "redis.call('ZADD', due, now + ARGV[6], due_member(lane))",
        "",
    ),
    "accept_asks_an_agent_twice": (
        "accept",
        "if not waiting[lane] then lanes[#lanes + 1] = lane end",
        "lanes[#lanes + 1] = lane",
    ),
    "accept_forgets_since_when": ("accept", "'since:' .. lane, at)", "'since:' .. lane, 1)"),
    "interrupt_waits_behind_others": (
        "accept",
        "is_first and 1 or #work.queue + 1",
        "#work.queue + 1",
    ),
    "interrupt_lets_who_waits_go_on": (
        "accept",
        "elseif #asks_of(work.active) > 0 then",
        "elseif false then",
    ),
    "interrupt_with_open_calls": (
        "accept",
        "seq = interrupt_calls(work.active, seq) + 1",
        "seq = seq + 1",
    ),
    "reject_is_not_heeded": (
        "accept",
        "if active and when_busy == 'reject' then return {'ACTIVE', lane, active} end",
        "",
    ),
    "any_status_will_do": ("accept", "if wanted ~= '' then", "if false then"),
    "write_asks_all_the_same": (
        "accept",
        "if work.active and when_busy == 'write' then",
        "if false then",
    ),
    "steer_a_turn_that_ends": (
        "accept",
        "when_busy == 'steer' and work.has_run and not work.cancel",
        "when_busy == 'steer' and work.has_run",
    ),
    # runs
    "claim_a_lane_that_runs": ("claim", "if found[4] then", "if false then"),
    "claim_what_still_waits": ("claim", "redis.call('HDEL', state, 'queue:' .. lane)", ""),
    "claim_before_its_time": ("claim", "if now < record.not_before then", "if false then"),
    "claim_without_its_checkpoint": ("claim", "record.checkpoint ~= '' and", "false and"),
    "append_by_anybody": ("append", "if found[1] ~= ARGV[2] or", "if not found[1] or"),
    "append_in_any_order": ("append", "if n ~= last + 1 then", "if false then"),
    "checkpoint_that_spoils": ("append", "redis.call('HDEL', state, 'effects:' .. lane)", ""),
    "finish_by_anybody": ("finish", "if found[1] ~= fence or", "if not found[1] or"),
    "finish_without_usage": ("finish", "if amount ~= '0' then", "if false then"),
    "release_burns_an_attempt": ("release", "record.attempt = record.attempt - 1", ""),
    "release_undoes_a_cancel": ("release", "if found[3] then return {'CANCELLING'} end", ""),
    "release_tells_nobody": (
        "release",
        "tell()\nreturn {'OK', released}",
        "return {'OK', released}",
    ),
    "finish_with_open_calls": (
        "finish",
        "seq = interrupt_calls(dispatch, seq) + 1",
        "seq = seq + 1",
    ),
    "release_with_open_calls": (
        "release",
        "interrupt_calls(dispatch, tonumber(found[4]), true)",
        "tonumber(found[4])",
    ),
    "lose_with_open_calls": ("expire", "seq = interrupt_calls(dispatch, seq, true)", ""),
    "fail_with_open_calls": (
        "expire",
        "by_run .. '}'\n  seq = interrupt_calls(dispatch, seq)",
        "by_run .. '}'",
    ),
    "retry_undoes_a_cancel": ("retry", "if found[3] then return {'CANCELLING'} end", ""),
    "retry_after_effects": ("retry", "if is_spoiled or", "if"),
    "retry_for_ever": ("retry", "or record.attempt >= record.max then", "then"),
    "take_for_another_turn": (
        "take",
        "steering(found[6], target)",
        "steering(found[6], string.match(found[6] or '', ',(%S+)'))",
    ),
    "take_twice": ("take", "redis.call('HDEL', state, 'dispatch:' .. dispatch)", ""),
    "steering_forgotten_by_a_turns_end": ("finish", "fall_through(lane, dispatch, seq)", ""),
    "compact_what_was_said": (
        "compact",
        """if fields[3] == 'w' and string.sub(fields[2], 1, 18) == '{"type":"pi.chunk"'
      and string.match(fields[4], '^[^:]+') == ARGV[1] then""",
        "if string.match(fields[#fields], '^[^:]+') == ARGV[1] then",
    ),
    # keepers
    "reap_the_living": ("expire", "if now < over and not is_dead then", "if false then"),
    "reap_by_old_news": ("expire", "and now - alive >= tonumber(ARGV[6])", ""),
    "repeat_after_effects": ("expire", "not found[10] or limits.repeatable", "true"),
    "end_a_cancelled_run_twice": (
        "expire",
        "clear_run(lane)\n  forget(dispatch)",
        """seq = seq + 1
  mark, at = add('{"type":"signal.dispatch.cancelled","dispatchId":"' .. dispatch
    .. '","reason":"cancel_grace"}', seq + 1)
  clear_run(lane)
  forget(dispatch)""",
    ),
    "never_started_waits_for_ever": (
        "expire",
        "if waited < tonumber(ARGV[3]) then",
        "if true then",
    ),
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
    "mute_agents_are_stopped_at_once": (
        "expire",
        "if stop_at and now >= stop_at then",
        "if stop_at then",
    ),
    "warned_again_and_again": ("expire", "found[12] ~= found[6] and", "true and"),
    # questions
    "answer_twice": ("answer", "table.remove(asks, asked)", ""),
    "answer_over_early": (
        "answer",
        "if ARGV[4] == 'over' and now < asks[asked].deadline then",
        "if false then",
    ),
    "resume_before_the_last_answer": ("answer", "or #asks > 0 then", "then"),
    "expire_questions_early": ("expire", "if now < ask.deadline then", "if false then"),
    "wait_though_answered": (
        "wait",
        "if #asks == 0 then return {'ANSWERED'} end",
        "if #asks == 0 then asks[1] = {deadline = now_ms() + 1} end",
    ),
    "lose_what_was_answered": (
        "release",
        "for _, call in ipairs(answered) do asked[call] = true end",
        "",
    ),
    "wait_after_effects": (
        "wait",
        "if found[5] and not limits_of(record).repeatable then return {'EFFECTS'} end",
        "",
    ),
    "wait_for_a_thread_unseen": (
        "wait",
        "next_look(asks, now_ms() + ARGV[3])",
        "next_look(asks, math.huge)",
    ),
    "look_at_a_task_never_again": (
        "expire",
        "next_look(asks, later(now - tonumber(found[4])))",
        "next_look(asks, math.huge)",
    ),
    "wait_burns_an_attempt": ("wait", "record.attempt = record.attempt - 1", ""),
    "wait_undoes_a_cancel": ("wait", "if found[2] then return {'CANCELLING'} end", ""),
    "wait_with_open_calls": (
        "wait",
        "interrupt_calls(dispatch, tonumber(found[3]), true)",
        "tonumber(found[3])",
    ),
    "who_waits_for_an_answer_is_mute": (
        "expire",
        "local is_asking = redis",
        "local is_asking = false and redis",
    ),
    # people who end things
    "withdraw_what_runs": (
        "cancel",
        "if ARGV[5] == 'queued' then return {'RUNNING'} end",
        "",
    ),
    "cancel_without_due": ("cancel", "redis.call('ZREM', due, due_member(lane))", ""),
    "delete_without_tombstone": (
        "delete",
        "redis.call('HSET', state, 'deleted', now_ms())",
        "",
    ),
    "rows_never_hear_of_an_end": ("finish", "mark_dirty(KEYS[5])", ""),
    "rows_never_hear_of_a_cancel": ("cancel", "mark_dirty(KEYS[4])", ""),
    # a Redis that forgot
    "accept_after_a_restart_unasked": (
        "accept",
        "if found[1] ~= BOOT then",
        "if not found[1] then",
    ),
    "append_after_a_restart_unasked": (
        "append",
        "if found[1] ~= ARGV[2] or found[6] ~= BOOT then",
        "if found[1] ~= ARGV[2] then",
    ),
    "finish_after_a_restart_unasked": (
        "finish",
        "if found[1] ~= fence or found[5] ~= BOOT then",
        "if found[1] ~= fence then",
    ),
    "expire_after_a_restart_unasked": (
        "expire",
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
    "rollback_with_lower_ids": (
        "revalidate",
        "if now_ms() > tonumber(ms) then return wish end",
        "if true then return wish end",
    ),
}


ARCHIVE: Final[dict[str, Mutant]] = {
    "archive_though_overtaken": ("archive", "if before ~= ARGV[1] then", "if false then"),
    "archive_another_head": (
        "archive",
        "public(rows[count][1]) ~= ARGV[3] then",
        "false then",
    ),
    "archive_what_is_needed": (
        "archive",
        "if entry and entry <= ARGV[3] then return {'NEEDED', entry} end",
        "",
    ),
    "archive_and_tell_nobody_where": (
        "archive",
        "redis.call('HSET', state, 'archived', pointer)",
        "",
    ),
    "rollback_forgets_the_archive": (
        "revalidate",
        "if not found[1] and ARGV[3] then",
        "if false then",
    ),
    "restore_forgets_to_stay": ("restore", "redis.call('PERSIST', stream)", ""),
    "restore_without_what_came": ("restore", "redis.call('RENAME', restoring, stream)", ""),
}
"""Of the archive's scripts; a machine of their own catches them (`test_archive_machine.py`)."""


async def _skips_its_millisecond(connection, thread_id, *, after=BEGINNING, limit):
    start = f"{int(after[:15]) + 1}-0"
    found = await connection.call("XRANGE", keys.stream(thread_id), start, "+", "COUNT", limit)
    return [entries._entry(row) for row in entries._rows(found)]


async def _reads_its_cursor_again(connection, thread_id, *, after=BEGINNING, limit):
    start = redis_id_of(after) if after != BEGINNING else "-"
    found = await connection.call("XRANGE", keys.stream(thread_id), start, "+", "COUNT", limit)
    return [entries._entry(row) for row in entries._rows(found)]


READERS: Final = {
    "follower_skips_its_millisecond": _skips_its_millisecond,
    "follower_reads_its_cursor_again": _reads_its_cursor_again,
}
MUTANTS: Final = (*SCRIPTS, *READERS)


@contextlib.contextmanager
def machine(
    url: str, redis: "Redis", name: str | None = None, base: type[Machine] = Machine
) -> Iterator[type]:
    """Make the machine's class for the product as it is, or for one mutant of it."""
    with asyncio.Runner() as runner, pytest.MonkeyPatch.context() as patch:
        connection = Connection(url, timeout_seconds=30)
        mutant = {**SCRIPTS, **ARCHIVE}.get(name or "")
        scripts = Heard(connection, clock=CLOCK, mutant=mutant)
        scene = Scene(connection, scripts, redis, Settings(max_queue_depth=3))
        channels = Channels(redis)
        if name in READERS:
            patch.setattr(entries, "page", READERS[name])
        own = {"scene": scene, "runner": runner, "channels": channels}
        yield type("Lives", (base,), own)
        channels.close()
        runner.run(scene.close())


def caught(url: str, redis: "Redis", name: str) -> str | None:
    """Return the promise that was broken when the machine played a mutant; None: none was."""
    with machine(url, redis, name) as lives:
        try:
            if name in directed.LIVES:
                directed.play(lives, name)
            run_state_machine_as_test(lives, settings=TRIES)
        except AssertionError as error:
            return str(error) or "an assertion without a word"
    return None
