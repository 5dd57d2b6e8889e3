"""Graphs of many shapes over the scripted model; most know nothing of us."""

from typing import Any, TypedDict

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt

from tests.agents.langgraph_double import ScriptedChatModel, book
from tests.agents.model import MODEL

VISITS: list[str] = []


async def _think(state: MessagesState) -> dict[str, Any]:
    VISITS.append("think")
    model = ScriptedChatModel().bind_tools([book])
    return {"messages": [await model.ainvoke(state["messages"])]}


def _think_in_a_thread(state: MessagesState) -> dict[str, Any]:
    model = ScriptedChatModel().bind_tools([book])
    return {"messages": [model.invoke(state["messages"])]}


def _loop(think: Any, tools: Any) -> StateGraph[Any]:
    made = StateGraph(MessagesState)
    made.add_node("think", think)
    made.add_node("tools", tools)
    made.add_edge(START, "think")
    made.add_conditional_edges("think", tools_condition)
    made.add_edge("tools", "think")
    return made


async def _own_tools(state: MessagesState) -> dict[str, Any]:
    (call,) = state["messages"][-1].tool_calls
    text = await MODEL.book(**call["args"])
    return {"messages": [ToolMessage(text, tool_call_id=call["id"])]}


compiled = _loop(_think, ToolNode([book])).compile()
with_own_tools = _loop(_think, _own_tools)
in_threads = _loop(_think_in_a_thread, ToolNode([book]))


async def _wrapper(request: Any, execute: Any) -> Any:
    VISITS.append("wrapper")
    return await execute(request)


wrapped = _loop(_think, ToolNode([book], awrap_tool_call=_wrapper))


def without_a_model() -> StateGraph[Any]:
    def greet(_state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("Good morning.")]}

    made = StateGraph(MessagesState)
    made.add_node("greet", greet)
    made.add_edge(START, "greet")
    made.add_edge("greet", END)
    return made


def asking() -> StateGraph[Any]:
    def ask(_state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"You said {interrupt('Which colour?')}.")]}

    made = StateGraph(MessagesState)
    made.add_node("ask", ask)
    made.add_edge(START, "ask")
    return made


class Counting(MessagesState):
    count: int


def counting() -> StateGraph[Any]:
    """It keeps something outside its messages: only its checkpoint knows it."""

    def count(state: Counting) -> dict[str, Any]:
        number = state.get("count", 0) + 1
        return {"count": number, "messages": [AIMessage(f"Turn {number}.")]}

    made = StateGraph(Counting)
    made.add_node("count", count)
    made.add_node("think", _think)
    made.add_edge(START, "count")
    made.add_edge("count", "think")
    return made


async def _step(name: str) -> dict[str, Any]:
    VISITS.append(name)
    return {"messages": [AIMessage(f"{name} is done.")]}


def in_two_steps() -> StateGraph[Any]:
    """Its second step waits for the model."""

    async def first(_state: MessagesState) -> dict[str, Any]:
        return await _step("first")

    made = StateGraph(MessagesState)
    made.add_node("first", first)
    made.add_node("think", _think)
    made.add_edge(START, "first")
    made.add_edge("first", "think")
    return made


nonsense = object()


class Count(TypedDict):
    count: int


def without_messages() -> StateGraph[Any]:
    made = StateGraph(Count)
    made.add_node("count", lambda _state: {"count": 1})
    made.add_edge(START, "count")
    return made
