"""Hears a graph's models, inside whatever node calls them, and tells what they say.

LangChain waits for its callbacks: a message stands on the stream before the node that asked for
it, and so before any tool, has it. Models tagged `nostream` are not told, as LangGraph itself
has it; what they use is counted.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.constants import TAG_NOSTREAM

from workers.agents import telling
from workers.agents.langgraph.messages import answer_of, content_of, reasoning_in, usage_of
from workers.agents.telling import Telling


class Listener(AsyncCallbackHandler):
    """Tells messages of models as they come, and of other nodes from the graph's updates."""

    run_inline = True
    raise_error = True

    def __init__(self, told: Telling, known: set[str]) -> None:
        self._told = told
        self._known = known
        """Ids of messages that stand on the stream."""
        self._untold: set[UUID] = set()
        self._loop = asyncio.get_running_loop()

    async def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        **more: Any,
    ) -> None:
        """Note a model that shall not be told."""
        del serialized, messages, more
        if TAG_NOSTREAM in (tags or []):
            self._untold.add(run_id)

    async def on_llm_new_token(
        self, token: Any, *, chunk: Any = None, run_id: UUID, **more: Any
    ) -> None:
        """Show a piece of a message."""
        del token, more
        message = getattr(chunk, "message", None)
        if run_id in self._untold or not isinstance(message, AIMessage):
            return
        await self._here(self._show(message, str(run_id)))

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **more: Any) -> None:
        """Tell a message whole."""
        del more
        generation = response.generations[0][0]
        if not isinstance(generation, ChatGeneration):
            return
        message = generation.message
        if not isinstance(message, AIMessage):
            return
        if run_id in self._untold:
            self._told.use(usage_of(message))
            return
        message.id = message.id or f"run-{run_id}"
        await self._here(self._tell(message, str(run_id)))

    async def hear(self, update: Any) -> None:
        """Tell what a node put into the graph's messages, if no model of it was heard."""
        for message in _messages_in(update):
            if isinstance(message, AIMessage) and message.id not in self._known:
                await self._tell(message, message.id or "")
            elif isinstance(message, ToolMessage) and self._told.call_of(message.tool_call_id):
                answer = telling.saying(answer_of(message))
                await self._told.answer(message.tool_call_id, answer)

    async def _show(self, message: AIMessage, key: str) -> None:
        for piece in reasoning_in(message):
            await self._told.stream(piece, kind="thinking", key=key)
        await self._told.stream(str(message.text), key=key)

    async def _tell(self, message: AIMessage, key: str) -> None:
        self._known.add(message.id or "")
        details = message.response_metadata
        await self._told.finish(
            content_of(message),
            usage=usage_of(message),
            model=details.get("model_name"),
            stop_reason="length" if details.get("finish_reason") == "length" else None,
            response_id=message.id,
            key=key,
        )

    async def _here(self, telling_it: Coroutine[Any, Any, None]) -> None:
        """Tell it on the turn's own loop: a node that is not async calls from another."""
        if asyncio.get_running_loop() is self._loop:
            await telling_it
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(telling_it, self._loop))


def _messages_in(update: Any) -> list[BaseMessage]:
    if isinstance(update, dict):
        found: Any = cast("dict[str, Any]", update).get("messages")
        return _messages_in(found if isinstance(found, list) else [found])
    told: list[BaseMessage] = []
    for each in cast("list[object]", update if isinstance(update, list) else []):
        told += [each] if isinstance(each, BaseMessage) else _messages_in(each)
    return told
