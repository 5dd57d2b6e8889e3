"""A LangGraph agent, here with a model that needs no key.

    pip install 'arbe-dispatch[langgraph]'
    PYTHONPATH=. arbe up                  # workers must be able to import this file
    arbe agent create @graph --runner langgraph \\
        --config '{"graph": "examples.langgraph_agent:graph"}'
    arbe post @graph "run: uname -a"

`graph` is made anew for each turn, so that `worker_tools()` can offer what this agent may use.
Its checkpoints are kept in the workers' Postgres. With a real model: `init_chat_model(…)` and
its key in the workers' environment.
"""

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from workers.agents.langgraph import worker_tools


class OfflineModel(BaseChatModel):
    """Says how much it read, or runs what is asked for: stands for a real model."""

    @property
    def _llm_type(self) -> str:
        return "offline"

    def bind_tools(self, _tools: Any, **_more: Any) -> "OfflineModel":
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **_more: Any,
    ) -> ChatResult:
        del stop, run_manager
        last = str(messages[-1].text)
        if messages[-1].type == "tool":
            answer = AIMessage(f"It says: {last.strip()}")
        elif last.startswith("run:"):
            arguments = {"command": last.removeprefix("run:").strip()}
            call_id = f"call-{len(messages)}"
            call = {"id": call_id, "name": "run_command", "args": arguments}
            answer = AIMessage("", tool_calls=[call])
        else:
            count = len([each for each in messages if each.type != "tool"])
            answer = AIMessage(f"I have read {count} messages.")
        return ChatResult(generations=[ChatGeneration(message=answer)])


def graph() -> StateGraph[Any]:
    tools = worker_tools()
    model = OfflineModel().bind_tools(tools)

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    made = StateGraph(MessagesState)
    made.add_node("think", think)
    made.add_node("tools", ToolNode(tools))
    made.add_edge(START, "think")
    made.add_conditional_edges("think", tools_condition)
    made.add_edge("tools", "think")
    return made
