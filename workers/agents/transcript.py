"""Speaks for a scripted agent in pi's shapes: text word by word, tool calls, and their usage.

Not for agents that own their messages; those hand over what they have as it is.
"""

import asyncio
import re
from typing import Any, Final

import msgspec

from dispatch import clock
from dispatch.payloads import llm
from dispatch.payloads.usage import TokenUsage
from workers.agents import Hands, ToolCall, TurnRequest, telling

WORD_SECONDS: Final = 0.005
"""Between words: a person sees them flow, yet several share one append (`chunk_seconds`)."""

_WORD: Final = re.compile(r"\s*\S+\s*")


class Transcript:
    """One turn's messages, numbered, with the tokens they used: a word counts as one."""

    def __init__(self, request: TurnRequest, hands: Hands) -> None:
        self.usage = TokenUsage()
        self._request = request
        self._hands = hands
        self._number = 1
        self._begun = ""
        self._unread_words = len(request.text.split())

    async def begin(self, text: str) -> None:
        """Stream the beginning of a message that `say` will end."""
        for word in _WORD.findall(text):
            await self._hands.emit(
                llm.Chunk(kind="text", message_id=self._message_id, content_index=0, delta=word)
            )
            await asyncio.sleep(WORD_SECONDS)
        self._begun += text

    async def say(self, text: str, *, checkpoint: dict[str, Any] | None = None) -> None:
        """Stream a message, or the rest of one, then emit it whole."""
        await self.begin(text)
        whole = {"type": "text", "text": self._begun}
        words = len(self._begun.split())
        await self._finish([whole], words=words, stop_reason="stop", checkpoint=checkpoint)

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> ToolCall:
        """Emit a tool call whole, before anything of it is done."""
        call_id = f"{self._message_id}:call"
        await self._hands.emit(
            llm.Chunk(
                kind="toolCall",
                message_id=self._message_id,
                content_index=0,
                tool_call_id=call_id,
                tool_name=name,
                arguments=arguments,
            )
        )
        content = {"type": "toolCall", "id": call_id, "name": name, "arguments": arguments}
        words = sum(len(str(value).split()) for value in arguments.values())
        turn_index = self._number - 1
        # An agent that may be tried again goes on from this call, and makes no other.
        goes_on = self._request.agent.config.get("repeatable") is True
        checkpoint: dict[str, Any] | None = {} if goes_on else None
        await self._finish([content], words=words, stop_reason="toolUse", checkpoint=checkpoint)
        return ToolCall(id=call_id, name=name, arguments=arguments, turn_index=turn_index)

    def read(self, text: str, usage: TokenUsage | None = None) -> None:
        """Count a tool's answer as read by the next message, and what making it used."""
        self._unread_words += len(text.split())
        if usage is not None:
            self.usage = telling.plus(self.usage, usage)

    @property
    def _message_id(self) -> str:
        return self._request.message_id(self._number)

    async def _finish(
        self,
        content: list[dict[str, Any]],
        *,
        words: int,
        stop_reason: str,
        checkpoint: dict[str, Any] | None = None,
    ) -> None:
        used = TokenUsage(
            input=self._unread_words, output=words, total_tokens=self._unread_words + words
        )
        message = {
            "role": "assistant",
            "content": content,
            "api": "demo",
            "provider": "demo",
            "model": self._request.agent.model or "demo",
            "usage": msgspec.to_builtins(used),
            "stopReason": stop_reason,
            "timestamp": clock.milliseconds(clock.now()),
        }
        await self._hands.emit(
            llm.Assistant(
                message_id=self._message_id, turn_index=self._number - 1, message=message
            ),
            checkpoint=checkpoint,
        )
        self.usage = telling.plus(self.usage, used)
        self._number += 1
        self._begun = ""
        self._unread_words = 0
