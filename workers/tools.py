"""The worker's own tools: what a model is told of them, and what they do."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import msgspec

from dispatch.errors import Invalid
from dispatch.models import tools
from dispatch.models.houses import Agent
from dispatch.models.tools import Tool
from workers.agents import ToolAnswer, ToolCall
from workers.sandboxes import CommandResult, OnOutput

RUN_COMMAND: Final = Tool(
    name=tools.RUN_COMMAND,
    description=(
        "Run a shell command in this thread's sandbox, whose files stay from one command to "
        "the next. Returns the end of its output and its exit code."
    ),
    parameters={
        "type": "object",
        "properties": {"command": {"type": "string", "description": "For /bin/sh."}},
        "required": ["command"],
        "additionalProperties": False,
    },
)


DELEGATE_TASK: Final = Tool(
    name=tools.DELEGATE_TASK,
    description=(
        "Give a task to another agent of your house, which works at it in a thread of its own "
        "and knows nothing but this text. Returns its last answer. Several at once work side "
        "by side."
    ),
    parameters={
        "type": "object",
        "properties": {
            "agent": {"type": "string", "description": "Its handle, such as @reviewer."},
            "task": {
                "type": "string",
                "description": "All it must know, and what it shall answer.",
            },
            "name": {"type": "string", "description": "A short name of the task."},
        },
        "required": ["agent", "task"],
        "additionalProperties": False,
    },
)


class TaskGiven(msgspec.Struct, forbid_unknown_fields=True):
    """What a model says of a task."""

    agent: str
    task: str
    name: str | None = None


class Reach(Protocol):
    """What the tools need of a turn."""

    async def run_command(self, command: str, on_output: OnOutput) -> CommandResult:
        """Run a shell command in the thread's sandbox."""
        ...

    async def delegate(self, call: ToolCall, given: TaskGiven) -> ToolAnswer:
        """Give a task to another agent and wait for what comes of it."""
        ...


Arguments = TypeVar("Arguments", bound=msgspec.Struct)
OwnTool: TypeAlias = Callable[[Reach, ToolCall, OnOutput], Awaitable[ToolAnswer]]


class _Command(msgspec.Struct, forbid_unknown_fields=True):
    command: str


def offered(agent: Agent) -> tuple[Tool, ...]:
    """Return the tools an agent may call: ours, and its `functions`.

    Its config's `tools` names those of ours; without it: `run_command`.
    Raises: Invalid, for a config that its creation would refuse today.
    """
    config = tools.of(agent.config)
    return (*(_TOOLS[name] for name in config.tools), *config.functions)


def find(name: str) -> OwnTool | None:
    """Return what does a tool of the worker's own."""
    return _PERFORM.get(name)


async def _run_command(reach: Reach, call: ToolCall, on_output: OnOutput) -> ToolAnswer:
    command = arguments_of(call, _Command).command
    if not command.strip():
        raise Invalid("There is no command to run.")
    result = await reach.run_command(command, on_output)
    return ToolAnswer(
        text=_told(result), is_error=result.exit_code != 0, details=_details(result)
    )


async def _delegate_task(reach: Reach, call: ToolCall, _on_output: OnOutput) -> ToolAnswer:
    return await reach.delegate(call, arguments_of(call, TaskGiven))


def _told(result: CommandResult) -> str:
    head = f"[The last part of {result.total_bytes} bytes]\n" if result.truncated else ""
    return f"{head}{result.output}{_ending(result)}"


def _ending(result: CommandResult) -> str:
    if result.timed_out:
        return f"\n[Stopped after {result.duration_seconds:.0f} s, its time limit]"
    if result.signal is not None:
        return f"\n[Exit code {result.exit_code} ({result.signal})]"
    return f"\n[Exit code {result.exit_code}]" if result.exit_code else ""


def _details(result: CommandResult) -> dict[str, Any]:
    kept = {} if result.kept is None else {"output": msgspec.to_builtins(result.kept)}
    return {
        **kept,
        "exitCode": result.exit_code,
        "signal": result.signal,
        "timedOut": result.timed_out,
        "truncated": result.truncated,
        "totalBytes": result.total_bytes,
        "durationMs": round(result.duration_seconds * 1000),
    }


def arguments_of(call: ToolCall, kind: type[Arguments]) -> Arguments:
    """Read a call's arguments.

    Raises: Invalid, naming what is wrong, for the model to read.
    """
    try:
        return msgspec.convert(call.arguments, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"The arguments of {call.name} are wrong: {error}.") from error


_TOOLS: Final[Mapping[str, Tool]] = MappingProxyType(
    {each.name: each for each in (RUN_COMMAND, DELEGATE_TASK)}
)
_PERFORM: Final[Mapping[str, OwnTool]] = MappingProxyType(
    {RUN_COMMAND.name: _run_command, DELEGATE_TASK.name: _delegate_task}
)
