"""What must be true when a play is at rest, whatever died in it.

Reads the servers directly: streams, hashes, indexes, rows. Takes no step.
"""

from collections import Counter
from typing import Any
from uuid import UUID

import msgspec

from dispatch import payloads
from dispatch.ids import ThreadId, WorkerId
from dispatch.models import status
from dispatch.models.fold import fold
from dispatch.models.state import ThreadState, to_fields
from dispatch.payloads.chat import Chat
from dispatch.payloads.signals import Cancelled, Completed, Failed, Started, Steered
from dispatch.payloads.usage import UsageTotals
from dispatch.streams import keys
from tests.crashes.play import Play
from tests.streams.promises import Witness
from tests.streams.scene import BESIDE_THE_FOLD, Read

_OURS = {"arbe:test:clock", "arbe:test:boot", keys.WATCH}


async def judge(play: Play) -> Counter[str]:
    """Return how the dispatches ended; raises AssertionError at the first broken promise."""
    wire = play.world.doors.wire
    await _find_threads(play)
    rows = await _rows(play)
    endings: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    intents: set[tuple[str, str]] = set()
    for thread_id in play.threads:
        fields = {
            name.decode(): text.decode()
            for name, text in (await wire.call("HGETALL", keys.state(thread_id))).items()
            if name.decode() not in BESIDE_THE_FOLD
        }
        found = await play.world.record.entries.page(thread_id, limit=9999)
        stream = list(map(Read.of, found))
        if thread_id not in rows:
            assert thread_id in play.deleted | play.maybe_deleted, "no row vanishes"
            assert not stream, "a deleted thread has no stream"
            assert set(fields) <= {"deleted"}, "nothing but a tombstone is left"
            continue
        assert thread_id not in play.deleted, "what was told to be deleted is gone"
        endings += _judge_thread(play, stream, fields)
        if stream or not play.has_forgotten:
            _judge_row(rows[thread_id], fold(stream))
        for entry in stream:
            _count(entry.payload, seen)
            intents |= _intents(entry)
    is_lost = play.has_forgotten or len(rows) < len(play.threads)
    _judge_keys(play, seen, is_lost=is_lost)
    _judge_effects(play, intents, is_lost=is_lost)
    await _judge_indexes(play, set(rows))
    assert not play.trouble, f"raised in the background: {play.trouble}"
    for check in play.checks:
        await check()
    return endings


def _judge_thread(play: Play, stream: list[Read], fields: dict[str, str]) -> Counter[str]:
    state = fold(stream)
    started = [e.payload for e in stream if isinstance(e.payload, Started)]
    killed = {each.run_id for each in started if each.worker_id in play.lost_workers}
    dead_ms = int(play.world.settings.worker_dead_seconds * 1000)
    witness = Witness(killed, dead_ms=dead_ms, compacted=True).read(stream)
    assert to_fields(state) == fields, "the hash is the fold of the stream"
    assert not state.has_work, "nothing is left to do"
    assert witness.ended == set(witness.births), "each dispatch has exactly one terminal"
    endings: Counter[str] = Counter()
    attempts: Counter[str] = Counter(each.dispatch_id for each in started)
    for entry in stream:
        word = _ending(entry.payload)
        if word:
            endings[word] += 1
            _judge_failure(play, entry.payload, witness, attempts)
    return endings


def _judge_failure(
    play: Play, payload: payloads.Payload, witness: Witness, attempts: Counter[str]
) -> None:
    if not isinstance(payload, Failed):
        return
    if payload.reason == "orphaned":
        is_spoiled = witness.turns[payload.dispatch_id].spoiled
        assert is_spoiled, "orphaned: only after a visible effect"
    elif payload.reason == "attempts_exhausted":
        tried = attempts[payload.dispatch_id]
        most = witness.births[payload.dispatch_id].max_attempts
        assert tried >= most, "every attempt was made"
    else:
        allowed = {"agent_error", "interrupted", "no_progress"}
        allowed |= {"stream_rollback"} if play.has_forgotten else set()
        assert payload.reason in allowed, f"nobody failed it so: {payload.reason}"


def _ending(payload: payloads.Payload) -> str:
    match payload:
        case Completed():
            return "completed"
        case Failed(reason=reason):
            return f"failed {reason}"
        case Cancelled(reason=reason):
            return f"cancelled {reason}"
        case Steered():
            return "steered"
        case _:
            return ""


def _judge_row(row: dict[str, Any], state: ThreadState) -> None:
    expected = status.thread_status(state, is_sub_job=row["parent_thread_id"] is not None)
    assert row["status"] == expected, f"the row says {row['status']}, its stream {expected}"
    if row["stream_id"] != state.mark:
        # Nothing that a row shows has changed since.
        assert row["stream_id"] < state.mark, "a row is never ahead of its stream"
    usage = msgspec.convert(row["usage"], UsageTotals, strict=False)
    assert usage == state.usage, "the row counts what its stream counts"


def _count(payload: payloads.Payload, seen: Counter[str]) -> None:
    if isinstance(payload, Chat) and payload.client_key:
        seen[payload.client_key] += 1


def _intents(entry: Read) -> set[tuple[str, str]]:
    """Return the tool calls an entry announces, each with the run that wrote it."""
    if entry.writer is None or payloads.type_of(entry.payload) != "pi.assistant":
        return set()
    content = entry.payload.message["content"]
    run_id = entry.writer.rpartition(":")[0]
    return {(run_id, each["id"]) for each in content if each["type"] == "toolCall"}


def _judge_keys(play: Play, seen: Counter[str], *, is_lost: bool) -> None:
    for key, is_heard in play.posted.items():
        least = 1 if is_heard and not is_lost else 0
        assert least <= seen[key] <= 1, "one entry per key, and what was answered stands"


def _judge_effects(play: Play, intents: set[tuple[str, str]], *, is_lost: bool) -> None:
    times = Counter((turn, call.partition(":")[2]) for turn, _, call in play.effects)
    once = play.may_repeat or all(count == 1 for count in times.values())
    assert once, "an effect happens at most once"
    for _, run_id, call in play.effects:
        assert is_lost or (run_id, call) in intents, "an intent stands before its effect"


async def _judge_indexes(play: Play, living: set[ThreadId]) -> None:
    wire = play.world.doors.wire
    assert not await wire.call("ZRANGE", keys.DUE, 0, -1), "nothing is due"
    expected = set(_OURS)
    for thread_id in play.threads:
        expected.add(keys.state(thread_id))
        if await wire.call("TTL", keys.restoring(thread_id)) > 0:
            expected.add(keys.restoring(thread_id))  # left by a restore that died; it goes
        if thread_id in living:
            expected.add(keys.stream(thread_id))
            expected.add(keys.idempotency(thread_id))
            expected.add(keys.idempotency_ages(thread_id))
    # A worker that was paused, forgotten, and claimed once more is in no index until it beats.
    expected |= {keys.runs(WorkerId(worker)) for worker in play.paused_workers}
    left = {key.decode() for key in await wire.call("KEYS", "*")} - expected
    # A thread that was made and, as its call was refused in the end, removed: nobody knows it.
    left = {key for key in left if not await _is_tombstone(play, key)}
    assert not left, f"keys are left: {left}"
    found = await play.world.admin.execute(
        "select count(*) from deletions where done_at is null"
    )
    assert (await found.fetchone()) == (0,), "no deletion is owed"


async def _is_tombstone(play: Play, key: str) -> bool:
    fields = await play.world.doors.wire.call("HKEYS", key) if key.endswith(":state") else []
    return fields == [b"deleted"]


async def _find_threads(play: Play) -> None:
    """Add those made by calls whose answers were lost."""
    for name in await play.world.doors.wire.call("KEYS", "arbe-thread-*"):
        thread_id = ThreadId(UUID(name.decode().removeprefix("arbe-thread-")))
        if thread_id not in play.threads:
            play.threads.append(thread_id)


async def _rows(play: Play) -> dict[ThreadId, dict[str, Any]]:
    found = await play.world.admin.execute(
        "select id, parent_thread_id, status, usage, stream_id from threads where id = any(%s)",
        [play.threads],
    )
    names = [column.name for column in found.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in await found.fetchall()]
    return {ThreadId(row["id"]): row for row in rows}
