"""Keeps the whole of a long output while its command runs; memory holds one part of it."""

from dispatch import ids, log
from dispatch.errors import Unavailable
from dispatch.ids import ThreadId
from dispatch.operations import outputs
from dispatch.operations.record import Record
from workers.sandboxes import KeptOutput

_log = log.get(__name__)


class Keeper:
    """Takes one command's output in the order it was written."""

    def __init__(self, record: Record, thread_id: ThreadId) -> None:
        self._record = record
        self._thread_id = thread_id
        self._ref = ids.uuid7()
        self._waiting = bytearray()
        self._kept_bytes = 0
        self._parts = 0
        self._cut = False

    async def take(self, data: bytes) -> None:
        """Take the next bytes; keep a part when there is enough for one.

        Promise: a Postgres that is away stops the keeping, never the command.
        """
        if self._cut:
            return
        limit = self._record.settings.max_kept_output_bytes
        room = limit - self._kept_bytes - len(self._waiting)
        self._waiting += data[:room]
        self._cut = len(data) > room
        while len(self._waiting) >= outputs.PART_BYTES:
            await self._keep(outputs.PART_BYTES)

    async def finish(self, *, total_bytes: int, shown_bytes: int) -> KeptOutput | None:
        """Keep the rest; return where it is. None when all was shown, or nothing is kept."""
        if total_bytes > shown_bytes and self._waiting:
            await self._keep(len(self._waiting))
        if not self._parts:
            return None
        return KeptOutput(
            ref=str(self._ref), bytes=self._kept_bytes, truncated=self._kept_bytes < total_bytes
        )

    async def _keep(self, size: int) -> None:
        part = bytes(self._waiting[:size])
        del self._waiting[:size]
        try:
            is_kept = await outputs.append(
                self._record, self._thread_id, self._ref, part=self._parts, data=part
            )
        except Unavailable as error:
            _log.warning("output.not_kept", thread_id=str(self._thread_id), cause=error.server)
            is_kept = False
        if not is_kept:
            self._cut = True
            self._waiting.clear()
            return
        self._parts += 1
        self._kept_bytes += len(part)
