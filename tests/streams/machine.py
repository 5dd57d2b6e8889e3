"""Random lives of a few threads on a real Redis, every promise checked after every step.

Every fence ever issued stays in play, so each former holder is a zombie. Answers get lost (the
call is sent again), time jumps past every clock and back, chunks are compacted, threads are
deleted, Redis restarts, comes back older or empty; followers read a page now and then.
"""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import rule

from dispatch.ids import BEGINNING, EntryId
from dispatch.payloads.signals import StreamRollback
from tests.streams.lives import Known, known_threads
from tests.streams.machine_forgetting import Forgetting
from tests.streams.scene import Read

GAPLESS = "a follower has seen a gapless prefix"


@dataclass
class Follower:
    """Somebody with a cursor, and the durable entries that came after it so far."""

    cursor: EntryId = BEGINNING
    seen: list[EntryId] = field(default_factory=list)
    seq: int = 0


class Machine(Forgetting):
    """All rules; subclasses say on which scene they play."""

    def __init__(self) -> None:
        super().__init__()
        self.followers: dict[int, Follower] = {}

    @rule(known=known_threads, limit=st.sampled_from([1, 2, 7, 500]), anew=st.integers(0, 9))
    def follower_reads(self, known: Known, limit: int, anew: int) -> None:
        """Each thread has one; now and then it is somebody new."""
        follower = self.followers.setdefault(id(known), Follower())
        if anew == 5:
            follower = self.followers[id(known)] = Follower()
        if known.deleted:
            return
        page = self.scene.entries.page(known.thread_id, after=follower.cursor, limit=limit)
        for entry in map(Read.of, self.play(page)):
            self._hear(follower, entry)
        if not known.lost and known.owed is None:
            stands = [entry.id for entry in self.look(known) if entry.seq is not None]
            assert follower.seen == [each for each in stands if each <= follower.cursor], (
                GAPLESS
            )

    def _hear(self, follower: Follower, entry: Read) -> None:
        assert entry.id > follower.cursor, GAPLESS
        follower.cursor = entry.id
        if entry.seq is None:
            return
        if isinstance(entry.payload, StreamRollback):
            kept = entry.payload.kept or ""
            follower.seen = [each for each in follower.seen if each <= kept]
            follower.seq = len(follower.seen)
        assert entry.seq == follower.seq + 1, GAPLESS
        follower.seq = entry.seq
        follower.seen.append(entry.id)

    def forgotten(self, known: Known, last: str) -> None:
        """A loss that no row can prove is told to nobody: such a follower begins anew."""
        follower = self.followers.get(id(known))
        if follower is not None and follower.cursor > last and known.owed is None:
            self.followers[id(known)] = Follower()
