"""Finds the code an agent's config names, and ends a turn whose code breaks down."""

import asyncio
import importlib
import inspect
from collections.abc import Awaitable
from typing import Any, Final

from dispatch import log
from dispatch.errors import ArbeError, Invalid
from workers.agents import TurnRequest
from workers.agents.telling import Telling
from workers.outcomes import AgentOutcome, Completed, Failed

MAX_STEPS: Final = 50
"""Answers of the model in one turn, unless the agent's config says otherwise (`maxSteps`)."""

_log = log.get(__name__)


async def load(request: TurnRequest, key: str) -> Any:
    """Return what the config's `key` names as `package.module:attribute`.

    Raises: Invalid, when it names nothing that can be imported on this worker.
    """
    path = request.agent.config.get(key)
    if not isinstance(path, str) or path.count(":") != 1:
        raise Invalid(
            f'The agent\'s config needs `{key}`: "package.module:attribute".',
            next_step="It must be importable where the workers run.",
        )
    # An import may take seconds and must not hold up the other turns.
    return await asyncio.to_thread(_import, path, key)


def _import(path: str, key: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as problem:
        raise Invalid(
            f"The agent's `{key}` ({path}) cannot be imported: {problem}.",
            next_step="Install it where the workers run, or correct the agent's config.",
        ) from problem
    return found


async def made(
    request: TurnRequest, key: str, kinds: type | tuple[type, ...], *, noun: str
) -> Any:
    """Return what the config's `key` names, or what the function there makes for this turn.

    Args: noun: what it should be, for people.
    Raises: Invalid, when it is neither.
    """
    found = await load(request, key)
    if not isinstance(found, kinds) and callable(found):
        found = found()
        found = await found if inspect.isawaitable(found) else found
    if not isinstance(found, kinds):
        raise Invalid(f"The agent's `{key}` is no {noun} and makes none.")
    return found


def text_of(request: TurnRequest, key: str) -> str | None:
    """Return a text of the agent's config, if it is there."""
    found = request.agent.config.get(key)
    return found if isinstance(found, str) and found else None


def max_steps(request: TurnRequest) -> int:
    """Return how many answers of the model this turn may take."""
    found = request.agent.config.get("maxSteps", MAX_STEPS)
    if not isinstance(found, int) or found < 1:
        raise Invalid("`maxSteps` must be a whole number above 0.")
    return found


async def ended(telling: Telling, taking: Awaitable[None]) -> AgentOutcome:
    """Wait for a turn's end and return it, with what was used whatever the end.

    Raises: what the record refuses, and the cancellation.
    """
    try:
        await taking
    except Invalid as wrong:
        return Failed(reason=wrong.code, message=str(wrong), usage=telling.usage)
    except ArbeError:
        raise
    except Exception as error:  # noqa: BLE001 - a library, its model's client, or a user's code
        _log.exception("agent.broke_down")
        problem = log.scrub(f"{type(error).__name__}: {error}")
        await telling.break_off(problem)
        return Failed(
            reason="agent_error", message=problem, usage=telling.usage, retryable=True
        )
    return Completed(usage=telling.usage)
