"""Chats of the ARC protocol: start one, speak in it, hear the answer, end it.

A chat is a direct thread with its agent, made for it, and a record in the store of chats that
leads there. Its messages are entries like any others, fenced and dispatched as they are.
A chat belongs to the member who started it: its stored id begins with theirs, so for others it
is not there.
Not guaranteed: that the thread's other readers and writers keep out; it is the house's.
"""

import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from dispatch import ids
from dispatch.chats.errors import ChatAlreadyClosed, ChatExists, ChatNotFound
from dispatch.errors import ArbeError, Gone, Invalid, NotFound
from dispatch.ids import AgentId, ThreadId
from dispatch.models.arc import AgentNotFound, ArcError, Code
from dispatch.models.arc_turns import ChatEvent, ChatTurn, Content, Done, Error
from dispatch.models.houses import Agent, Caller
from dispatch.operations import (
    agents,
    arc_messages,
    cancel_many,
    chats,
    create_thread,
    delete_thread,
    labels,
    post_entry,
    refs,
)
from dispatch.operations.arc_turns import events, result
from dispatch.operations.create_thread import ThreadDraft
from dispatch.operations.post_entry import Draft
from dispatch.operations.record import Record
from dispatch.stores.postgres import chat_threads, engine

__all__ = [
    "ChatEvent", "ChatTurn", "Content", "Done", "Error", "end", "events", "find_agent", "get",
    "result", "send", "start",
]  # fmt: skip

_MAX_ID_CHARACTERS: Final = 128


async def start(
    record: Record,
    who: Caller,
    *,
    agent: str,
    message: dict[str, Any],
    chat_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    trace_id: str | None = None,
    key: str | None = None,
) -> ChatTurn:
    """Open a chat with an agent and say the first thing in it.

    Promise: a call that is refused leaves neither chat nor thread; one whose process died may
    leave a thread without entries. The same call with the same `key` opens one chat.
    Args: agent: its handle, with or without `@`, or its id. chat_id: the caller's choice; None:
        128 random bits.
    Raises: AgentNotFound, ChatExists, Invalid, TooLarge, and as `post_entry`.
    """
    draft = arc_messages.draft(message, record.settings, place="initialMessage")
    labels.free_json(metadata, what="metadata")
    chat_id = _checked(chat_id) if chat_id is not None else _new_id(who, key)
    answering = await find_agent(record, who, agent)
    thread_id = await _make_thread(record, who, answering, chat_id)
    noted = {
        "threadId": str(thread_id),
        "agentId": str(answering.id),
        "handle": answering.handle,
        "framework": answering.runner,
        "framework_thread_id": f"{thread_id}:{answering.id}",
        "caller": metadata or {},
        "key": key,
    }
    try:
        stored = await record.chats.create_chat(
            answering.handle, chats.stored_id(who, chat_id), metadata=noted
        )
    except ChatExists as error:
        await delete_thread.delete_thread(record, who, thread_id)
        stored = await get(record, who, chat_id)
        if key is None or stored["metadata"].get("key") != key:
            raise ChatExists(chat_id) from error
        return await _post(record, who, chat_id, stored, draft, trace_id=trace_id, key=key)
    except ArbeError:
        with suppress(ArbeError):
            await delete_thread.delete_thread(record, who, thread_id)
        raise
    try:
        return await _post(record, who, chat_id, stored, draft, trace_id=trace_id, key=key)
    except ArbeError:
        await _take_back(record, who, chat_id, thread_id)
        raise


async def send(
    record: Record,
    who: Caller,
    *,
    chat_id: str,
    message: dict[str, Any],
    agent: str | None = None,
    trace_id: str | None = None,
    key: str | None = None,
) -> ChatTurn:
    """Say something in a chat; while its agent is busy, what the thread's `whenBusy` says.

    Args: agent: whom the caller believes to talk to; None: whoever it is.
    Raises: ChatNotFound (another caller's too, and one whose thread was deleted),
        ChatAlreadyClosed, Invalid, TooLarge, and as `post_entry`.
    """
    draft = arc_messages.draft(message, record.settings)
    stored = await get(record, who, chat_id)
    if stored["status"] == "CLOSED":
        raise ChatAlreadyClosed(chat_id)
    if agent is not None:
        await _require_agent(record, who, stored, agent)
    try:
        return await _post(record, who, chat_id, stored, draft, trace_id=trace_id, key=key)
    except (NotFound, Gone) as error:
        raise ChatNotFound(chat_id) from error


async def end(
    record: Record, who: Caller, *, chat_id: str, reason: str | None = None
) -> dict[str, Any]:
    """Close a chat, and cancel what still waits or runs in its thread.

    Promise: of any number of calls one closes it. The thread stays to be read, for as long as
    its retention says. Not guaranteed: that turns are cancelled if the process dies here; they
    end by themselves.
    Raises: ChatNotFound, ChatAlreadyClosed, Invalid (reason).
    """
    labels.reason(reason)
    stored = await get(record, who, chat_id)
    try:
        closed = await record.chats.close_chat(chats.stored_id(who, chat_id), reason=reason)
    except ChatNotFound as error:
        raise ChatNotFound(chat_id) from error
    except ChatAlreadyClosed as error:
        raise ChatAlreadyClosed(chat_id) from error
    thread_id = _thread_id(stored)
    with suppress(NotFound, Gone):
        await cancel_many.cancel_thread(record, who, thread_id, message=reason or "chat.end")
        await _retain(record, who, thread_id)
    return {"chatId": chat_id, "status": "CLOSED", "closedAt": closed.get("closedAt")} | (
        {"reason": reason} if reason is not None else {}
    )


async def get(record: Record, who: Caller, chat_id: str) -> dict[str, Any]:
    """Return the stored record of the caller's chat.

    Raises: ChatNotFound.
    """
    try:
        return await record.chats.get_chat(chats.stored_id(who, chat_id))
    except ChatNotFound as error:
        raise ChatNotFound(chat_id) from error


async def find_agent(record: Record, who: Caller, text: str) -> Agent:
    """Return the agent that a caller names by handle or id.

    Raises: AgentNotFound.
    """
    # Handles are lower case; the protocol's documents write names like `agent-A`.
    reference = text if _is_id(text) else f"@{text.removeprefix('@').lower()}"
    try:
        return await agents.get(record, who, await refs.agent(record, who, reference))
    except (NotFound, Invalid) as error:
        raise AgentNotFound(text) from error


async def _make_thread(record: Record, who: Caller, answering: Agent, chat_id: str) -> ThreadId:
    draft = ThreadDraft(parent=str(answering.id), metadata={"chatId": chat_id})
    made = await create_thread.create_thread(record, who, draft, entry_key="")
    return made.thread.id


async def _post(
    record: Record,
    who: Caller,
    chat_id: str,
    stored: Mapping[str, Any],
    draft: Draft,
    *,
    trace_id: str | None,
    key: str | None,
) -> ChatTurn:
    thread_id = _thread_id(stored)
    accepted = await post_entry.post_entry(
        record, who, thread_id, draft, key=key or ids.uuid7().hex, trace_id=trace_id
    )
    noted = stored["metadata"]
    agent_id = AgentId(uuid.UUID(noted["agentId"]))
    asked = [dispatch for dispatch, lane in accepted.dispatches if lane == agent_id]
    if not asked and accepted.muted:
        raise ArcError(
            Code.AGENT_NOT_AVAILABLE,
            f"@{noted['handle']} does not listen in this chat.",
            next_step="Its trigger mode here is `never`: `arbe thread agents list`.",
            agentId=noted["handle"],
        )
    return ChatTurn(
        who=who,
        chat_id=chat_id,
        thread_id=thread_id,
        dispatch_id=asked[0] if asked else None,
        entry_id=accepted.entry_id,
        agent=noted["handle"],
        chat=_shown(chat_id, stored, who),
    )


async def _take_back(record: Record, who: Caller, chat_id: str, thread_id: ThreadId) -> None:
    """Undo what a refused start did, as far as the servers let us."""
    with suppress(ArbeError):
        await record.chats.close_chat(
            chats.stored_id(who, chat_id), reason="refused", ttl_seconds=1
        )
    with suppress(ArbeError):
        await delete_thread.delete_thread(record, who, thread_id)


async def _require_agent(
    record: Record, who: Caller, stored: Mapping[str, Any], agent: str
) -> None:
    noted = stored["metadata"]
    if agent.removeprefix("@") in {noted["handle"], noted["agentId"]}:
        return
    named = await find_agent(record, who, agent)
    if str(named.id) != noted["agentId"]:
        raise Invalid(
            f"This chat is with @{noted['handle']}, not with @{named.handle}.",
            next_step="Send its agent as `targetAgent`, or start another chat.",
        )


async def _retain(record: Record, who: Caller, thread_id: ThreadId) -> None:
    async with engine.as_member(record.members, who.member_id) as connection:
        await chat_threads.retain(
            connection,
            thread_id=thread_id,
            default_seconds=record.settings.chat_retention_seconds,
        )


def _shown(chat_id: str, stored: Mapping[str, Any], who: Caller) -> dict[str, Any]:
    """Return the chat as the protocol shows it: the caller's metadata, and where it lives."""
    noted = stored["metadata"]
    return {
        "chatId": chat_id,
        "status": stored["status"],
        "participants": [who.name, noted["handle"]],
        "createdAt": stored["createdAt"],
        "updatedAt": stored["updatedAt"],
        "metadata": {**noted["caller"], "threadId": noted["threadId"]},
    }


def _thread_id(stored: Mapping[str, Any]) -> ThreadId:
    return ThreadId(uuid.UUID(stored["metadata"]["threadId"]))


def _new_id(who: Caller, key: str | None) -> str:
    """Choose a chat's id; the same for the same key."""
    chosen = uuid.uuid4() if key is None else uuid.uuid5(who.member_id, f"chat {key}")
    return f"chat-{chosen.hex}"


def _checked(chat_id: str) -> str:
    if not (1 <= len(chat_id) <= _MAX_ID_CHARACTERS and chat_id.isprintable()):
        raise Invalid(
            f"`chatId` must have 1 to {_MAX_ID_CHARACTERS} printable characters.",
            next_step="Leave it out to be given one.",
        )
    return chat_id


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
