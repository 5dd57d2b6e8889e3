"""The one voice of a run: its events reach the stream in order, fenced, numbered, or not.

Chunks are gathered for a moment and joined, so that a model's words cost one call to Redis per
`chunk_seconds`, not one each; everything else is written at once, together with what waits
before it. Not guaranteed: that a run whose record cannot be reached gets its events written; it
gives up after two thirds of its lease, before anybody else may be given its lane.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Literal, TypeVar

import msgspec

from dispatch import clock, log, payloads
from dispatch.config import Settings
from dispatch.errors import ArbeError, Fenced, Invalid, TooLarge, Unavailable
from dispatch.ids import EntryId, WorkerId
from dispatch.models import mentions
from dispatch.payloads import content
from dispatch.payloads.llm import Assistant, Chunk, ToolResult
from dispatch.payloads.signals import (
    Checkpoint,
    Completed,
    Delegated,
    PermissionRequested,
    Retrying,
    Terminal,
)
from dispatch.streams import entries, replies, runs, threads
from dispatch.streams.connection import Connection
from dispatch.streams.replies import ReplyRef
from dispatch.streams.runs import Fence
from dispatch.streams.scripts import Scripts
from workers.outcomes import Cancelled, Failed, Interrupted, LeaseLost, Waiting

_log = log.get(__name__)
Answer = TypeVar("Answer")
Question = TypeVar("Question", PermissionRequested, Delegated)
_RETRY_SECONDS: Final = 0.25
_PASS_ON_SECONDS: Final = 2.0
"""Whoever ended a turn passes its answer on at once; after this long it will not."""
_NO_PROGRESS: Final = "The agent said nothing for longer than its progress limit."
Stop = Cancelled | Failed | Interrupted | Waiting | LeaseLost


class RunWriter:
    """Writes for one run from its claim to its end. One loop, many tasks; never two at once."""

    def __init__(
        self,
        scripts: Scripts,
        connection: Connection,
        *,
        fence: Fence,
        started_id: EntryId,
        worker_id: WorkerId,
        settings: Settings,
    ) -> None:
        self.fence = fence
        self.stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        """Set once, when the run must end though its agent has not: why."""
        self.has_effects = False
        """Since its last checkpoint a follower may have seen something of this run."""
        self._scripts = scripts
        self._connection = connection
        self._worker_id = worker_id
        self._settings = settings
        self._next_n = 1
        self._lock = asyncio.Lock()
        self._chunks: list[Chunk] = []
        self._chunk_bytes = 0
        self._flushed_at = 0.0
        self._timer: asyncio.Task[None] | None = None
        self._writes: set[asyncio.Task[None]] = set()
        self._compacted_to = started_id
        self._last_id = started_id
        self._confirmed_at = clock.monotonic_seconds()
        self._answer: Assistant | None = None

    @property
    def may_name_agents(self) -> bool:
        """Tell whether the turn's answer, as far as this run knows it, may name agents.

        A run that went on from a checkpoint may end with words of the run before it.
        """
        if self._answer is None:
            return True
        return bool(mentions.mentioned(content.text_of(self._answer.message)))

    @property
    def silent_seconds(self) -> float:
        """Return how long ago the record last heard of this run."""
        return clock.monotonic_seconds() - self._confirmed_at

    def stop(self, why: Stop) -> None:
        """Ask the run to end; the first reason stays."""
        if not self.stopped.done():
            self.stopped.set_result(why)

    async def emit(
        self,
        payload: payloads.LLMPayload | Retrying,
        *,
        checkpoint: dict[str, Any] | None = None,
    ) -> None:
        """Append an event; a chunk may wait up to `chunk_seconds` first.

        Args: checkpoint: stands with the event, in one step: from here another run can go on.
        Raises: Fenced (the run must end), TooLarge, Conflict (`stream_full`); Invalid for what
        is not an agent's to say: signals are the record's own, but for `retrying`.
        """
        if not payloads.is_llm_payload(payload) and not isinstance(payload, Retrying):
            raise Invalid(f"An agent cannot append '{payloads.type_of(payload)}'.")
        if isinstance(payload, Chunk) and checkpoint is None:
            await self._gather(payload)
            return
        events = [self._encoded(payload)]
        if checkpoint is not None:
            events.append(
                self._encoded(
                    Checkpoint(
                        dispatch_id=self.fence.dispatch_id,
                        run_id=self.fence.run_id,
                        state=checkpoint,
                    )
                )
            )
        await self._unbroken(self._write(events))

    async def take_steering(self, step: int) -> list[bytes]:
        """Take in the entries that were posted to steer this turn; their JSON, in order.

        Raises: Fenced (the run must end).
        """
        taken: list[bytes] = []
        await self._unbroken(self._take(step, taken))
        return taken

    def _encoded(self, payload: payloads.KnownPayload) -> tuple[payloads.KnownPayload, bytes]:
        raw = payloads.encode(payload)
        if len(raw) > self._settings.max_payload_bytes:
            raise TooLarge(
                f"A {payloads.type_of(payload)} event",
                limit_bytes=self._settings.max_payload_bytes,
                setting="ARBE_MAX_PAYLOAD_BYTES",
            )
        return payload, raw

    async def renew(self) -> None:
        """Say that the run lives, if it was silent."""
        written = await self._confirm(lambda: runs.renew(self._scripts, self.fence))
        self._heed(written.cancel_reason)

    async def assert_held(self) -> None:
        """Return if the record has confirmed this run a moment ago; ask it if it has not.

        For what happens outside the record: a process that was paused since its intent, and
        reaped meanwhile, must not act on it any more.
        Raises: Fenced (the run must end), Unavailable (given up).
        """
        if self.silent_seconds >= self._settings.heartbeat_seconds:
            await self.renew()

    async def finish(self, terminal: Terminal) -> EntryId:
        """Write what waits and the terminal, in one call.

        Raises: Fenced, Unavailable (given up; the lease will end by itself).
        """
        async with self._lock:
            events = self._take_chunks()
            return await self._confirm(lambda: self._finish(terminal, events))

    async def _finish(
        self, terminal: Terminal, events: list[tuple[payloads.KnownPayload, bytes]]
    ) -> EntryId:
        if isinstance(terminal, Completed) and self.may_name_agents:
            # Before the end: whoever dies after it leaves the note, and a sweep passes it on.
            ref = ReplyRef(self.fence.thread_id, self.fence.dispatch_id)
            await replies.note(self._connection, ref, after_seconds=_PASS_ON_SECONDS)
        return await runs.finish(
            self._scripts,
            self.fence,
            terminal,
            events,
            n=self._next_n,
            worker_id=self._worker_id,
            redeliver_after_seconds=self._settings.redeliver_after_seconds,
        )

    async def release(self) -> Literal["released", "effects", "cancelling"]:
        """Give the dispatch back, if it may be taken up again; see `runs.release`."""
        async with self._lock:
            return await self._confirm(
                lambda: runs.release(self._scripts, self.fence, worker_id=self._worker_id)
            )

    async def ask(self, question: Question, *, wait_seconds: float) -> Question:
        """Put a question on the stream; returns it with its id. Raises: Fenced."""
        asked: list[Question] = []
        await self._unbroken(self._ask(question, wait_seconds, asked))
        return asked[0]

    async def wait(self) -> Literal["waiting", "answered", "effects", "cancelling"]:
        """Give the dispatch back until its questions are answered; see `runs.wait`."""
        async with self._lock:
            return await self._confirm(
                lambda: runs.wait(
                    self._scripts,
                    self.fence,
                    worker_id=self._worker_id,
                    redeliver_after_seconds=self._settings.redeliver_after_seconds,
                )
            )

    async def retry(self, message: str) -> Literal["retried", "exhausted", "cancelling"]:
        """Let the dispatch be tried again after its agent broke down; see `runs.retry`."""
        async with self._lock:
            return await self._confirm(
                lambda: runs.retry(
                    self._scripts, self.fence, message=message, worker_id=self._worker_id
                )
            )

    async def _gather(self, chunk: Chunk) -> None:
        self._chunk_bytes += len(chunk.delta or "")
        if self._chunks and _continues(self._chunks[-1], chunk):
            last = self._chunks[-1]
            joined = (last.delta or "") + (chunk.delta or "")
            self._chunks[-1] = msgspec.structs.replace(last, delta=joined)
        else:
            self._chunks.append(chunk)
        waited = clock.monotonic_seconds() - self._flushed_at
        if (
            waited >= self._settings.chunk_seconds
            or self._chunk_bytes >= self._settings.chunk_bytes
        ):
            await self._unbroken(self._flush())
        elif self._timer is None or self._timer.done():
            self._timer = asyncio.create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await asyncio.sleep(self._settings.chunk_seconds)
        try:
            await self._flush()
        except (Fenced, Unavailable):
            # `stopped` is set: the turn ends, and the next emit says the same to the agent.
            _log.info("chunks.dropped", dispatch_id=self.fence.dispatch_id)

    async def _unbroken(self, write: Coroutine[Any, Any, None]) -> None:
        """Let a write run to its answer though its caller is cancelled: `n` must stay known."""
        task = asyncio.create_task(write)
        self._writes.add(task)
        task.add_done_callback(self._forget)
        await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.info("write.refused", dispatch_id=self.fence.dispatch_id)

    async def _write(self, events: list[tuple[payloads.KnownPayload, bytes]]) -> None:
        async with self._lock:
            entry_id = await self._append([*self._take_chunks(), *events])
        if isinstance(events[0][0], Assistant) and content.is_finished(events[0][0].message):
            self._answer = events[0][0]
        if isinstance(events[0][0], Assistant | ToolResult) and entry_id is not None:
            await self._compact(entry_id)

    async def _take(self, step: int, taken: list[bytes]) -> None:
        async with self._lock:
            await self._append(self._take_chunks())
            answer = await self._confirm(
                lambda: runs.take(self._scripts, self.fence, n=self._next_n, step=step)
            )
            self._next_n += len(answer.entries)
            self.has_effects = self.has_effects or bool(answer.entries)
        taken.extend(raw for _, raw in answer.entries)
        self._heed(answer.cancel_reason)

    async def _ask(
        self, question: Question, wait_seconds: float, asked: list[Question]
    ) -> None:
        async with self._lock:
            await self._append(self._take_chunks())
            named = question
            if not isinstance(question, Delegated):
                name = f"{self.fence.dispatch_id}.{self.fence.run_id}.{self._next_n}"
                named = msgspec.structs.replace(question, permission_id=name)
            written = await self._confirm(
                lambda: runs.ask(
                    self._scripts,
                    self.fence,
                    named,
                    n=self._next_n,
                    wait_seconds=wait_seconds,
                )
            )
            self._next_n += 1
        asked.append(named)
        self._heed(written.cancel_reason)

    async def _flush(self) -> None:
        async with self._lock:
            await self._append(self._take_chunks())

    def _take_chunks(self) -> list[tuple[payloads.KnownPayload, bytes]]:
        chunks, self._chunks, self._chunk_bytes = self._chunks, [], 0
        self._flushed_at = clock.monotonic_seconds()
        return [(chunk, payloads.encode(chunk)) for chunk in chunks]

    async def _append(
        self, events: list[tuple[payloads.KnownPayload, bytes]]
    ) -> EntryId | None:
        if not events:
            return None
        written = await self._confirm(
            lambda: runs.append(
                self._scripts,
                self.fence,
                events,
                n=self._next_n,
                # The poster is refused at the limit; a run under way may still end its turn.
                max_stream_entries=2 * self._settings.max_stream_entries,
            )
        )
        self._next_n += len(events)
        self.has_effects = not isinstance(events[-1][0], Checkpoint)
        self._last_id = written.entry_id or self._last_id
        self._heed(written.cancel_reason)
        return written.entry_id

    async def _confirm(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send one write until it is answered; every write may be sent twice."""
        while True:
            asked_at = clock.monotonic_seconds()
            try:
                answer = await call()
            except Fenced as fenced:
                self.stop(LeaseLost())
                if fenced.answer == "GAP":
                    await self._tell_forgotten()
                raise
            except Unavailable:
                if self.give_up():
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._confirmed_at = asked_at
            return answer

    async def _tell_forgotten(self) -> None:
        """Let the thread know that Redis has forgotten what it confirmed to this run."""
        with contextlib.suppress(ArbeError):
            await threads.revalidate(
                self._scripts, self.fence.thread_id, witness=self._last_id, was_running=True
            )

    def give_up(self) -> bool:
        """Stop the run if its lease may soon be over unheard; tell whether it was.

        Counted from before the last confirmed request, so we give up before the record does.
        """
        if self.silent_seconds < self._settings.lease_seconds * 2 / 3:
            return False
        self.stop(LeaseLost())
        return True

    def _heed(self, cancel_reason: str | None) -> None:
        if cancel_reason == "no_progress":
            self.stop(Failed(reason=cancel_reason, message=_NO_PROGRESS))
        elif cancel_reason is not None:
            self.stop(Cancelled(cancel_reason))

    async def _compact(self, message_end: EntryId) -> None:
        """Delete the chunks a finished message replaces. Missed ones are only clutter."""
        start, self._compacted_to = self._compacted_to, message_end
        try:
            await entries.discard_chunks(
                self._scripts,
                self.fence.thread_id,
                self.fence.run_id,
                start=start,
                end=message_end,
            )
        except Unavailable:
            _log.info("chunks.kept", dispatch_id=self.fence.dispatch_id)


def _continues(last: Chunk, chunk: Chunk) -> bool:
    """Tell whether two chunks are pieces of one text, so that they may be joined."""
    return (
        chunk.kind in {"text", "thinking", "toolOutput"}
        and not chunk.replace
        and msgspec.structs.replace(chunk, delta=None)
        == msgspec.structs.replace(last, delta=None, replace=False)
    )
