"""ARC chats of a LlamaIndex agent: `framework_thread_id` is its memory's `session_id`.

    pip install 'arbe-dispatch[llamaindex]'
    export ARBE_CHATS_URL=redis://…           # or mongodb://…, or Postgres by DATABASE_URL
    python examples/chat_llamaindex.py start "hello"
    python examples/chat_llamaindex.py message chat-… "and now?"
    python examples/chat_llamaindex.py end chat-…

LlamaIndex stores the messages, here in SQLite; ChatManager stores which session a chat is.
"""

import uuid

import chats
from llama_index.core.memory import Memory
from llamaindex_agent import agent


def memory_of(framework_thread_id: str, context: chats.Json) -> Memory:
    # One database for all sessions; `postgresql+psycopg://…` serves several machines.
    return Memory.from_defaults(
        session_id=framework_thread_id,
        async_database_uri=f"sqlite+aiosqlite:///{context['state'] / 'memory.db'}",
    )


async def invoke(chat: chats.Json, message: chats.Json, context: chats.Json) -> chats.Json:
    memory = memory_of(chat["metadata"]["framework_thread_id"], context)
    result = await agent.run(user_msg=chats.text_of(message), memory=memory)
    return chats.answer(chat, str(result.response.content))


async def chat_start(params: chats.Json, context: chats.Json) -> chats.Json:
    metadata = {"framework": "llamaindex", "framework_thread_id": str(uuid.uuid4())}
    chat = await context["chat_manager"].create_chat(
        target_agent=context["request_agent"],
        chat_id=params.get("chatId"),
        metadata=metadata,
    )
    return await invoke(chat, params["initialMessage"], context)


async def chat_message(params: chats.Json, context: chats.Json) -> chats.Json:
    chat = await chats.active(params, context)
    return await invoke(chat, params["message"], context)


async def chat_end(params: chats.Json, context: chats.Json) -> chats.Json:
    chat = await context["chat_manager"].close_chat(
        params["chatId"], reason=params.get("reason")
    )
    await memory_of(chat["metadata"]["framework_thread_id"], context).areset()
    return {"type": "chat", "chat": chat}


if __name__ == "__main__":
    chats.run(__doc__, chat_start=chat_start, chat_message=chat_message, chat_end=chat_end)
