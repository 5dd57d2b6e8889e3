"""ARC chats of an agent of one's own: `framework_thread_id` is the key of its stored state.

    export ARBE_CHATS_URL=redis://…           # or mongodb://…, or Postgres by DATABASE_URL
    python examples/chat_custom.py start "hello"
    python examples/chat_custom.py message chat-… "and now?"
    python examples/chat_custom.py end chat-…

Here the state is JSON in SQLite; ChatManager stores which row it is, and, as an example of
metadata that grows, how many turns there were.
"""

import json
import sqlite3
import uuid
from contextlib import closing

import chats


def process(message: chats.Json, state: chats.Json) -> tuple[str, chats.Json]:
    """Stand for your framework: what it read, it remembers."""
    messages = [*state.get("messages", []), chats.text_of(message)]
    return f"I have read {len(messages)} messages.", {"messages": messages}


def framework_storage(context: chats.Json) -> sqlite3.Connection:
    opened = sqlite3.connect(context["state"] / "framework.db", isolation_level=None)
    opened.execute("create table if not exists states (id text primary key, state text)")
    return opened


async def invoke(chat: chats.Json, message: chats.Json, context: chats.Json) -> chats.Json:
    framework_thread_id = chat["metadata"]["framework_thread_id"]
    with closing(framework_storage(context)) as storage:
        find = "select state from states where id = ?"
        found = storage.execute(find, [framework_thread_id]).fetchone()
        text, state = process(message, json.loads(found[0]) if found else {})
        save = "insert into states values (?, ?) on conflict (id) do update set state = ?2"
        storage.execute(save, [framework_thread_id, json.dumps(state)])
    turns = {"turns": chat["metadata"]["turns"] + 1}
    chat = await context["chat_manager"].update_metadata(chat["chatId"], turns)
    return chats.answer(chat, text)


async def chat_start(params: chats.Json, context: chats.Json) -> chats.Json:
    metadata = {"framework": "custom", "framework_thread_id": str(uuid.uuid4()), "turns": 0}
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
    with closing(framework_storage(context)) as storage:
        remove = "delete from states where id = ?"
        storage.execute(remove, [chat["metadata"]["framework_thread_id"]])
    return {"type": "chat", "chat": chat}


if __name__ == "__main__":
    chats.run(__doc__, chat_start=chat_start, chat_message=chat_message, chat_end=chat_end)
