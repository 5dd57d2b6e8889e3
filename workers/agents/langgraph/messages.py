"""The thread's history as LangChain's messages, and back.

Every message has the id under which the record knows it, so that a graph's state can be
compared with the history: a person's message its entry's id, a model's its own, a tool's result
that of its call.
"""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)

from dispatch.ids import ENTRY_ID
from dispatch.models.history import HistoryMessage
from dispatch.payloads.content import text_of, tool_calls
from dispatch.payloads.usage import TokenUsage
from workers.agents import ToolAnswer, telling
from workers.agents.telling import Part


def id_in_history(each: HistoryMessage) -> str:
    """Return the id by which a graph's state knows a message."""
    if each.role == "toolResult":
        return str(each.message["toolCallId"])
    if each.role == "assistant":
        return str(each.message.get("responseId") or each.entry_id)
    return str(each.entry_id)


def id_in_state(message: BaseMessage) -> str | None:
    """Return the id by which the history knows a message; None: it never was told of it."""
    if isinstance(message, ToolMessage):
        return message.tool_call_id
    if isinstance(message, HumanMessage):
        # A graph may put in messages of its own.
        return message.id if message.id and ENTRY_ID.match(message.id) else None
    return message.id if isinstance(message, AIMessage) else None


def to_state(history: Sequence[HistoryMessage]) -> list[AnyMessage]:
    """Return a conversation as LangChain has it."""
    return [_message(each) for each in history]


def _message(each: HistoryMessage) -> AnyMessage:
    known = id_in_history(each)
    match each.role:
        case "assistant":
            wanted: list[Any] = [
                {"id": call["id"], "name": call["name"], "args": call["arguments"]}
                for call in tool_calls(each.message)
            ]
            return AIMessage(text_of(each.message), tool_calls=wanted, id=known)
        case "toolResult":
            return ToolMessage(
                text_of(each.message),
                tool_call_id=known,
                name=each.message["toolName"],
                status="error" if each.message.get("isError") else "success",
            )
        case "summary":
            summary = f"[Summary of what was said before]\n{each.message['summary']}"
            return HumanMessage(summary, id=known)
        case "user":
            return HumanMessage(text_of(each.message), id=known)


def content_of(message: AIMessage) -> list[Part]:
    """Return a message's reasoning, text and calls, in pi's shapes."""
    told = [telling.thinking(each) for each in reasoning_in(message)]
    if said := str(message.text):
        told.append(telling.text(said))
    return told + [
        telling.tool_call(call["id"] or "", call["name"], telling.plain(call["args"]))
        for call in message.tool_calls
    ]


def reasoning_in(message: AIMessage) -> list[str]:
    """Return the pieces of reasoning in a message or in a chunk of one."""
    if isinstance(message.content, str):
        return []
    return [
        str(block.get("reasoning"))
        for block in message.content_blocks
        if block["type"] == "reasoning" and block.get("reasoning")
    ]


def usage_of(message: AIMessage) -> TokenUsage:
    """Return what a message used; nothing, if its model does not say."""
    used = message.usage_metadata
    if used is None:
        return TokenUsage()
    details = used.get("input_token_details") or {}
    return telling.tokens(
        whole_input=used["input_tokens"],
        output=used["output_tokens"],
        cache_read=details.get("cache_read") or 0,
        cache_write=details.get("cache_creation") or 0,
    )


def answer_of(message: ToolMessage) -> ToolAnswer:
    """Return a tool's result as the ledger records it."""
    return ToolAnswer(text=str(message.text), is_error=message.status == "error")
