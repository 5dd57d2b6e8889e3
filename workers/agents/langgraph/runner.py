"""One turn of a graph: from the checkpoint that agrees with the thread's history to its end."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph, StateGraph
from langgraph.types import Command

from dispatch.errors import Invalid
from dispatch.models.history import INTERRUPTED, HistoryMessage
from workers.agents import Hands, ToolAnswer, ToolCall, TurnRequest, loading, telling
from workers.agents.langgraph import checkpoints
from workers.agents.langgraph.listening import Listener
from workers.agents.langgraph.messages import answer_of, id_in_history, to_state
from workers.agents.langgraph.state import DISPATCH, Snapshot, agrees, is_of, missing
from workers.agents.langgraph.tools import ACTING, Acting, record, tool_nodes
from workers.agents.telling import Telling
from workers.outcomes import AgentOutcome
from workers.sandboxes import OnOutput

LOOK_BACK: Final = 200
"""Checkpoints that are looked through for one that agrees with the history; then anew."""


async def run(request: TurnRequest, hands: Hands) -> AgentOutcome:
    """Take one turn.

    Promise: what the graph knows is what the history says; another attempt goes on from the
    graph's last checkpoint, if nothing was said after it, else from the turn's beginning with
    all that was said in it.
    """
    told = Telling(request, hands, api="langgraph")
    acting = ACTING.set(Acting(told, request.tools))
    try:
        return await loading.ended(told, _Turn(request, hands, told).take())
    finally:
        ACTING.reset(acting)


class _Turn:
    def __init__(self, request: TurnRequest, hands: Hands, told: Telling) -> None:
        self._request = request
        self._hands = hands
        self._told = told
        self._graph: Any = None
        self._thread_id = f"{request.thread_id}:{request.agent.id}"
        self._config: RunnableConfig = {
            "configurable": {"thread_id": self._thread_id},
            "metadata": {DISPATCH: request.dispatch_id},
            "recursion_limit": 2 * loading.max_steps(request) + 1,
        }

    async def take(self) -> None:
        url = self._hands.database_url.get_secret_value()
        kinds = (CompiledStateGraph, StateGraph)
        graph = await loading.made(self._request, "graph", kinds, noun="graph")
        self._graph = _with(graph, await checkpoints.saver(url))
        nodes = tool_nodes(self._graph)
        for node in nodes.values():
            record(node)
        await self._hands.take_steering(1)
        history = await self._hands.history()
        self._told.take_up(history)
        start, given = await self._begin(history)
        if given == {"messages": []}:
            return
        known = {id_in_history(each) for each in await self._hands.history()}
        listener = Listener(self._told, known)
        await self._walk(listener, start, given, interrupt_after=list(nodes) or None)
        await self._settle()

    # --- where the graph goes on ----------------------------------------------------------

    async def _begin(self, history: Sequence[HistoryMessage]) -> tuple[RunnableConfig, Any]:
        """Return the checkpoint to go on from and what the graph is given there."""
        latest: Snapshot = await self._graph.aget_state(self._config)
        if agrees(latest, history):
            same = is_of(latest, self._request.dispatch_id)
            if latest.next and same and self._may_go_on(latest, missing(latest, history)):
                return self._config, None
            if latest.interrupts and not same:
                return self._config, Command(resume=self._request.text)
        history = await self._answered(history)
        async for older in self._past():
            if agrees(older, history) and not older.next:
                at = {**self._config, "configurable": older.config["configurable"]}
                return cast("RunnableConfig", at), _given(missing(older, history))
        await self._graph.checkpointer.adelete_thread(self._thread_id)
        return self._config, _given(history)

    def _may_go_on(self, latest: Snapshot, unknown: Sequence[HistoryMessage]) -> bool:
        """Tell whether the graph comes to what it does not know yet by itself.

        Results it does, where its tools ask the ledger first.
        """
        asks = set(latest.next) <= set(tool_nodes(self._graph))
        return not unknown or (asks and all(each.role == "toolResult" for each in unknown))

    def _past(self) -> AsyncIterator[Snapshot]:
        return cast(
            "AsyncIterator[Snapshot]",
            self._graph.aget_state_history(self._config, limit=LOOK_BACK),
        )

    async def _answered(self, history: Sequence[HistoryMessage]) -> Sequence[HistoryMessage]:
        """Answer the calls that an earlier attempt announced: the graph forgot about them."""
        calls = self._told.open_calls()
        for call in calls:
            own = call.name in {tool.name for tool in self._request.tools}
            await self._told.answer(call.id, None if own else self._performing(call))
        return await self._hands.history() if calls else history

    def _performing(self, call: ToolCall) -> Any:
        nodes = tool_nodes(self._graph).values()
        tools = [
            each.tools_by_name[call.name] for each in nodes if call.name in each.tools_by_name
        ]
        if not tools:
            return telling.saying(_UNKNOWN)

        async def perform(_call: ToolCall, _on_output: OnOutput) -> ToolAnswer:
            wanted = {"id": call.id, "name": call.name, "args": call.arguments}
            return answer_of(await tools[0].ainvoke({**wanted, "type": "tool_call"}))

        return perform

    # --- its steps ------------------------------------------------------------------------

    async def _walk(
        self,
        listener: Listener,
        start: RunnableConfig,
        given: Any,
        *,
        interrupt_after: list[str] | None,
    ) -> None:
        """Let the graph run to its end; it stands still after its tools, to be steered."""
        while True:
            async for mode, event in self._graph.astream(
                given,
                {**start, "callbacks": [listener]},
                # With `messages` models stream also where a node does not ask them to.
                stream_mode=["messages", "updates"],
                interrupt_after=interrupt_after,
                durability="sync",
            ):
                if mode == "updates":
                    await self._hear(listener, event)
            start, given = self._config, None
            stands: Snapshot = await self._graph.aget_state(self._config)
            if not stands.next or stands.interrupts:
                return
            await self._steer(stands, interrupt_after or [])

    async def _hear(self, listener: Listener, event: dict[str, Any]) -> None:
        for node, update in event.items():
            if node == "__interrupt__":
                asked = "\n".join(str(each.value) for each in update if each.value)
                if asked:
                    await self._told.finish([telling.text(asked)], usage=telling.NOTHING)
            else:
                await listener.hear(update)

    async def _steer(self, stands: Snapshot, after: list[str]) -> None:
        if not after or not await self._hands.take_steering(self._told.turn_index + 1):
            return
        unknown = missing(stands, await self._hands.history())
        said = [each for each in unknown if each.role == "user"]
        # As if the tools had said it: what comes after them is still to come.
        ran = [name for name in after if name not in stands.next] or after
        await self._graph.aupdate_state(
            self._config,
            {"messages": to_state(said)},
            as_node=ran[0] if len(ran) == 1 else None,
        )

    async def _settle(self) -> None:
        """Give each call a result that the graph took for itself, as for a routing model."""
        for call in self._told.open_calls():
            await self._told.answer(call.id, telling.saying(_TAKEN))


_UNKNOWN: Final = ToolAnswer(text=INTERRUPTED, is_error=True)
_TAKEN: Final = ToolAnswer(text="Taken by the graph.")


def _given(messages: Sequence[HistoryMessage]) -> dict[str, Any]:
    return {"messages": to_state(messages)}


def _with(graph: Any, saver: Any) -> Any:
    is_compiled = isinstance(graph, CompiledStateGraph)
    made: Any = graph
    compiled: Any = (
        made.copy(update={"checkpointer": saver})
        if is_compiled
        else made.compile(checkpointer=saver)
    )
    if "messages" not in compiled.channels:
        raise Invalid(
            "The graph's state has no `messages`.",
            next_step="Build it on MessagesState, or add `messages` to its state.",
        )
    return compiled
