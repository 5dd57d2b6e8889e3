"""What an agent's config says of tools: which there are, and which must be asked for. Pure.

    {"tools": ["run_command"], "permissions": {"run_command": "ask"}, "permissionSeconds": 3600,
     "functions": [{"name": "weather", "description": "…", "parameters": {"type": "object"}}]}

Not guaranteed: that a name in `permissions` is a tool; a runner may bring tools of its own.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from dispatch.errors import Invalid
from dispatch.payloads.signals import AskDefault

Rule = Literal["allow", "ask", "deny"]
RUN_COMMAND: Final = "run_command"
DELEGATE_TASK: Final = "delegate_task"
OWN: Final = (RUN_COMMAND, DELEGATE_TASK)
"""Tools that workers perform themselves; `workers.tools` says how."""
MAX_WAIT_SECONDS: Final = 30 * 24 * 3600
_MAX_COUNT: Final = 1000
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What providers of models accept as the name of a function."""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as a model is told of it; `parameters` is the JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


class ToolConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The keys of an agent's config that rule its tools."""

    tools: tuple[str, ...] = (RUN_COMMAND,)
    """Those of the workers' own that it may call."""
    functions: tuple[Tool, ...] = ()
    """Those that a program of its people performs."""
    permissions: dict[str, Rule] = {}
    permission_seconds: float | None = None
    """How long a question may be answered; None: `ARBE_PERMISSION_SECONDS`."""
    permission_default: AskDefault = "deny"
    """The answer when nobody gave one."""
    delegates_to: tuple[str, ...] | None = None
    """Handles of those it may give tasks to; None: anybody of its house."""
    delegation_seconds: float | None = None
    """How long a task may take; None: `ARBE_DELEGATION_SECONDS`."""
    max_delegation_depth: int | None = None
    max_delegations: int | None = None
    max_open_delegations: int | None = None
    """Less than the settings of these names, if less."""

    def is_function(self, name: str) -> bool:
        """Tell whether a tool is performed by a program of the agent's people."""
        return any(each.name == name for each in self.functions)


def of(config: Mapping[str, Any]) -> ToolConfig:
    """Return what an agent's config says of tools.

    Raises: Invalid, naming the key.
    """
    try:
        found = msgspec.convert(dict(config), ToolConfig)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The agent's config is wrong: {error}.",
            next_step="See docs/permissions.md and docs/delegation.md for the keys.",
        ) from error
    _check_tools(found.tools)
    _check_functions(found.functions)
    _check_seconds("permissionSeconds", found.permission_seconds)
    _check_seconds("delegationSeconds", found.delegation_seconds)
    _check_count("maxDelegationDepth", found.max_delegation_depth)
    _check_count("maxDelegations", found.max_delegations)
    _check_count("maxOpenDelegations", found.max_open_delegations)
    return found


def check(config: Mapping[str, Any]) -> None:
    """Return if an agent's config says something sensible of tools, or nothing.

    Raises: Invalid, naming the key.
    """
    of(config)


def _check_seconds(name: str, seconds: float | None) -> None:
    if seconds is None or (math.isfinite(seconds) and 0 < seconds <= MAX_WAIT_SECONDS):
        return
    raise Invalid(f"`{name}` must be more than 0 and at most {MAX_WAIT_SECONDS}.")


def _check_count(name: str, count: int | None) -> None:
    if count is not None and not 0 <= count <= _MAX_COUNT:
        raise Invalid(f"`{name}` must be between 0 and {_MAX_COUNT}.")


def _check_tools(names: tuple[str, ...]) -> None:
    for name in names:
        if name not in OWN:
            raise Invalid(
                f"`tools` names a tool there is not: '{name}'.",
                next_step=f"There is: {', '.join(OWN)}.",
            )


def _check_functions(functions: tuple[Tool, ...]) -> None:
    taken: set[str] = set(OWN)
    for each in functions:
        if not _NAME.fullmatch(each.name):
            raise Invalid(
                f"`functions` has a name that models cannot call: '{each.name}'.",
                next_step="Use 1 to 64 of A-Z, a-z, 0-9, _ and -.",
            )
        if each.name in taken:
            raise Invalid(f"`functions` has a name that is taken: '{each.name}'.")
        if each.parameters.get("type") != "object":
            raise Invalid(
                f"`functions`: the parameters of '{each.name}' must be the JSON schema of an "
                "object.",
                next_step='Send {"type": "object", "properties": {…}}.',
            )
        taken.add(each.name)
