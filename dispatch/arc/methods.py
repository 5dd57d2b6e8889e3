"""The methods: each reads its parameters, calls one operation, and shapes what came of it."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec

from dispatch.arc import params
from dispatch.arc.envelope import Call
from dispatch.models.arc import ArcError, Code
from dispatch.models.houses import Caller
from dispatch.operations import arc_chats, arc_subscriptions, arc_tasks
from dispatch.operations.arc_chats import ChatTurn
from dispatch.operations.record import Record


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A call by somebody whose token was good. `key`: its Idempotency-Key, if it has one."""

    record: Record
    who: Caller
    call: Call
    key: str | None


Result: TypeAlias = dict[str, Any]
Method: TypeAlias = Callable[[Asked], Awaitable[Result]]


async def call(asked: Asked) -> Result:
    """Do what is asked.

    Raises: ArcError (method not found), and as the operations.
    """
    return await _method(asked.call.method)(asked)


async def begin(asked: Asked) -> ChatTurn:
    """Say what a chat call says, and return the turn that will answer it.

    Raises: as the operations.
    """
    if asked.call.method == "chat.start":
        return await _start(asked)
    return await _send(asked)


def names() -> list[str]:
    """Return the methods that every agent answers."""
    return sorted(_METHODS)


def _method(name: str) -> Method:
    found = _METHODS.get(name)
    if found is None:
        raise ArcError(
            Code.METHOD_NOT_FOUND,
            f"There is no method '{name[:80]}' here.",
            next_step=f"There are {', '.join(names())}.",
            method=name[:80],
        )
    return found


async def _start(asked: Asked) -> ChatTurn:
    given = params.read(asked.call.params, params.ChatStart)
    return await arc_chats.start(
        asked.record,
        asked.who,
        agent=asked.call.target_agent,
        message=given.initial_message,
        chat_id=given.chat_id,
        metadata=given.metadata,
        trace_id=asked.call.trace_id,
        key=asked.key,
    )


async def _send(asked: Asked) -> ChatTurn:
    given = params.read(asked.call.params, params.ChatMessage)
    return await arc_chats.send(
        asked.record,
        asked.who,
        chat_id=given.chat_id,
        message=given.message,
        agent=asked.call.target_agent,
        trace_id=asked.call.trace_id,
        key=asked.key,
    )


async def _answered(asked: Asked) -> Result:
    turn = await begin(asked)
    return {"type": "chat", "chat": await arc_chats.result(asked.record, turn)}


async def _end(asked: Asked) -> Result:
    given = params.read(asked.call.params, params.ChatEnd)
    chat = await arc_chats.end(
        asked.record, asked.who, chat_id=given.chat_id, reason=given.reason
    )
    return {"type": "chat", "chat": chat}


async def _create(asked: Asked) -> Result:
    given = params.read(asked.call.params, params.TaskCreate)
    task = await arc_tasks.create(
        asked.record,
        asked.who,
        agent=asked.call.target_agent,
        message=given.initial_message,
        priority=given.priority or "NORMAL",
        metadata=given.metadata,
        trace_id=asked.call.trace_id,
        key=asked.key,
    )
    return {"type": "task", "task": task}


async def _send_to_task(asked: Asked) -> Result:
    given = params.read(asked.call.params, params.TaskSend)
    await arc_tasks.send(asked.record, asked.who, task_id=given.task_id, message=given.message)
    return {"success": True}


async def _info(asked: Asked) -> Result:
    given = params.read(asked.call.params, params.TaskInfo)
    task = await arc_tasks.info(
        asked.record,
        asked.who,
        task_id=given.task_id,
        messages=given.include_messages is not False,
        artifacts=given.include_artifacts is not False,
    )
    return {"type": "task", "task": task}


async def _cancel(asked: Asked) -> Result:
    given = params.read(asked.call.params, params.TaskCancel)
    task = await arc_tasks.cancel(
        asked.record, asked.who, task_id=given.task_id, reason=given.reason
    )
    return {"type": "task", "task": task}


async def _subscribe(asked: Asked) -> Result:
    given = params.read(asked.call.params, params.TaskSubscribe)
    subscription = await arc_subscriptions.subscribe(
        asked.record,
        asked.who,
        task_id=given.task_id,
        callback_url=given.callback_url,
        events=given.events,
    )
    return {"type": "subscription", "subscription": subscription}


_METHODS: Final[dict[str, Method]] = {
    "chat.start": _answered,
    "chat.message": _answered,
    "chat.end": _end,
    "task.create": _create,
    "task.send": _send_to_task,
    "task.info": _info,
    "task.cancel": _cancel,
    "task.subscribe": _subscribe,
}
