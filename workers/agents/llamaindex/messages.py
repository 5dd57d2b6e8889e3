"""The thread's history as LlamaIndex's messages, and back."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from llama_index.core.base.llms.types import (
    ChatMessage,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from dispatch.models.history import HistoryMessage
from dispatch.payloads.content import text_of
from dispatch.payloads.usage import TokenUsage
from workers.agents import telling
from workers.agents.telling import Part


def content_of(message: ChatMessage) -> list[Part]:
    """Return a message's reasoning and text, in pi's shapes; calls stand beside it."""
    told: list[Part] = []
    for block in message.blocks:
        match block:
            case TextBlock(text=said) if said:
                told.append(telling.text(said))
            case ThinkingBlock(content=thought) if thought:
                told.append(telling.thinking(thought))
            case _:
                pass
    return told


def raw_of(output: Any) -> Mapping[str, Any]:
    """Return what the provider answered, as far as the library hands it on."""
    raw = output.raw
    return cast("Mapping[str, Any]", raw) if isinstance(raw, Mapping) else {}


def usage_of(raw: Mapping[str, Any]) -> TokenUsage:
    """Read what a provider's raw answer says: OpenAI's names, or Anthropic's."""
    used = raw.get("usage")
    if not isinstance(used, Mapping):
        return TokenUsage()
    return _usage(cast("Mapping[str, Any]", used))


def _usage(used: Mapping[str, Any]) -> TokenUsage:
    if "prompt_tokens" in used:
        details: Mapping[str, Any] = used.get("prompt_tokens_details") or {}
        return telling.tokens(
            whole_input=used["prompt_tokens"] or 0,
            output=used.get("completion_tokens") or 0,
            cache_read=details.get("cached_tokens") or 0,
        )
    read, written = (
        used.get(f"cache_{each}_input_tokens") or 0 for each in ("read", "creation")
    )
    return telling.tokens(
        # Anthropic does not count cached tokens among the input's.
        whole_input=(used.get("input_tokens") or 0) + read + written,
        output=used.get("output_tokens") or 0,
        cache_read=read,
        cache_write=written,
    )


def to_memory(history: Sequence[HistoryMessage]) -> list[ChatMessage]:
    """Return a conversation as LlamaIndex has it."""
    return [_message(each) for each in history]


def _message(each: HistoryMessage) -> ChatMessage:
    match each.role:
        case "assistant":
            return ChatMessage(role="assistant", blocks=_blocks(each.message))
        case "toolResult":
            return ChatMessage(
                role="tool",
                content=text_of(each.message),
                additional_kwargs={"tool_call_id": each.message["toolCallId"]},
            )
        case "summary":
            summary = f"[Summary of what was said before]\n{each.message['summary']}"
            return ChatMessage(role="user", content=summary)
        case "user":
            return ChatMessage(role="user", content=text_of(each.message))


def _blocks(message: dict[str, Any]) -> list[Any]:
    blocks: list[Any] = []
    for part in message["content"]:
        match part:
            case {"type": "text", "text": said}:
                blocks.append(TextBlock(text=said))
            case {"type": "toolCall", "id": call_id, "name": name, "arguments": arguments}:
                blocks.append(
                    ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=arguments)
                )
            case _:
                pass
    return blocks
