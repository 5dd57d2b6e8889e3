"""What an ARC server does around an agent's handlers, from the command line.

Each call is a process of its own, so nothing of a conversation is in RAM between two messages:
ChatManager finds the framework's thread again, and the framework finds its state.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dispatch.chats import ChatAlreadyClosed, ChatManager, open_storage
from dispatch.config import Settings
from dispatch.errors import ArbeError

Json = dict[str, Any]
Handler = Callable[[Json, Json], Awaitable[Json]]


def run(head: str, *, chat_start: Handler, chat_message: Handler, chat_end: Handler) -> None:
    """Let the handler that the command line names answer; print what a client would get."""
    parser = argparse.ArgumentParser(
        description=head, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--state", type=Path, default=Path(".arbe/example"), metavar="FOLDER")
    calls = parser.add_subparsers(dest="call", required=True)
    start = calls.add_parser("start")
    start.add_argument("text")
    message = calls.add_parser("message")
    message.add_argument("chat_id")
    message.add_argument("text")
    end = calls.add_parser("end")
    end.add_argument("chat_id")
    given = parser.parse_args()
    match given.call:
        case "start":
            handler, params = chat_start, {"initialMessage": user(given.text)}
        case "message":
            handler = chat_message
            params = {"chatId": given.chat_id, "message": user(given.text)}
        case _:
            handler, params = chat_end, {"chatId": given.chat_id, "reason": "the user left"}
    given.state.mkdir(parents=True, exist_ok=True)
    try:
        chat = asyncio.run(_answered(handler, params, given.state))
    except ArbeError as error:
        sys.exit(str(error))
    print(chat["chatId"], chat["status"])
    for part in chat.get("message", {}).get("parts", ()):
        print(part["content"])


async def _answered(handler: Handler, params: Json, state: Path) -> Json:
    async with open_storage(Settings()) as storage:
        context = {
            "chat_manager": ChatManager(agent_id="my-agent", storage=storage),
            "request_agent": "arc-command-line",
            "state": state,
        }
        return (await handler(params, context))["chat"]


async def active(params: Json, context: Json) -> Json:
    """Return the chat that a message is for: with ChatManager, whether it is open is yours."""
    chat = await context["chat_manager"].get_chat(params["chatId"])
    if chat["status"] == "CLOSED":
        raise ChatAlreadyClosed(params["chatId"])
    return chat


def user(text: str) -> Json:
    """Return a user's message as ARC has it."""
    return {"role": "user", "parts": [{"type": "TextPart", "content": text}]}


def text_of(message: Json) -> str:
    """Return what a message says."""
    return "\n".join(part["content"] for part in message["parts"])


def answer(chat: Json, text: str) -> Json:
    """Return the result of chat.start and chat.message."""
    message = {"role": "agent", "parts": [{"type": "TextPart", "content": text}]}
    return {"type": "chat", "chat": {**chat, "message": message}}
