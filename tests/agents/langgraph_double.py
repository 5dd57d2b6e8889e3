"""A LangGraph agent over a chat model of LangChain's own base class, as its doubles are."""

import json
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from tests.agents.model import MODEL, ModelBroke, Reply, Said
from workers.agents.langgraph import worker_tools

ROLES = {"human": "user", "ai": "assistant", "tool": "tool", "system": "system"}


class ScriptedChatModel(BaseChatModel):
    names: frozenset[str] = frozenset()

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_more: Any) -> "ScriptedChatModel":
        return ScriptedChatModel(names=frozenset(each.name for each in tools))

    def _generate(self, *_arguments: Any, **_more: Any) -> ChatResult:
        raise NotImplementedError

    def _stream(self, messages: list[BaseMessage], *_arguments: Any, **_more: Any):
        """As nodes ask that are not async; a reply cannot be held up here."""
        reply = MODEL.next(_asked(messages), set(self.names))
        yield from (ChatGenerationChunk(message=AIMessageChunk(each)) for each in reply.pieces)
        yield _ending(reply)

    async def _astream(self, messages: list[BaseMessage], *_arguments: Any, **_more: Any):
        reply = MODEL.next(_asked(messages), set(self.names))
        for number, piece in enumerate(reply.pieces):
            yield ChatGenerationChunk(message=AIMessageChunk(piece))
            if number == 0 and reply.hold:
                await reply.hold.wait()
        if reply.hold and not reply.pieces:
            await reply.hold.wait()
        if reply.error:
            raise ModelBroke(reply.error)
        yield _ending(reply)


def _asked(messages: list[BaseMessage]) -> list[Said]:
    return [Said(ROLES[each.type], str(each.text)) for each in messages]


def _ending(reply: Reply) -> ChatGenerationChunk:
    chunks = [
        tool_call_chunk(name=call.name, args=json.dumps(call.arguments), id=call.id, index=n)
        for n, call in enumerate(reply.calls)
    ]
    used = UsageMetadata(input_tokens=7, output_tokens=3, total_tokens=10)
    return ChatGenerationChunk(
        message=AIMessageChunk("", tool_call_chunks=chunks, usage_metadata=used)
    )


@tool
async def book(thing: str) -> str:
    """Book a thing."""
    return await MODEL.book(thing)


def graph() -> StateGraph[Any]:
    tools = [book, *worker_tools()]
    model = ScriptedChatModel().bind_tools(tools)

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    made = StateGraph(MessagesState)
    made.add_node("think", think)
    made.add_node("tools", ToolNode(tools, handle_tool_errors=True))
    made.add_edge(START, "think")
    made.add_conditional_edges("think", tools_condition)
    made.add_edge("tools", "think")
    return made
