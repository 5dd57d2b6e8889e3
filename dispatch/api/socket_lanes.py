"""The conversations of one WebSocket: a lane per agent, each with at most one chat.

Promise: messages for one agent are answered in their order, for several at the same time.
A chat that was ended elsewhere is replaced by a new one, once per message.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from dispatch import log
from dispatch.api import socket_frames
from dispatch.api.socket_frames import Ask
from dispatch.chats.errors import ChatAlreadyClosed, ChatNotFound
from dispatch.errors import ArbeError, TooBusy
from dispatch.models.arc_turns import ChatTurn
from dispatch.models.houses import Caller
from dispatch.operations import arc_chats, arc_turns
from dispatch.operations.record import Record

_END_SECONDS: Final = 3.0
"""Chats are ended within this, all at once: less than a process gives its sockets."""
_RETRY_SECONDS: Final = 1.0

_log = log.get(__name__)


class Lane:
    """What one agent was asked, and the chat it is asked in."""

    def __init__(self) -> None:
        self.chat_id: str | None = None
        self.waiting: deque[tuple[Caller, Ask]] = deque()
        self.work: asyncio.Task[None] | None = None


class Lanes:
    """All of one socket; `send` takes a frame and waits until the client has room for it."""

    def __init__(
        self,
        record: Record,
        *,
        send: Callable[[str], Awaitable[None]],
        watch: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._record = record
        self._send = send
        self._watch = watch
        self._lanes: dict[str, Lane] = {}
        self._unanswered = 0
        self._openings: set[asyncio.Task[ChatTurn]] = set()
        self.quiet_since = asyncio.get_running_loop().time()
        """When the last answer ended."""

    @property
    def is_busy(self) -> bool:
        """Tell whether any message has no answer yet."""
        return self._unanswered > 0

    def take(self, who: Caller, ask: Ask) -> None:
        """Put a message into its lane.

        Raises: TooBusy, beyond `ws_max_waiting` messages or `ws_max_chats` agents.
        """
        settings = self._record.settings
        if self._unanswered >= settings.ws_max_waiting:
            raise TooBusy(
                f"{self._unanswered} messages of this socket wait (ARBE_WS_MAX_WAITING).",
                retry_after_seconds=_RETRY_SECONDS,
            )
        name = ask.agent_id.removeprefix("@")
        if name not in self._lanes and len(self._lanes) >= settings.ws_max_chats:
            raise TooBusy(
                f"This socket talks with {len(self._lanes)} agents (ARBE_WS_MAX_CHATS).",
                retry_after_seconds=_RETRY_SECONDS,
            )
        lane = self._lanes.setdefault(name, Lane())
        lane.waiting.append((who, ask))
        self._unanswered += 1
        if lane.work is None:
            lane.work = asyncio.create_task(self._answer_all(name, lane))
            self._watch(lane.work)

    async def stop(self) -> None:
        """Answer nothing more."""
        works = [lane.work for lane in self._lanes.values() if lane.work is not None]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    async def end(self, who: Caller, *, reason: str) -> None:
        """End every chat, all at once and in bounded time. Never raises what that raised."""
        try:
            async with asyncio.timeout(_END_SECONDS):
                await asyncio.gather(*self._openings, return_exceptions=True)
                chats = [lane.chat_id for lane in self._lanes.values() if lane.chat_id]
                await asyncio.gather(*(self._end(who, chat_id, reason) for chat_id in chats))
        except TimeoutError:
            _log.warning("socket.chats_left_open", after_seconds=_END_SECONDS)

    async def _end(self, who: Caller, chat_id: str, reason: str) -> None:
        try:
            await arc_chats.end(self._record, who, chat_id=chat_id, reason=reason)
        except (ChatNotFound, ChatAlreadyClosed):
            pass
        except ArbeError as error:
            _log.warning("socket.chat_left_open", chat_id=chat_id, cause=str(error))

    async def _answer_all(self, name: str, lane: Lane) -> None:
        while lane.waiting:
            who, ask = lane.waiting.popleft()
            try:
                await self._answer(lane, who, ask)
            except ArbeError as error:
                await self._send(socket_frames.refusal(error, ask))
            finally:
                self._unanswered -= 1
                self.quiet_since = asyncio.get_running_loop().time()
        lane.work = None
        if lane.chat_id is None:
            del self._lanes[name]

    async def _answer(self, lane: Lane, who: Caller, ask: Ask) -> None:
        turn = await self._post(lane, who, ask)
        async with aclosing(arc_turns.events(self._record, turn)) as events:
            async for event in events:
                frame = socket_frames.answer(event, turn, ask)
                if frame is not None:
                    await self._send(frame)

    async def _post(self, lane: Lane, who: Caller, ask: Ask) -> ChatTurn:
        said: dict[str, Any] = {"message": ask.message, "trace_id": ask.trace_id}
        if lane.chat_id is not None:
            try:
                return await arc_chats.send(self._record, who, chat_id=lane.chat_id, **said)
            except (ChatNotFound, ChatAlreadyClosed) as error:
                _log.info("socket.chat_replaced", chat_id=lane.chat_id, cause=error.code)
        # The id is ours, so that the chat can be ended whatever becomes of this call.
        lane.chat_id = f"chat-{uuid.uuid4().hex}"
        opening = asyncio.create_task(
            arc_chats.start(self._record, who, agent=ask.agent_id, chat_id=lane.chat_id, **said)
        )
        self._openings.add(opening)
        opening.add_done_callback(self._openings.discard)
        try:
            # A start that is cut off could leave a chat behind that nobody ends.
            return await asyncio.shield(opening)
        except ArbeError:
            lane.chat_id = None
            raise
