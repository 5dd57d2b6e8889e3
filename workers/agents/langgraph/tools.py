"""A graph's tools act through the ledger: intent before, outcome after, nothing twice.

The turn that runs is found by a context variable, which LangGraph's tasks inherit; outside a
turn a graph's tools act as they always do.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt.tool_node import ToolCallRequest, ToolNode
from langgraph.types import Command

from workers.agents import Tool, ToolAnswer, ToolCall
from workers.agents.langgraph.messages import answer_of
from workers.agents.telling import Telling
from workers.sandboxes import OnOutput

Execute = Callable[[ToolCallRequest], Awaitable[Any]]
Wrapper = Callable[[ToolCallRequest, Execute], Awaitable[Any]]


class Acting:
    """The turn whose tools act."""

    def __init__(self, told: Telling, tools: tuple[Tool, ...]) -> None:
        self.told = told
        self.tools = tools
        self.names: Final = frozenset(tool.name for tool in tools)


ACTING: Final[ContextVar[Acting | None]] = ContextVar("arbe_acting", default=None)
_MARK: Final = "_arbe_recorded"


class _Bubbled(BaseException):
    """Carries a graph's own control flow (an interrupt) past the ledger: it is no result."""


def worker_tools() -> list[BaseTool]:
    """Return the worker's own tools that the agent of this turn may use; none outside one."""
    acting = ACTING.get()
    return [] if acting is None else [_worker_tool(acting, tool) for tool in acting.tools]


def _worker_tool(acting: Acting, tool: Tool) -> BaseTool:
    async def act(**arguments: Any) -> str:
        call = acting.told.open_call(tool.name, arguments)
        if call is None:
            raise ToolException(f"Nobody announced this call of {tool.name}.")
        return (await acting.told.answer(call.id, None)).text

    return StructuredTool(
        name=tool.name,
        description=tool.description,
        args_schema=tool.parameters,
        coroutine=act,
    )


async def recorded(request: ToolCallRequest, execute: Execute) -> Any:
    """Answer a call from the record, or execute it and record how it ended.

    `ToolNode(tools, awrap_tool_call=recorded)`; the runner does it for nodes that have none.
    """
    acting, call = ACTING.get(), request.tool_call
    call_id = call["id"] or ""
    if acting is None or acting.told.call_of(call_id) is None:
        return await execute(request)
    made: list[Any] = []

    async def perform(_call: ToolCall, _on_output: OnOutput) -> ToolAnswer:
        try:
            made.append(await execute(request))
        except GraphBubbleUp as bubble:
            raise _Bubbled from bubble
        return _answer_in(made[0])

    own = call["name"] in acting.names
    try:
        answer = await acting.told.answer(call_id, None if own else perform)
    except _Bubbled as bubbled:
        raise bubbled.__cause__ or bubbled from None
    if made and not isinstance(made[0], ToolMessage):
        return made[0]
    return ToolMessage(
        answer.text,
        tool_call_id=call_id,
        name=call["name"],
        status="error" if answer.is_error else "success",
    )


def _answer_in(result: Any) -> ToolAnswer:
    match result:
        case ToolMessage():
            return answer_of(result)
        case Command(update={"messages": [*_, ToolMessage() as message]}):
            return answer_of(message)
        case _:
            return ToolAnswer(text="Done.")


def tool_nodes(graph: Any) -> dict[str, ToolNode]:
    """Return the graph's tool nodes by name."""
    found = {name: getattr(node, "bound", None) for name, node in graph.nodes.items()}
    return {name: node for name, node in found.items() if isinstance(node, ToolNode)}


def record(node: ToolNode) -> None:
    """Let a node's tools act through the ledger whenever a turn of ours runs it.

    The wrapper that `ToolNode` was given stays, inside. There is no public way to wrap a node
    that exists; where this one is gone, calls are told from the graph's messages.
    """
    inside: Any = node
    if not hasattr(inside, "_awrap_tool_call") or getattr(inside, _MARK, False):
        return
    inner: Wrapper | None = inside._awrap_tool_call  # noqa: SLF001
    if inner is None and inside._wrap_tool_call is not None:  # noqa: SLF001
        return
    wrapper = recorded if inner is None or inner is recorded else _around(inner)
    inside._awrap_tool_call = wrapper  # noqa: SLF001
    setattr(inside, _MARK, True)


def _around(inner: Wrapper) -> Wrapper:
    async def around(request: ToolCallRequest, execute: Execute) -> Any:
        async def both(asked: ToolCallRequest) -> Any:
            return await inner(asked, execute)

        return await recorded(request, both)

    return around
