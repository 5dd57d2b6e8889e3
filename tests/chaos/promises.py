"""Every promise, asked of one thread after the storm. Each broken one is a sentence."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from dispatch.ids import EntryId, milliseconds_of
from dispatch.models.fold import fold
from dispatch.models.state import from_fields, to_fields
from dispatch.models.status import thread_status
from dispatch.payloads.llm import Assistant
from dispatch.payloads.signals import Cancelled, CancelRequested, Started
from dispatch.streams import keys
from tests.chaos import forgetting
from tests.chaos.beats import BeatWatch
from tests.chaos.books import Book
from tests.chaos.followers import Seen
from tests.chaos.forgetting import Window
from tests.chaos.journal import Effect
from tests.chaos.record import Row, Told
from tests.streams.promises import Witness

REPEATABLE: Final = "again"
"""The agent that says that its turn is safe to repeat."""
_LAST_WORDS_MS: Final = 10_000
"""What is the last that we know of a thread may not have been the last."""
_DIED_TOO_MS: Final = 20_000
_SLACK_MS: Final = 15_000
"""A keeper's finding may hang in the network, and be delivered late."""


@dataclass(frozen=True)
class Times:
    """What is known of when things happened."""

    beats: BeatWatch
    worker_dead_ms: int
    ended_ms: Mapping[int, int] = field(default_factory=dict[int, int])
    """Process → when it ended."""
    forgotten: Sequence[Window] = ()


@dataclass
class Case:
    """One thread, and all that anybody knows of it."""

    book: Book
    told: Told
    row: Row | None
    effects: list[Effect]
    seen: list[Seen]
    times: Times

    @property
    def thread_id(self) -> str:
        """Return the thread's id."""
        return self.book.thread_id

    @property
    def may_have_been_forgotten(self) -> bool:
        """Tell whether Redis may have lost anything of this thread."""
        born_ms = UUID(self.thread_id).int >> 80
        known = [*self.told.ids, *(post.entry_id for post in self.book.posts)]
        known += [entry_id for seen in self.seen for _, entry_id in seen.durable]
        told_ms = [int(entry_id[:15]) for entry_id in known if entry_id]
        # The id is made by the clock of a process, which the storm may have set wrong.
        first_ms, last_ms = min([born_ms, *told_ms]), max(told_ms, default=born_ms)
        return any(
            first_ms <= window.last_ms and window.first_ms <= last_ms + _LAST_WORDS_MS
            for window in self.times.forgotten
        )

    def was_forgotten(self, at_ms: int) -> bool:
        """Tell whether what was written then may be lost."""
        return forgetting.is_within(self.times.forgotten, at_ms)


def broken(case: Case) -> Iterator[str]:
    """Yield a sentence for each broken promise of one thread."""
    yield from _effects_once(case)
    yield from _followers_saw_a_prefix(case)
    if case.book.deleted:
        yield from _nothing_is_left(case)
        return
    yield from _stream_is_sound(case)
    yield from _state_is_the_fold(case)
    yield from _row_is_the_fold(case)
    yield from _accepted_once(case)
    yield from _acknowledged_stands(case)
    yield from _ended_once(case)
    yield from _cancelled_stays_so(case)
    yield from _cancelled_all(case)
    yield from _intents_stand(case)


def forgiven(case: Case) -> Iterator[tuple[str, int]]:
    """Yield steps whose effect happened twice since nobody was left who knew of the first.

    The first stood in what Redis has forgotten, and its worker process ended too.
    """
    for (dispatch_id, step), effects in _by_step(case).items():
        first = effects[0]
        died_ms = case.times.ended_ms.get(first.pid)
        is_unknown = died_ms is not None and died_ms - first.at_ms < _DIED_TOO_MS
        if len(effects) == 2 and is_unknown and case.was_forgotten(first.at_ms):
            yield dispatch_id, step


def _by_step(case: Case) -> dict[tuple[str, int], list[Effect]]:
    found: dict[tuple[str, int], list[Effect]] = {}
    for effect in case.effects:
        if effect.agent != REPEATABLE:
            found.setdefault((effect.dispatch_id, effect.step), []).append(effect)
    return found


def _stream_is_sound(case: Case) -> Iterator[str]:
    known_dead = {
        run_id
        for run_id, at_ms in case.told.reaped.items()
        if run_id in case.told.starts
        and case.times.beats.was_silent(
            case.told.starts[run_id][1].worker_id,
            at_ms=at_ms,
            silent_ms=case.times.worker_dead_ms,
            slack_ms=_SLACK_MS,
        )
    }
    try:
        Witness(known_dead, dead_ms=case.times.worker_dead_ms, compacted=True).read(
            case.told.reads
        )
    except (AssertionError, KeyError) as error:
        yield f"the stream breaks a promise: {error!r}"


def _state_is_the_fold(case: Case) -> Iterator[str]:
    folded = to_fields(fold(case.told.reads))
    # Under which start of Redis the hash was last validated is no part of the fold.
    folded |= {"boot": case.told.fields["boot"]} if "boot" in case.told.fields else {}
    differing = {
        name
        for name in {*folded, *case.told.fields}
        if folded.get(name) != case.told.fields.get(name)
    }
    if differing:
        yield f"the state hash is not the fold of the stream: {sorted(differing)}"


def _row_is_the_fold(case: Case) -> Iterator[str]:
    if case.row is None:
        yield "an acknowledged thread has no row"
        return
    state = from_fields(case.told.fields)
    if not case.told.fields and case.may_have_been_forgotten and case.row.status != "running":
        # Nothing had happened there that anybody remembers.
        return
    expected = thread_status(state, is_sub_job=case.row.is_sub_job)
    if case.row.status != expected:
        yield f"the row says {case.row.status}, the stream {expected}"
    if case.row.stream_id > state.mark:
        yield f"the row knows {case.row.stream_id}, the stream only {state.mark}"


def _accepted_once(case: Case) -> Iterator[str]:
    asked = {post.text for post in case.book.posts}
    for text, count in case.told.chats.items():
        if text not in asked:
            yield f"an entry that nobody posted: {text!r}"
        if count > 1:
            yield f"one key, {count} entries: {text!r}"


def _acknowledged_stands(case: Case) -> Iterator[str]:
    for post in case.book.posts:
        if post.entry_id and case.was_forgotten(int(post.entry_id[:15])):
            continue
        if post.entry_id and post.entry_id not in case.told.ids:
            yield f"acknowledged, not on the stream: {post.entry_id}"
        for dispatch_id in post.dispatches:
            if dispatch_id not in case.told.births:
                yield f"acknowledged, never queued: {dispatch_id}"
        if post.is_heard and not post.entry_id and not post.refusal:
            yield f"never answered: {post.text!r}"
        # An earlier try may have been on its way while a later one was refused.
        if post.refusal and post.tries == 1 and post.text in case.told.chats:
            yield f"refused, and yet on the stream: {post.text!r}"


def _ended_once(case: Case) -> Iterator[str]:
    for dispatch_id in case.told.births:
        ends = case.told.terminals.get(dispatch_id, [])
        if len(ends) != 1:
            yield f"{dispatch_id} has {len(ends)} terminals"


def _cancelled_stays_so(case: Case) -> Iterator[str]:
    asked: set[str] = set()
    for read in case.told.reads:
        match read.payload:
            case CancelRequested(dispatch_id=dispatch_id):
                asked.add(dispatch_id)
            case Started(dispatch_id=dispatch_id) if dispatch_id in asked:
                yield f"{dispatch_id} was started again after its cancel"
            case _:
                pass
    answered = [d for d, answer in case.book.cancelled.items() if answer == "cancelled"]
    if case.may_have_been_forgotten:
        return
    for dispatch_id in (*answered, *case.book.withdrawn):
        ends = case.told.terminals.get(dispatch_id, [])
        if not any(isinstance(end, Cancelled) for _, end in ends):
            yield f"{dispatch_id}: its cancel was answered, its end is another"


def _cancelled_all(case: Case) -> Iterator[str]:
    if case.may_have_been_forgotten:
        return
    for at_ms, started in case.told.starts.values():
        born_ms = milliseconds_of(EntryId(started.dispatch_id))
        if any(
            born_ms < cancel.asked_ms and at_ms > cancel.answered_ms
            for cancel in case.book.cancel_alls
        ):
            yield f"{started.dispatch_id} was started after all was cancelled"


def _effects_once(case: Case) -> Iterator[str]:
    runs = Counter((effect.dispatch_id, effect.step, effect.run_id) for effect in case.effects)
    steps = {what: len(effects) for what, effects in _by_step(case).items()}
    for known in forgiven(case):
        del steps[known]
    for what, count in (*runs.items(), *steps.items()):
        if count > 1:
            yield f"the effect of one step happened {count} times: {what}"


def _intents_stand(case: Case) -> Iterator[str]:
    intents = {
        content["id"]
        for read in case.told.reads
        if isinstance(read.payload, Assistant)
        for content in read.payload.message.get("content", [])
        if content.get("type") == "toolCall"
    }
    for effect in case.effects:
        if effect.call_id not in intents and not case.was_forgotten(effect.at_ms):
            yield f"an effect without its intent on the stream: {effect.call_id}"


def _nothing_is_left(case: Case) -> Iterator[str]:
    if case.row is not None:
        yield "deleted, and its row is there"
    if case.was_forgotten(case.book.deleted_ms):
        return
    tombstone = keys.state.__wrapped__(case.thread_id)  # type: ignore[arg-type]
    if case.told.keys not in ([tombstone], []) or set(case.told.fields) - {"deleted"}:
        yield f"deleted, and more than a tombstone is left: {case.told.keys}"


def _followers_saw_a_prefix(case: Case) -> Iterator[str]:
    if case.may_have_been_forgotten:
        return
    stands = {read.seq: read.id for read in case.told.reads if read.seq is not None}
    for seen in case.seen:
        numbers = [seq for seq, _ in seen.durable]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"a follower saw {_hole(numbers)}"
        if not case.book.deleting and any(
            stands.get(seq) != entry_id for seq, entry_id in seen.durable
        ):
            yield "a follower saw what does not stand on the stream"


def _hole(numbers: Sequence[int]) -> str:
    for earlier, later in zip([0, *numbers], numbers, strict=False):
        if later != earlier + 1:
            return f"{later} after {earlier}"
    return "nothing wrong"
