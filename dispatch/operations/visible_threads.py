"""Whether members still see the threads they follow, asked of Postgres for many at once.

Followers ask every few seconds, all their lives. Those of one member who ask within a moment
share one statement; nothing is remembered, so every answer is as of after its question.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from dispatch.errors import ArbeError
from dispatch.ids import MemberId, ThreadId

ListVisible = Callable[[MemberId, set[ThreadId]], Awaitable[frozenset[ThreadId]]]
_GATHER_SECONDS: Final = 0.05
"""How long a question waits for others; nothing beside the seconds between two questions."""


class VisibleThreads:
    """One per process. `list_visible` returns those of some threads that the member sees."""

    def __init__(self, list_visible: ListVisible) -> None:
        self._list_visible = list_visible
        self._gathering: dict[MemberId, _Batch] = {}

    async def sees(self, member_id: MemberId, thread_id: ThreadId) -> bool:
        """Tell whether the member may read the thread now.

        Raises: Unavailable.
        """
        batch = self._gathering.get(member_id)
        if batch is None:
            batch = self._gathering[member_id] = _Batch()
            batch.answer = asyncio.create_task(self._ask(member_id))
            batch.answer.add_done_callback(_retrieve)
        batch.thread_ids.add(thread_id)
        # One that stops waiting must not take the answer from the others.
        return thread_id in await asyncio.shield(batch.answer)

    async def _ask(self, member_id: MemberId) -> frozenset[ThreadId]:
        await asyncio.sleep(_GATHER_SECONDS)
        thread_ids = self._gathering.pop(member_id).thread_ids
        return await self._list_visible(member_id, thread_ids)


class _Batch:
    """Questions of one member that leave together."""

    __slots__ = ("answer", "thread_ids")

    answer: asyncio.Task[frozenset[ThreadId]]

    def __init__(self) -> None:
        self.thread_ids: set[ThreadId] = set()


def _retrieve(task: asyncio.Task[frozenset[ThreadId]]) -> None:
    """Look at a failure that all who waited for have left, so that asyncio does not warn."""
    if not task.cancelled() and not isinstance(task.exception(), ArbeError | None):
        task.get_loop().call_exception_handler(
            {"message": "asking for rights failed", "exception": task.exception()}
        )
