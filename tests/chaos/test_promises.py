"""The checker itself: each broken promise is a sentence, and a sound thread has none."""

import itertools
from collections.abc import Sequence

import pytest

from dispatch import payloads
from dispatch.ids import EntryId
from dispatch.models.fold import fold
from dispatch.models.state import to_fields
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Assistant, ToolResult
from dispatch.payloads.signals import Completed, Queued, Started, ThreadCreated
from dispatch.streams.entries import Entry
from tests.chaos import promises
from tests.chaos.beats import BeatWatch
from tests.chaos.books import Book, CancelAll, Post
from tests.chaos.followers import Seen
from tests.chaos.journal import Effect
from tests.chaos.promises import Case, Times
from tests.chaos.record import Row, Told

THREAD = "01a1fc23-c00e-70a4-9a45-100610489a4a"
BORN_MS = 1_700_000_000_001
ENTRY = f"{BORN_MS:015d}_0000000000"
DISPATCH = f"{ENTRY}.0"
WORKER = "host.7.aa"
INTENT = {"content": [{"type": "toolCall", "id": "call"}]}
RESULT = ToolResult(
    tool_call_id="call", tool_name="effect", is_error=False, turn_index=0, message={}
)
LIFE: tuple[tuple[payloads.KnownPayload, str | None], ...] = (
    (ThreadCreated(), None),
    (Chat(Author("member", "m"), "steps 1"), None),
    (Queued(dispatch_id=DISPATCH, entry_id=ENTRY, agent_id="a", max_attempts=3), None),
    (
        Started(
            dispatch_id=DISPATCH,
            agent_id="a",
            attempt=1,
            run_id="r",
            worker_id=WORKER,
            lease_ms=6000,
            hard_ms=BORN_MS + 9000,
        ),
        None,
    ),
    (Assistant(message_id="m", turn_index=0, message=INTENT), "r:1"),
    (RESULT, "r:2"),
    (Completed(dispatch_id=DISPATCH, run_id="r"), "r:3"),
)


def sound(life: Sequence[tuple[payloads.KnownPayload, str | None]] = LIFE) -> Case:
    """A thread with one turn of one step."""
    raw = [
        Entry(
            EntryId(f"{BORN_MS - 1 + at:015d}_0000000000"),
            payloads.encode(payload),
            at + 1,
            who,
        )
        for at, (payload, who) in enumerate(life)
    ]
    state = fold(raw)
    fields = {**to_fields(state), "boot": "b"}
    row = Row(THREAD, "open", state.mark, {}, is_sub_job=False, is_primary=False)
    post = Post(THREAD, "k", "steps 1", tries=1, entry_id=ENTRY, dispatches=[DISPATCH])
    effect = Effect(BORN_MS, THREAD, DISPATCH, 1, "r", 1, "call", "chaos", 7)
    seen = Seen(THREAD, [(entry.seq or 0, entry.id) for entry in raw])
    told = Told(THREAD, raw, fields, ["arbe-thread-" + THREAD])
    times = Times(BeatWatch(""), worker_dead_ms=3000)
    return Case(Book(THREAD, "chaos", ["a"], [post]), told, row, [effect], [seen], times)


def broken(case: Case) -> list[str]:
    return list(promises.broken(case))


def test_a_sound_thread_breaks_nothing() -> None:
    assert broken(sound()) == []


def two_ends(case: Case) -> Case:
    return sound((*LIFE, LIFE[-1]))


def no_end(case: Case) -> Case:
    return sound(LIFE[:-1])


def one_key_twice(case: Case) -> Case:
    return sound((*LIFE, LIFE[1]))


def a_lost_entry(case: Case) -> Case:
    case.book.posts[0].entry_id = "000000000000009_0000000000"
    return case


def a_hash_of_its_own(case: Case) -> Case:
    case.told.fields["seq"] = "9"
    return case


def a_row_that_lags(case: Case) -> Case:
    case.row = Row(THREAD, "running", "", {}, is_sub_job=False, is_primary=False)
    return case


def an_effect_twice(case: Case) -> Case:
    case.effects *= 2
    return case


def an_effect_without_intent(case: Case) -> Case:
    case.effects = [Effect(BORN_MS, THREAD, DISPATCH, 1, "r", 1, "other", "chaos", 7)]
    return case


def a_follower_with_a_hole(case: Case) -> Case:
    del case.seen[0].durable[2]
    return case


def an_undone_cancel(case: Case) -> Case:
    case.book.withdrawn.append(DISPATCH)
    return case


def a_start_after_the_cancel_of_all(case: Case) -> Case:
    case.book.cancel_alls.append(CancelAll(BORN_MS + 1, BORN_MS + 1))
    return case


def a_deleted_thread_that_is_there(case: Case) -> Case:
    case.book.deleting = case.book.deleted = True
    return case


@pytest.mark.parametrize(
    "hurt",
    [
        two_ends,
        no_end,
        one_key_twice,
        a_lost_entry,
        a_hash_of_its_own,
        a_row_that_lags,
        an_effect_twice,
        an_effect_without_intent,
        a_follower_with_a_hole,
        an_undone_cancel,
        a_start_after_the_cancel_of_all,
        a_deleted_thread_that_is_there,
    ],
)
def test_the_checker_sees(hurt) -> None:
    assert broken(hurt(sound()))


@pytest.mark.parametrize(
    ("beats", "was_silent"),
    [
        (range(0, 60_000, 500), False),
        (range(0, 40_000, 500), True),
        (itertools.chain(range(0, 45_000, 500), range(49_000, 60_000, 500)), True),
        (itertools.chain(range(0, 20_000, 500), range(30_000, 60_000, 500)), False),
        ((), True),
    ],
    ids=["beating", "dead", "silent within the slack", "silent long ago", "never seen"],
)
def test_a_worker_counts_as_silent_only_if_its_beats_say_so(beats, *, was_silent: bool) -> None:
    watch = BeatWatch("", {WORKER: list(beats)})
    found = watch.was_silent(WORKER, at_ms=50_000, silent_ms=3000, slack_ms=15_000)
    assert found is was_silent


def test_nobody_is_silent_while_redis_is_away() -> None:
    beats = [*range(0, 40_000, 500), *range(52_500, 60_000, 500)]
    watch = BeatWatch("", {WORKER: beats}, away=[(40_000, 50_000)])
    times = {"silent_ms": 3000, "slack_ms": 15_000}
    assert not watch.was_silent(WORKER, at_ms=50_100, **times)
    assert not watch.was_silent(WORKER, at_ms=52_900, **times)
    watch.away = []
    assert watch.was_silent(WORKER, at_ms=50_100, **times)
