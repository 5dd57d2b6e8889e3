"""Which code answers to an agent's `runner`: the built-in ones, then installed packages'.

A package offers a runner by the entry point group `arbe.runners`:

    [project.entry-points."arbe.runners"]
    mine = "my_package.agent:run"
"""

import importlib
import sys
from importlib import metadata
from types import MappingProxyType
from typing import Any, Final

from dispatch.errors import Invalid
from workers.agents import Forget, Runner

ENTRY_POINT_GROUP: Final = "arbe.runners"
BUILT_IN: Final = MappingProxyType[str, str](
    {
        "demo": "workers.agents.demo",
        "pi": "workers.agents.pi.runner",
        "langgraph": "workers.agents.langgraph",
        "llamaindex": "workers.agents.llamaindex",
        "pydantic-ai": "workers.agents.pydantic_ai",
        "python": "workers.agents.python",
    }
)
"""The modules whose `run` they are, imported at their first use: frameworks take seconds, and
each is an extra of the same name (`arbe-dispatch[langgraph]`) that need not be installed."""


def find(runner: str) -> Runner:
    """Return the runner of that name.

    Promise: a built-in name cannot be taken over by a package. Blocking: a package's first use
    imports it.
    Raises: Invalid, when no package or more than one offers it, or its import fails.
    """
    built_in = BUILT_IN.get(runner)
    if built_in is not None:
        return _built_in(runner, built_in)
    offers = list(metadata.entry_points(group=ENTRY_POINT_GROUP, name=runner))
    if not offers:
        raise Invalid(f"No runner '{runner}' on this worker.", next_step=_what_there_is())
    if len(offers) > 1:
        raise Invalid(
            f"Several packages offer a runner '{runner}': {_packages(offers)}.",
            next_step="Uninstall all but one of them from the worker's environment.",
        )
    return _load(offers[0])


async def close() -> None:
    """Give back what built-in runners hold on this loop; their next use takes it again."""
    for leave in _offered("close"):
        await leave()


def forgetting() -> list[Forget]:
    """Return the `forget` of each built-in runner that has one and was used here."""
    return _offered("forget")


def _offered(name: str) -> list[Any]:
    modules = [sys.modules.get(each) for each in BUILT_IN.values()]
    return [getattr(each, name) for each in modules if hasattr(each, name)]


def _built_in(runner: str, module_name: str) -> Runner:
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("workers."):
            raise
        raise Invalid(
            f"Runner '{runner}' needs `{missing.name}`, which this worker has not.",
            next_step=f"Where the workers run: pip install 'arbe-dispatch[{runner}]'.",
        ) from missing
    found: Runner = module.run
    return found


def _load(offer: metadata.EntryPoint) -> Runner:
    try:
        runner = offer.load()
    except (ImportError, AttributeError) as problem:
        raise Invalid(
            f"Runner '{offer.name}' ({offer.value}) cannot be imported: {problem}.",
            next_step="Repair or reinstall its package in the worker's environment.",
        ) from problem
    if not callable(runner):
        raise Invalid(
            f"Runner '{offer.name}' ({offer.value}) is not callable.",
            next_step="Its entry point must name an `async def run(request, hands)`.",
        )
    return runner  # type: ignore[no-any-return]  # what a package offers has no static type


def _what_there_is() -> str:
    offered = {offer.name for offer in metadata.entry_points(group=ENTRY_POINT_GROUP)}
    names = ", ".join(sorted(offered | set(BUILT_IN)))
    return f"Use one of: {names}; or install its package where the workers run."


def _packages(offers: list[metadata.EntryPoint]) -> str:
    return ", ".join(sorted(offer.dist.name if offer.dist else offer.value for offer in offers))
