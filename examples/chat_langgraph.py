"""ARC chats of a LangGraph agent: `framework_thread_id` is its checkpointer's `thread_id`.

    pip install 'arbe-dispatch[langgraph]'
    export DATABASE_URL=postgresql://…        # chats and checkpoints; `arbe db upgrade` made it
    python examples/chat_langgraph.py start "hello"
    python examples/chat_langgraph.py message chat-… "and now?"
    python examples/chat_langgraph.py end chat-…

LangGraph stores messages and state, ChatManager stores which of its threads a chat is.
"""

import uuid
from typing import Any

import chats
from langgraph.graph import START, MessagesState, StateGraph
from langgraph_agent import OfflineModel

from dispatch.config import Settings
from workers.agents.langgraph import checkpoints

model = OfflineModel()


async def think(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState).add_node("think", think).add_edge(START, "think")


async def invoke(message: chats.Json, framework_thread_id: str) -> str:
    # LangGraph's own Postgres checkpointer, in the schema that the workers use too.
    saver = await checkpoints.saver(Settings().database_url.get_secret_value())
    try:
        config = {"configurable": {"thread_id": framework_thread_id}}
        said = {"messages": [("user", chats.text_of(message))]}
        result = await graph.compile(checkpointer=saver).ainvoke(said, config)
        return str(result["messages"][-1].text)
    finally:
        await checkpoints.close()


async def chat_start(params: chats.Json, context: chats.Json) -> chats.Json:
    framework_thread_id = str(uuid.uuid4())
    chat = await context["chat_manager"].create_chat(
        target_agent=context["request_agent"],
        chat_id=params.get("chatId"),
        metadata={"framework": "langgraph", "framework_thread_id": framework_thread_id},
    )
    try:
        text = await invoke(params["initialMessage"], framework_thread_id)
    except Exception as error:
        await context["chat_manager"].close_chat(chat["chatId"], reason=str(error)[:2000])
        raise
    return chats.answer(chat, text)


async def chat_message(params: chats.Json, context: chats.Json) -> chats.Json:
    chat = await chats.active(params, context)
    text = await invoke(params["message"], chat["metadata"]["framework_thread_id"])
    return chats.answer(chat, text)


async def chat_end(params: chats.Json, context: chats.Json) -> chats.Json:
    chat = await context["chat_manager"].close_chat(
        params["chatId"], reason=params.get("reason")
    )
    saver = await checkpoints.saver(Settings().database_url.get_secret_value())
    try:
        await saver.adelete_thread(chat["metadata"]["framework_thread_id"])
    finally:
        await checkpoints.close()
    return {"type": "chat", "chat": chat}


if __name__ == "__main__":
    chats.run(__doc__, chat_start=chat_start, chat_message=chat_message, chat_end=chat_end)
