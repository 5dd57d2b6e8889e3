"""Rules of archives and restores, in all that else happens to a thread."""

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import rule

from dispatch.errors import ArbeError
from dispatch.ids import BEGINNING, EntryId, entry_of
from dispatch.models import archives as decisions
from dispatch.models.archives import Pointer
from dispatch.streams import archives, entries
from dispatch.streams.entries import Entry
from tests.streams.lives import Copy, Known, known_threads
from tests.streams.machine import Machine
from tests.streams.shelf import Kept


@dataclass
class Late:
    """Somebody who has packed a segment and goes on later."""

    known: Known
    seen: Pointer
    kept: Kept


class Archiving(Machine):
    """All rules, and the archive's."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[Late] = []

    @rule(
        known=known_threads,
        keep=st.sampled_from([1, 1, 3]),
        size=st.sampled_from([2, 5, 50]),
        late=st.integers(0, 3),
    )
    def archive(self, known: Known, keep: int, size: int, late: int) -> None:
        """As `operations.archive_thread` does, with the machine's shelf."""
        if known.deleted or self.is_missing(known):
            return
        self.touch(known)
        seen = self.play(archives.pointer(self.scene.connection, known.thread_id))
        kept = self._made(known, seen) or self._make(known, seen, keep=keep, size=size)
        if kept is None:
            return
        if late == 3:
            self.late.append(Late(known, seen, kept))
        else:
            self.trim(Late(known, seen, kept))

    @rule()
    def late_one_goes_on(self) -> None:
        if self.late:
            self.trim(self.late.pop(0))

    def _made(self, known: Known, seen: Pointer) -> Kept | None:
        kept = self.scene.shelf.made(known.thread_id, seen.text)
        if kept is None:
            return None
        stored = kept.read()
        if stored == self._head(known, seen, len(stored)):
            return kept
        self.scene.shelf.remove(known.thread_id, kept)
        return None

    def _make(self, known: Known, seen: Pointer, *, keep: int, size: int) -> Kept | None:
        thread_id, wire = known.thread_id, self.scene.connection
        count = self.play(archives.count_live(wire, thread_id)) - keep
        if count < 1:
            return None
        state = self.play(self.scene.state(thread_id))
        live = self._head(known, seen, min(count, size))
        chosen = decisions.head(live, state.dispatches, max_bytes=10**6)
        if not chosen:
            return None
        return self.scene.shelf.put(thread_id, seen.text, seen.last_id, chosen)

    def _head(self, known: Known, seen: Pointer, limit: int) -> list[Entry]:
        page = entries.page(
            self.scene.connection, known.thread_id, after=seen.last_id, limit=limit
        )
        return self.play(page)

    def trim(self, late: Late) -> str:
        known, wire = late.known, self.scene.connection
        if known.deleted or self.is_missing(known):
            return ""
        self.touch(known)
        thread_id = known.thread_id
        before = self.whole(known)
        pointer = self.play(archives.pointer(wire, thread_id))
        call = archives.trim(self.scene.scripts, thread_id, late.seen, late.kept.read())
        _, word = self.attempt(call)
        if word != "OK":
            return word
        assert pointer == late.seen, "whoever was overtaken archives nothing"
        assert self.play(archives.count_live(wire, thread_id)) > 0, "a last entry stays"
        assert self.whole(known) == before, "an archived thread reads as before"
        until = self.play(archives.pointer(wire, thread_id)).last_id
        for dispatch_id in self.play(self.scene.state(thread_id)).dispatches:
            assert entry_of(dispatch_id) > until, "what open work needs stays"
        return word

    def whole(self, known: Known) -> list[Entry]:
        return self.play(self.scene.stream(known.thread_id))

    @rule(known=known_threads, posts=st.booleans(), swept=st.booleans())
    def restore(self, known: Known, posts: bool, swept: bool) -> None:
        """As `operations.restore_thread` does; somebody may post in between."""
        if known.deleted or self.is_missing(known):
            return
        self.touch(known)
        thread_id, scripts = known.thread_id, self.scene.scripts
        seen = self.play(archives.pointer(self.scene.connection, thread_id))
        if seen.last_id == BEGINNING:
            return
        before = [entry for entry in self.whole(known) if entry.id <= seen.last_id]
        newest = self.scene.newest(thread_id)
        try:
            last: EntryId = BEGINNING
            for start in range(0, len(before), 7):
                some = before[start : start + 7]
                call = archives.refill(scripts, thread_id, seen, after=last, entries=some)
                last = self.play(call)
            if posts:
                self.post(known, self.new_key(), [])
            call = archives.refill(scripts, thread_id, seen, after=last)
            self.play(call)
            whole, newest = self.whole(known), self.scene.newest(thread_id)
            word = self.play(
                archives.swap_in(scripts, thread_id, seen, archived_count=len(before))
            )
        except ArbeError:
            return  # a run is under way, or Redis had forgotten something first
        assert word == "ok"
        assert self.whole(known) == whole, "a restored thread reads as before"
        assert self.scene.newest(thread_id) == newest, "ids never come again"
        assert self.scene.redis.ttl(f"arbe-thread-{thread_id}") == -1
        self.scene.shelf.drop(thread_id)
        if swept:
            self.an_hour_passes(known)

    def an_hour_passes(self, known: Known) -> None:
        """Nobody stands still that long, nor does Redis forget that much."""
        self.late = [late for late in self.late if late.known is not known]
        known.copy = Copy()
        pointer = self.play(archives.pointer(self.scene.connection, known.thread_id))
        self.scene.shelf.sweep(known.thread_id, pointer.last_id)
