"""What each method takes. Names are the protocol's; fields nobody knows are passed over."""

from typing import Any, TypeVar

import msgspec

from dispatch.errors import Invalid
from dispatch.models.arc_tasks import EventName, Priority

_T = TypeVar("_T")


class Params(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of all."""


class ChatStart(Params, frozen=True):
    """Of `chat.start`. `chat_id`: the caller's choice."""

    initial_message: dict[str, Any]
    chat_id: str | None = None
    stream: bool | None = None
    metadata: dict[str, Any] | None = None


class ChatMessage(Params, frozen=True):
    """Of `chat.message`."""

    chat_id: str
    message: dict[str, Any]
    stream: bool | None = None


class ChatEnd(Params, frozen=True):
    """Of `chat.end`."""

    chat_id: str
    reason: str | None = None


class TaskCreate(Params, frozen=True):
    """Of `task.create`."""

    initial_message: dict[str, Any]
    priority: Priority | None = None
    metadata: dict[str, Any] | None = None


class TaskSend(Params, frozen=True):
    """Of `task.send`."""

    task_id: str
    message: dict[str, Any]


class TaskInfo(Params, frozen=True):
    """Of `task.info`."""

    task_id: str
    include_messages: bool | None = True
    include_artifacts: bool | None = True


class TaskCancel(Params, frozen=True):
    """Of `task.cancel`."""

    task_id: str
    reason: str | None = None


class TaskSubscribe(Params, frozen=True):
    """Of `task.subscribe`. `events`: None: the task's end."""

    task_id: str
    callback_url: str
    events: list[EventName] | None = None


def read(given: dict[str, Any], kind: type[_T]) -> _T:
    """Return a method's parameters.

    Raises: Invalid, naming the field.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        what = str(error).replace("$.", "params.").replace("Object", "params", 1)
        raise Invalid(
            f"{what}.", next_step="docs/arc.md lists what each method takes."
        ) from error
