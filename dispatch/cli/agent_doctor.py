"""`arbe agent doctor`: can this machine run an agent, and if not, what is missing.

It looks at the machine it is called on, with the settings of its shell: call it where the
workers run, as they run.
"""

import asyncio
from typing import Any, Final

from dispatch import pi_install
from dispatch.cli import exits
from dispatch.cli.doors import Door
from dispatch.errors import Invalid
from dispatch.models import providers

PI: Final = "pi"
Check = dict[str, Any]


async def examine(door: Door, handle: str | None) -> int:
    """Show each check of pi's machine, and of an agent's config; return the exit code."""
    agent = await door.client.agents.get(handle) if handle is not None else None
    if agent is not None and agent["runner"] != PI:
        checks = [_good("runner", f"'{agent['runner']}' needs nothing of this machine.")]
    else:
        checks = await asyncio.to_thread(_checks, door, agent)
    _show(door, checks)
    return exits.OK if all(each["ok"] for each in checks) else exits.ERROR


def _checks(door: Door, agent: dict[str, Any] | None) -> list[Check]:
    config = _config(agent)
    checks = _programs(door, config.get("piCommand"))
    if agent is not None:
        checks.append(_model(agent))
        checks.append(_key(door, config))
    return checks


def _config(agent: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] | None = agent.get("config") if agent is not None else None
    return found or {}


def _programs(door: Door, wanted: str | None) -> list[Check]:
    checks: list[Check] = []
    needed = pi_install.OLDEST_NODE
    try:
        pi = pi_install.find_pi(door.settings, wanted=wanted)
    except Invalid as problem:
        checks.append(_bad("pi", problem))
    else:
        needed = pi.node_needed
        checks.append(_good("pi", f"{pi.version} ({pi.script})", version=pi.version))
    try:
        node = pi_install.find_node(door.settings, needed=needed)
    except Invalid as problem:
        checks.append(_bad("node", problem))
    else:
        checks.append(_good("node", f"{node.version} ({node.program})", version=node.version))
    return checks


def _model(agent: dict[str, Any]) -> Check:
    config = _config(agent)
    if not agent.get("model"):
        return _bad("model", Invalid("The agent has no model.", next_step="Give it one."))
    if not config.get("provider") and not config.get("baseUrl"):
        return _bad(
            "model",
            Invalid(
                "The agent's config names no provider.",
                next_step="Set `provider` or `baseUrl` in it.",
            ),
        )
    place = config.get("baseUrl") or config["provider"]
    return _good("model", f"{agent['model']} of {place}")


def _key(door: Door, config: dict[str, Any]) -> Check:
    """Tell whether the key is there; its value is not shown."""
    name = config.get("apiKeyEnv")
    if name is None:
        return _good("key", "The agent's config asks for none (apiKeyEnv).")
    if not door.settings.allows_provider_key(name):
        return _bad(
            "key",
            Invalid(
                f"Agents may not ask for the variable {name}.",
                next_step="Allow it by ARBE_PROVIDER_KEY_NAMES.",
            ),
        )
    try:
        providers.require_allowed(config, door.settings)
    except Invalid as problem:
        return _bad("key", problem)
    if door.settings.provider_key(name) is None:
        return _bad(
            "key",
            Invalid(f"{name} is not set here.", next_step="Set it where the workers run."),
        )
    return _good("key", f"{name} is set")


def _good(name: str, found: str, **more: Any) -> Check:
    return {"name": name, "ok": True, "found": found, **more}


def _bad(name: str, problem: Invalid) -> Check:
    return {"name": name, "ok": False, "found": problem.what, "nextStep": problem.next_step}


def _show(door: Door, checks: list[Check]) -> None:
    if door.output.as_json:
        door.output.json({"ok": all(each["ok"] for each in checks), "checks": checks})
        return
    for each in checks:
        door.output.line(
            f"{'ok     ' if each['ok'] else 'missing'}  {each['name']}: {each['found']}",
            "good" if each["ok"] else "error",
        )
        if each.get("nextStep"):
            door.output.line(f"  {each['nextStep']}")
