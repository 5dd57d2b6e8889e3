"""Whether members still see the threads they follow, asked of Postgres for many at once.

Followers ask every few seconds, all their lives. Those of one member who ask within a moment
share one statement; nothing is remembered, so every answer is as of after its question.
"""

import asyncio
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from dispatch.errors import ArbeError
from dispatch.ids import MemberId, ThreadId
from dispatch.stores.postgres import engine, threads

_GATHER_SECONDS: Final = 0.05
"""How long a question waits for others; nothing beside the seconds between two questions."""


class VisibleThreads:
    """One per process; it asks as the member, so row level security answers."""

    def __init__(self, members: AsyncEngine) -> None:
        self._members = members
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
        async with engine.as_member(self._members, member_id) as connection:
            return await threads.list_visible(connection, thread_ids=thread_ids)


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
