"""Rules of a Redis that forgets, and of the row that remembers."""

from hypothesis import strategies as st
from hypothesis.stateful import multiple, rule

from dispatch.payloads.signals import StreamRollback
from tests.streams import forgetting
from tests.streams.lives import LANES, Copy, Holder, Known, holders, known_threads
from tests.streams.machine_scenes import Scenes
from tests.streams.scene import RETRYING, Read


class Forgetting(Scenes):
    """Redis starts anew, comes back older, or empty."""

    @rule(known=known_threads, word=st.sampled_from(["project", "copy", "open"]))
    def somebody_minds(self, known: Known, word: str) -> None:
        self.touch(known)
        if word == "project" and not known.deleted:
            self.play(self.project(known))
        elif word == "copy":
            self.back_up(known)
        elif self.is_missing(known):
            self.open_anew(known)

    def back_up(self, known: Known) -> None:
        if known.deleted or self.is_missing(known) or known.owed is not None:
            return
        known.copy = Copy(
            forgetting.back_up(self.scene.redis, known.thread_id),
            self.look(known)[-1].id,
            self.scene.newest(known.thread_id),
            known.rollbacks,
            dict(known.accepted),
            set(known.acknowledged),
        )

    @rule(
        known=known_threads,
        word=st.sampled_from(["restarts", "restarts", "comes back older", "is flushed"]),
        restarts=st.booleans(),
    )
    def redis_fails(self, known: Known, word: str, restarts: bool) -> None:
        if word == "restarts":
            self.scene.restart_redis()
        elif word == "is flushed":
            self.lose(known, Copy(), restarts=restarts)
        else:
            self.lose(known, known.copy, restarts=True)

    @rule(
        target=holders,
        known=known_threads,
        lane=LANES,
        kept=st.sampled_from(["nothing", "before", "started", "started", "ended"]),
        back=st.booleans(),
        then=st.lists(
            st.sampled_from(["append", "finish", "release", "take", "expire", "post"]),
            min_size=1,
            max_size=3,
        ),
    )
    def redis_forgets_runs(self, known, lane: int, kept: str, back: bool, then: list[str]):
        """The row has seen more of a run than Redis kept; then somebody goes on. Repeatedly."""
        for word in then:
            holder = self._forgets_a_run(self.living(known), lane, kept, word, back=back)
        return holder

    def _forgets_a_run(self, known: Known, lane: int, kept: str, then: str, *, back: bool):
        if known.deleted:
            return multiple()
        if self.is_missing(known):
            self.open_anew(known)
        self.back_up(known)
        holder = self.hold(known, self.lane(lane))
        if not isinstance(holder, Holder):
            return multiple()
        if kept == "started":
            self.back_up(known)
        if kept != "before":
            self.end(holder)
        self.play(self.project(known))
        if kept != "ended":
            self.lose(known, Copy() if kept == "nothing" else known.copy, restarts=True)
        if back:
            self.went_back = True
            self.scene.clock.advance(-100)
        self._goes_on(holder, then)
        return holder

    def _goes_on(self, holder: Holder, then: str) -> None:
        known = holder.known
        match then:
            case "append":
                self.write(holder, [RETRYING])
            case "finish":
                self.end(holder)
            case "take":
                self.take(holder, 1, answer_lost=False)
            case "expire":
                self.scene.clock.advance(self.scene.settings.lease_seconds + 101)
                self.look_at(known, holder.fence.lane)
            case "post":
                self.post(known, self.new_key(), [self.lane(0)])
            case _:
                self.holder_does(holder, then)

    def lose(self, known: Known, copy: Copy, *, restarts: bool) -> None:
        """Let Redis hold of a thread what it held when the copy was made."""
        if known.deleted:
            return
        kept, last = self._still_archived(known, copy)
        forgetting.load(self.scene.redis, known.thread_id, copy.backup)
        self.scene.clock.advance(1)
        if restarts:
            self.scene.restart_redis()
        known.lost, known.is_lossy = not copy.last, True
        ids = {entry.id for entry in kept}
        known.acknowledged = set(copy.acknowledged) | (known.acknowledged & ids)
        known.burned |= {key for key, it in known.accepted.items() if it.entry_id in ids}
        known.accepted = {
            **copy.accepted,
            **{key: known.accepted[key] for key in known.burned & set(known.accepted)},
        }
        witness = max(known.mark, self.scene.shelf.last(known.thread_id) or "")
        known.owed = last if witness > copy.newest else None
        told = sum(isinstance(entry.payload, StreamRollback) for entry in kept)
        known.rollbacks = copy.rollbacks + told
        self.channels.forget(known.thread_id, last=last)
        self.forgotten(known, last)
        self.touch(known)

    def _still_archived(self, known: Known, copy: Copy) -> tuple[list[Read], str]:
        """Return what the archive keeps when Redis loses all of a thread; its last entry."""
        last = self.scene.shelf.last(known.thread_id)
        if copy.last or last is None:
            return [], copy.last
        found = self.scene.shelf.everything(known.thread_id, last)
        return [Read.of(entry) for entry in found], last

    def forgotten(self, known: Known, last: str) -> None:
        """Tell those who have read beyond what Redis kept."""
