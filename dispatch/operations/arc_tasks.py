"""Tasks of the ARC protocol: make one, look at it, answer what it asks, cancel it.

A task is a sub-job of the house's primary thread with one turn of one agent, dispatched and
fenced like any other. It belongs to the member who made it: for others it is not there.
Not guaranteed: that the thread's other readers and writers keep out; it is the house's.
"""

import asyncio
import uuid
from contextlib import suppress
from typing import Any, Final

from dispatch import clock, ids
from dispatch.errors import ArbeError, Invalid
from dispatch.ids import BEGINNING, EntryId, ThreadId
from dispatch.models import arc, arc_tasks
from dispatch.models.arc import ArcError, Code
from dispatch.models.arc_tasks import Priority, Story, StreamEntry, Task
from dispatch.models.claims import NewId
from dispatch.models.houses import Agent, Caller
from dispatch.operations import (
    arc_chats,
    arc_messages,
    cancel_many,
    create_thread,
    delete_thread,
    labels,
    permissions,
    post_entry,
)
from dispatch.operations.create_thread import ThreadDraft
from dispatch.operations.permissions import Decision, Reply
from dispatch.operations.record import Record
from dispatch.stores.postgres import arc_tasks as stored
from dispatch.stores.postgres import engine, houses

_LOOK_SECONDS: Final = 0.05
_DECISIONS: Final[dict[str, Decision]] = {
    "grant": "grant", "yes": "grant", "allow": "grant", "deny": "deny", "no": "deny"
}  # fmt: skip


async def create(
    record: Record,
    who: Caller,
    *,
    agent: str,
    message: dict[str, Any],
    priority: Priority = "NORMAL",
    metadata: dict[str, Any] | None = None,
    trace_id: str | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    """Give an agent a task; return it as the protocol shows it, without waiting for anything.

    Promise: a call that is refused leaves nothing. The same call with the same `key` makes one
    task.
    Raises: AgentNotFound, Invalid, TooLarge, and as `post_entry`.
    """
    draft = arc_messages.draft(message, record.settings, place="initialMessage")
    labels.free_json(metadata, what="metadata")
    answering = await arc_chats.find_agent(record, who, agent)
    new = Task(
        id=ThreadId(ids.uuid7()),
        house_id=who.house_id,
        member_id=who.member_id,
        agent_id=answering.id,
        handle=answering.handle,
        priority=priority,
        metadata=metadata or {},
        trace_id=trace_id,
        key=key,
    )
    task = await _make(record, who, new)
    draft = post_entry.Draft(text=draft.text, parts=draft.parts, mentions=(task.handle,))
    try:
        await _post(record, who, task, draft, answering, key=key)
    except ArbeError:
        if key is None:
            with suppress(ArbeError):
                await delete_thread.delete_thread(record, who, task.id)
        raise
    return arc_tasks.shown(task, Story(task))


async def info(
    record: Record, who: Caller, *, task_id: str, messages: bool = True, artifacts: bool = True
) -> dict[str, Any]:
    """Return how a task stands, with its last messages and artifacts (`max_page_size` each).

    Raises: ArcError (task not found), Unavailable.
    """
    task = await get(record, who, task_id)
    story = await tell(record, task)
    limit = record.settings.max_page_size
    return arc_tasks.shown(task, story, messages=limit * messages, artifacts=limit * artifacts)


async def send(record: Record, who: Caller, *, task_id: str, message: dict[str, Any]) -> None:
    """Answer the oldest question of a task: with an output, or by `grant` or `deny`.

    Raises: ArcError (task not found, or it asks nothing), Invalid, Conflict (`turn_ended`,
        `already_answered`).
    """
    text = arc_messages.text_of(message)
    task = await get(record, who, task_id)
    story = await tell(record, task)
    if not story.questions:
        raise _not_now(task, story, "takes a message while it is INPUT_REQUIRED only")
    asked = next(iter(story.questions.values()))
    if asked.kind == "output":
        reply = Reply(decision="grant", output=text)
    else:
        word, _, why = text.strip().partition(" ")
        decision = _DECISIONS.get(word.lower().strip(".,!:"))
        if decision is None:
            raise Invalid(
                f"The task asks whether {asked.tool_name} may be called.",
                next_step="Send a text that begins with `grant` or `deny`; the rest says why.",
            )
        reply = Reply(decision=decision, message=why.strip() or None)
    await permissions.answer(record, who, task.id, asked.permission_id, reply)


async def cancel(
    record: Record, who: Caller, *, task_id: str, reason: str | None = None
) -> dict[str, Any]:
    """Cancel a task and what works for it.

    Promise: it is asked durably on return and will not be undone; a turn that runs may take
    `cancel_grace_seconds` to end.
    Raises: ArcError (task not found; it had ended).
    """
    task = await get(record, who, task_id)
    story = await tell(record, task)
    if story.is_over:
        raise _not_now(task, story, "cannot be cancelled any more")
    await cancel_many.cancel_thread(record, who, task.id, message=reason)
    until = clock.monotonic_seconds() + record.settings.cancel_request_seconds
    while not (story := await tell(record, task)).is_over:
        if clock.monotonic_seconds() >= until:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    if story.status in {"COMPLETED", "FAILED"}:
        raise _not_now(task, story, "ended before it could be cancelled")
    ended = {"taskId": str(task.id), "status": "CANCELED"}
    ended["canceledAt"] = story.ended_at or arc.time(clock.now())
    return ended if reason is None else ended | {"reason": reason}


async def get(record: Record, who: Caller, task_id: str) -> Task:
    """Return the caller's task.

    Raises: ArcError (task not found; another member's is not found either).
    """
    with suppress(ValueError):
        thread_id = ThreadId(uuid.UUID(task_id))
        async with engine.as_member(record.members, who.member_id) as connection:
            found = await stored.find(connection, task_id=thread_id)
        if found is not None:
            return found
    raise ArcError(Code.TASK_NOT_FOUND, f"No task '{task_id[:80]}'.", taskId=task_id[:80])


async def tell(record: Record, task: Task) -> Story:
    """Return what the stream tells of a task."""
    story = Story(task)
    after: EntryId = BEGINNING
    while page := await read(record, task.id, after):
        story.hear_all(page)
        after = page[-1].id
    return story


async def read(record: Record, thread_id: ThreadId, after: EntryId) -> list[StreamEntry]:
    """Return a page of a thread's entries after a place; empty at its end."""
    page = await record.entries.page(
        thread_id, after=after, limit=record.settings.read_chunk_entries
    )
    return [StreamEntry(each.id, each.raw, each.writer) for each in page]


async def _make(record: Record, who: Caller, new: Task) -> Task:
    """Make thread and row, or take over what stands under the same key."""
    async with engine.as_member(record.members, who.member_id) as connection:
        found = await stored.find_keyed(connection, key=new.key)
        if found is not None:
            return found
        house = await houses.get(connection, house_id=who.house_id)
    draft = ThreadDraft(parent=str(house.primary_thread_id), metadata={"taskId": str(new.id)})
    await create_thread.create_thread(record, who, draft, entry_key="", new_id=NewId(new.id))
    async with engine.as_member(record.members, who.member_id) as connection:
        made = await stored.insert(connection, task=new)
    if made.id != new.id:
        await delete_thread.delete_thread(record, who, new.id)
    return made


async def _post(
    record: Record,
    who: Caller,
    task: Task,
    draft: post_entry.Draft,
    answering: Agent,
    *,
    key: str | None,
) -> None:
    accepted = await post_entry.post_entry(
        record, who, task.id, draft, key=key or "task", trace_id=task.trace_id
    )
    if not any(lane == answering.id for _, lane in accepted.dispatches):
        raise ArcError(
            Code.AGENT_NOT_AVAILABLE,
            f"@{task.handle} does not listen.",
            next_step="Its trigger mode is `never`; `arbe agent update` sets another.",
            agentId=task.handle,
        )


def _not_now(task: Task, story: Story, what: str) -> ArcError:
    codes = {"COMPLETED": Code.TASK_COMPLETED, "CANCELED": Code.TASK_CANCELED}
    return ArcError(
        codes.get(story.status, Code.BAD_TRANSITION),
        f"Task {task.id} is {story.status}; it {what}.",
        taskId=str(task.id),
        status=story.status,
    )
