"""ARC's chats, as members list them beside ARC itself."""

from typing import Annotated, Any

from pydantic import Field

from dispatch import clock
from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, Milliseconds, examples
from dispatch.chats.chat import Chat, ChatStatus

_CHAT: dict[str, Any] = {
    "chatId": "chat-0f5c2d9e8b7a46135c2d9e8b7a461350",
    "status": "ACTIVE",
    "targetAgent": "demo",
    "metadata": {"threadId": examples.THREAD_ID, "agentId": examples.AGENT_ID},
    "createdAt": examples.AT,
    "updatedAt": examples.AT,
}


class ChatAnswer(Answer):
    """One chat; its messages are on its thread."""

    model_config = shapes.example(**_CHAT)

    chat_id: str
    status: ChatStatus
    target_agent: str
    metadata: Annotated[dict[str, Any], Field(description="Among others its thread's id.")]
    created_at: Milliseconds
    updated_at: Milliseconds


class ChatsAnswer(Answer):
    """A page of chats."""

    model_config = shapes.example(chats=[_CHAT], nextCursor=None)

    chats: list[ChatAnswer]
    next_cursor: str | None = None


class SweepChats(Body):
    """How to sweep."""

    model_config = Body.model_config | shapes.example(dryRun=True)

    dry_run: Annotated[bool, Field(description="Count only, change nothing.")] = False


class SweptChatsAnswer(Answer):
    """What the sweep counted."""

    model_config = shapes.example(expired=12, dryRun=True)

    expired: int
    dry_run: bool


def chat(row: Chat) -> ChatAnswer:
    """Show a chat."""
    return ChatAnswer(
        chat_id=row.chat_id,
        status=row.status,
        target_agent=row.target_agent,
        metadata=row.metadata,
        created_at=clock.milliseconds(row.created_at),
        updated_at=clock.milliseconds(row.updated_at),
    )
