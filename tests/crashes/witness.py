"""Reads a thread's stream as `promises.Witness` does, and knows the busy lanes' words too."""

from dataclasses import dataclass, field

from dispatch.payloads.signals import (
    Cancelled,
    Checkpoint,
    Completed,
    Failed,
    FellThrough,
    RunLost,
    Steered,
    StreamRollback,
)
from tests.streams.promises import Run, Witness
from tests.streams.scene import Read


@dataclass
class Told(Witness):
    """A witness of every transition; stops at the first broken promise."""

    rolled_back: bool = False
    """Redis forgot: what stands before it ended there, or was lost."""
    effects: set[str] = field(default_factory=set)
    """Dispatches whose last run was seen, and ended."""

    def _turned(self, entry: Read) -> None:
        match entry.payload:
            case RunLost(run_id=run_id, reason="error"):
                self._left(run_id)
            case Checkpoint(run_id=run_id):
                self.runs[run_id].effects = False
            case Steered() as steered:
                self._steered(steered, entry)
            case FellThrough(dispatch_id=dispatch_id, target=target):
                assert dispatch_id not in self.ended, "what fell through waits"
                assert target in self.ended, "the turn it was to steer has ended"
            case StreamRollback():
                self.rolled_back = True
            case _:
                super()._turned(entry)

    def _steered(self, steered: Steered, entry: Read) -> None:
        assert entry.writer is not None
        assert entry.writer.startswith(f"{steered.run_id}:"), "a run takes in what it was told"
        assert self.births[steered.dispatch_id].steers == steered.into
        assert self.runs[steered.run_id].started.dispatch_id == steered.into
        assert steered.dispatch_id not in self.ended, "one terminal per dispatch"
        self.ended.add(steered.dispatch_id)

    def _left(self, run_id: str | None) -> Run:
        run = super()._left(run_id)
        dispatch_id = run.started.dispatch_id
        if run.effects:
            self.effects.add(dispatch_id)
        if self.births[dispatch_id].repeatable:
            self.spoiled.discard(dispatch_id)
        return run

    def _reaped(self, run_id: str | None, at_ms: int) -> None:
        if self.rolled_back:
            self._left(run_id)
        else:
            super()._reaped(run_id, at_ms)

    def _ended(self, terminal: Completed | Failed | Cancelled, entry: Read, at_ms: int) -> None:
        super()._ended(terminal, entry, at_ms)
        if self.orphaned is not None and isinstance(terminal, Failed):
            known = {
                "orphaned",
                "attempts_exhausted",
                "never_started",
                "run_timeout",
                "no_progress",
                "stream_rollback",
            }
            assert terminal.reason in known
