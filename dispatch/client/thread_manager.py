"""One conversation with each agent, for the length of a session (a WebSocket, a script).

    agent ─▶ chat id      the first message starts a chat, the next ones go on in it

Kept in this object alone: a session that ends without `end_all_chats` leaves its chats open.
Make one per connection; never share one between users.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any, Literal, overload

from dispatch import log
from dispatch.client import foreign
from dispatch.client.arc_answers import ARCEvent, ArcRefusal, ARCResponse
from dispatch.client.connection import Json
from dispatch.client.foreign import ArcClient

_log = log.get(__name__)


class ThreadManager:
    """The chats of one session over any ARC client: ours, or the protocol's own SDK's.

    Promise: however many messages go to an agent at once, they share one chat. A chat that was
    closed elsewhere, or is not there any more, is replaced by one new one, once per message.
    Not guaranteed: an order among messages that are sent to one agent at the same time.
    """

    def __init__(self, arc_client: ArcClient) -> None:
        self.client = arc_client
        self.mappings: dict[str, str] = {}
        self._starting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Held while a chat is started, until its id is known, or ended."""

    @overload
    async def send_to_agent(
        self,
        agent_id: str,
        message: Json,
        trace_id: str | None = None,
        timeout: float | None = None,
        stream: Literal[False] = False,
    ) -> ARCResponse: ...
    @overload
    async def send_to_agent(
        self,
        agent_id: str,
        message: Json,
        trace_id: str | None = None,
        timeout: float | None = None,
        *,
        stream: Literal[True],
    ) -> AsyncGenerator[ARCEvent]: ...
    @overload
    async def send_to_agent(
        self,
        agent_id: str,
        message: Json,
        trace_id: str | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> Any: ...
    async def send_to_agent(
        self,
        agent_id: str,
        message: Json,
        trace_id: str | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> ARCResponse | AsyncGenerator[ARCEvent]:
        """Say something to an agent, in the chat there is or in a new one.

        Args: message: `{role, parts: [{type: "TextPart", content}]}`. timeout: seconds for the
        whole answer, or for the silence within a stream.
        Returns: the envelope; with `stream`, events that end with `done` or `error`, for which
        the message is sent when the first of them is asked for.
        Raises: ArcRefusal (`arc_code`), Unauthenticated, Unavailable; within a stream what the
        agent or the server refuses is an `error` event.
        """
        more = {"stream": stream, "trace_id": trace_id, "timeout": timeout}
        if stream:
            return self._stream(agent_id, message, more)
        return await self._send(agent_id, message, more)

    async def send_message(
        self,
        target_agent: str,
        message: Json,
        trace_id: str | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> Any:
        """Do as `send_to_agent`."""
        return await self.send_to_agent(target_agent, message, trace_id, timeout, stream)

    async def end_chat(
        self, agent_id: str, reason: str | None = None, trace_id: str | None = None
    ) -> ARCResponse | None:
        """End the chat with an agent; None if there is none, or it was ended elsewhere.

        Promise: on return it is closed and forgotten. After an error it is kept: end it again.
        """
        async with self._starting[agent_id]:
            chat_id = self.mappings.get(agent_id)
            if chat_id is None:
                return None
            call = self.client.chat.end(
                target_agent=agent_id, chat_id=chat_id, reason=reason, trace_id=trace_id
            )
            try:
                answer = await foreign.answer(call)
            except ArcRefusal as error:
                if not error.chat_is_lost:
                    raise
                answer = None
            self._forget(agent_id, chat_id)
            return answer

    async def end_thread(
        self, agent_id: str, reason: str | None = None, trace_id: str | None = None
    ) -> ARCResponse | None:
        """Do as `end_chat`."""
        return await self.end_chat(agent_id, reason, trace_id)

    async def end_all_chats(self, reason: str | None = None) -> dict[str, bool]:
        """End every chat, all at once; call it when the session ends.

        Returns: per agent, whether its chat is closed now. Never raises what ending one raised.
        """
        starting = (agent for agent, lock in self._starting.items() if lock.locked())
        agents = list(dict.fromkeys([*self.mappings, *starting]))
        answers = await asyncio.gather(
            *(self.end_chat(agent, reason) for agent in agents), return_exceptions=True
        )
        ended: dict[str, bool] = {}
        for agent, answer in zip(agents, answers, strict=True):
            ended[agent] = not isinstance(answer, BaseException)
            if not ended[agent]:
                _log.warning("chat.not_ended", agent_id=agent, cause=str(answer))
        return ended

    async def cleanup_all(self, reason: str | None = None) -> dict[str, bool]:
        """Do as `end_all_chats`."""
        return await self.end_all_chats(reason)

    def get_thread_id(self, agent_id: str) -> str | None:
        """Return the id of the chat with an agent."""
        return self.mappings.get(agent_id)

    def has_thread(self, agent_id: str) -> bool:
        """Tell whether there is a chat with an agent."""
        return agent_id in self.mappings

    def get_all_agents(self) -> list[str]:
        """Return the agents there are chats with."""
        return list(self.mappings)

    def get_thread_count(self) -> int:
        """Return how many chats there are."""
        return len(self.mappings)

    def store_thread_id(self, agent_id: str, chat_id: str) -> None:
        """Go on in a chat that was started elsewhere."""
        self.mappings[agent_id] = chat_id

    def remove_thread_id(self, agent_id: str) -> str | None:
        """Forget a chat without ending it; return its id."""
        return self.mappings.pop(agent_id, None)

    def clear(self) -> None:
        """Forget every chat without ending it."""
        self.mappings.clear()

    async def _send(self, agent_id: str, message: Json, more: Json) -> ARCResponse:
        chat_id = self.mappings.get(agent_id)
        if chat_id is not None:
            try:
                return await foreign.answer(self._say(agent_id, chat_id, message, more))
            except ArcRefusal as error:
                self._require_lost(agent_id, chat_id, error)
        async with self._starting[agent_id]:
            other_id = self.mappings.get(agent_id)
            if other_id is None:
                return await self._start(agent_id, message, more)
        return await foreign.answer(self._say(agent_id, other_id, message, more))

    async def _start(self, agent_id: str, message: Json, more: Json) -> ARCResponse:
        """Start the chat; the caller holds the lock."""
        try:
            answer = await foreign.answer(self._open(agent_id, message, more))
        except ArcRefusal as error:
            if error.leaves_a_chat and error.details.get("chatId"):
                self.mappings[agent_id] = str(error.details["chatId"])
            raise
        self.mappings[agent_id] = str(answer["result"]["chat"]["chatId"])
        return answer

    async def _stream(
        self, agent_id: str, message: Json, more: Json
    ) -> AsyncGenerator[ARCEvent]:
        chat_id = self.mappings.get(agent_id)
        if chat_id is not None:
            try:
                async with aclosing(self._going_on(agent_id, chat_id, message, more)) as events:
                    async for event in events:
                        yield event
            except ArcRefusal as error:
                self._require_lost(agent_id, chat_id, error)
            else:
                return
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._starting[agent_id])
            other_id = self.mappings.get(agent_id)
            if other_id is not None:
                await held.aclose()
                call = self._say(agent_id, other_id, message, more)
            else:
                call = self._open(agent_id, message, more)
            async with aclosing(foreign.events(call)) as events:
                async for event in events:
                    if other_id is None and event.chat_id is not None:
                        self.mappings[agent_id] = other_id = event.chat_id
                    # A reader may stop here for good: nobody shall wait for it.
                    await held.aclose()
                    yield event

    async def _going_on(
        self, agent_id: str, chat_id: str, message: Json, more: Json
    ) -> AsyncGenerator[ARCEvent]:
        """Yield a message's events. Raises: ArcRefusal, if the first tells of a lost chat."""
        is_first = True
        call = self._say(agent_id, chat_id, message, more)
        async with aclosing(foreign.events(call)) as events:
            async for event in events:
                refusal = event.refusal
                if is_first and isinstance(refusal, ArcRefusal) and refusal.chat_is_lost:
                    raise refusal
                is_first = False
                yield event

    def _open(self, agent_id: str, message: Json, more: Json) -> Any:
        return self.client.chat.start(target_agent=agent_id, initial_message=message, **more)

    def _say(self, agent_id: str, chat_id: str, message: Json, more: Json) -> Any:
        return self.client.chat.message(
            target_agent=agent_id, chat_id=chat_id, message=message, **more
        )

    def _require_lost(self, agent_id: str, chat_id: str, error: ArcRefusal) -> None:
        """Forget a chat that is lost; raise any other error."""
        if not error.chat_is_lost:
            raise error
        _log.info("chat.replaced", agent_id=agent_id, chat_id=chat_id, arc_code=error.arc_code)
        self._forget(agent_id, chat_id)

    def _forget(self, agent_id: str, chat_id: str) -> None:
        """Forget a chat, unless another has taken its place."""
        if self.mappings.get(agent_id) == chat_id:
            del self.mappings[agent_id]
