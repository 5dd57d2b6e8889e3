"""Questions of turns on the wire, and their answers."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, Milliseconds, examples
from dispatch.operations.permissions import Permission
from dispatch.payloads.chat import Author
from dispatch.payloads.signals import (
    AskDefault,
    AskKind,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
)

Status = Literal["open", "granted", "denied", "expired"]


class AnswerPermission(Body):
    """What somebody decides; `output` for questions of kind `output`, and only there."""

    model_config = shapes.example(decision="grant", message="Go ahead.")

    decision: Literal["grant", "deny"]
    message: Annotated[
        str | None,
        Field(max_length=2000, description="Why; the model reads a refusal's."),
    ] = None
    output: Annotated[
        str | None, Field(description="What came of the call that was yours to make.")
    ] = None
    is_error: Annotated[bool, Field(description="That call failed.")] = False


class PermissionAnswer(Answer):
    """A question of a turn, and how it stands."""

    model_config = shapes.example(**examples.PERMISSION)

    id: str
    thread_id: str
    dispatch_id: str
    agent_id: str
    kind: Annotated[
        AskKind,
        Field(
            description="May the call be made (`permission`), or what came of it, since a "
            "program of yours makes it (`output`)?"
        ),
    ]
    tool_call_id: str
    tool_name: str
    arguments: dict[str, Any]
    deadline_ms: Milliseconds
    default: Annotated[AskDefault, Field(description="The answer after the deadline.")]
    status: Status
    by: Annotated[
        dict[str, Any] | None, Field(description="Who answered: `kind`, `id`, `name`.")
    ] = None
    message: str | None = None
    output: str | None = None
    is_error: bool | None = None


class PermissionsAnswer(Answer):
    """Open questions, thread by thread, the oldest of a thread first."""

    model_config = shapes.example(permissions=[examples.PERMISSION])

    permissions: list[PermissionAnswer]


def permission(found: Permission) -> PermissionAnswer:
    """Show a question, and its answer if it has one."""
    asked, answer = found.question.asked, found.question.answer
    shown = PermissionAnswer(
        id=asked.permission_id,
        thread_id=str(found.thread_id),
        dispatch_id=asked.dispatch_id,
        agent_id=asked.agent_id,
        kind=asked.kind,
        tool_call_id=asked.tool_call_id,
        tool_name=asked.tool_name,
        arguments=asked.arguments,
        deadline_ms=asked.deadline,
        default=asked.default,
        status="open",
    )
    match answer:
        case None:
            return shown
        case PermissionExpired():
            return shown.model_copy(update={"status": "expired"})
        case PermissionDenied():
            said = {"status": "denied", "by": _author(answer.by), "message": answer.message}
            return shown.model_copy(update=said)
        case PermissionGranted():
            told = {
                "status": "granted",
                "by": _author(answer.by),
                "message": answer.message,
                "output": answer.output,
                "is_error": answer.is_error if answer.output is not None else None,
            }
            return shown.model_copy(update=told)


def _author(by: Author | None) -> dict[str, Any] | None:
    if by is None:
        return None
    fields = {"kind": by.kind, "id": by.id, "name": by.name}
    return {name: value for name, value in fields.items() if value is not None}
