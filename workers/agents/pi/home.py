"""The private folder of one turn: all that a pi reads and writes lies in it, and ends with it.

Promise: only this user may enter it; the key's file is gone once pi has answered. Its name and
the environment of what runs in it tell whose they are (`leftovers`).
"""

import asyncio
import atexit
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from dispatch.config import Settings, network_environment
from dispatch.errors import Invalid
from dispatch.pi_install import Install
from workers.agents.pi import leftovers
from workers.agents.pi.profile import Profile

EXTENSION: Final = Path(__file__).with_name("extension.mjs")
_PRIVATE_FOLDER: Final = 0o700
MAX_FOLDER_PATH: Final = 80
"""Unix socket paths end at 108 bytes on Linux, at 104 on macOS; `-xxxxxxxx/bridge` follows."""
SETTLES_SINCE: Final = (0, 80, 4)
"""The version from which on pi says `agent_settled` …"""
MINDS_ENDS_SINCE: Final = (0, 84, 0)
"""… and notices that an answer was cut off."""

_COMPAT: Final[dict[str, Any]] = {
    "supportsDeveloperRole": False,
    "supportsReasoningEffort": False,
    "supportsStore": False,
    "maxTokensField": "max_tokens",
}
"""What any server of the OpenAI dialect understands; an agent's `compat` goes before it."""


class Home:
    """One turn's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(24)
        self.socket = folder / "bridge"
        self.session = folder / "session.jsonl"
        self.work = folder / "work"
        self._agent = folder / "agent"
        self._models = self._agent / "models.json"

    def furnish(
        self,
        profile: Profile,
        settings: Settings,
        *,
        session: Iterable[bytes],
        bridge: dict[str, Any],
    ) -> None:
        """Write what pi reads at its start. Blocking."""
        for folder in (self.work, self._agent, self.folder / "tmp"):
            folder.mkdir(mode=0o700)
        self._write(self._agent / "settings.json", _settings_of_pi(settings))
        self._write(self.folder / "bridge.json", bridge)
        self._write(self._models, _models(profile))
        # pi would read the file that a prompt names, were it given as it is.
        self._write_text(self.folder / "system.md", profile.system_prompt)
        with open(self.session, "xb", opener=_private) as file:
            file.writelines(session)

    def arguments(self, install: Install, profile: Profile) -> list[str]:
        """Return pi's command line; there is no secret in it."""
        found = [
            str(install.node.program), str(install.pi.script),
            "--mode", "rpc",
            "--model", profile.model_ref,
            "--thinking", profile.config.thinking,
            "--session", str(self.session),
            "--no-builtin-tools", "--extension", str(EXTENSION),
            "--no-extensions", "--no-skills", "--no-prompt-templates", "--no-themes",
            "--no-context-files",
            "--system-prompt", str(self.folder / "system.md"),
        ]  # fmt: skip
        if install.pi.number >= (1, 0, 0):
            found.append("--no-approve")
        return found

    def environment(self, run_id: str) -> dict[str, str]:
        """Return all that pi's process is told; nothing of the worker's own but the proxies."""
        folder = str(self.folder)
        return {
            **network_environment(),
            **leftovers.marks(run_id),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": folder,
            "TMPDIR": str(self.folder / "tmp"),
            "PI_CODING_AGENT_DIR": str(self._agent),
            "PI_OFFLINE": "1",
            "PI_TELEMETRY": "0",
            "PI_SKIP_VERSION_CHECK": "1",
            "NODE_COMPILE_CACHE": str(compile_cache()),
            "ARBE_PI_BRIDGE": str(self.folder / "bridge.json"),
        }

    def forget_key(self) -> None:
        """Delete the file with the key: pi has read it."""
        self._models.unlink(missing_ok=True)

    async def remove(self) -> None:
        """Delete the folder with all that is in it."""
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    def _write(self, file: Path, content: dict[str, Any]) -> None:
        self._write_text(file, msgspec.json.encode(content).decode())

    def _write_text(self, file: Path, text: str) -> None:
        with open(file, "x", encoding="utf-8", opener=_private) as writing:
            writing.write(text)


def make(run_id: str) -> Home:
    """Make the folder of one turn, where its socket's path is short enough. Blocking."""
    name = leftovers.folder_name(run_id)
    place, fallback = leftovers.places()
    if len(str(place / name)) > MAX_FOLDER_PATH:
        place = fallback
    return Home(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=place)))


def compile_cache() -> Path:
    """Return where Node keeps what it compiled, for the next pi of this worker. Blocking.

    It takes 40 % off a start. It is this worker's alone: what lies there is run.
    """
    place = Path(tempfile.gettempdir()) / leftovers.folder_name("cache")
    place.mkdir(mode=0o700, exist_ok=True)
    found = place.stat(follow_symlinks=False)
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != _PRIVATE_FOLDER:
        raise Invalid(f"{place} is not this worker's.", next_step="Remove it.")
    _remove_at_exit(place)
    return place


@lru_cache(maxsize=1)
def _remove_at_exit(place: Path) -> None:
    atexit.register(shutil.rmtree, place, ignore_errors=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _models(profile: Profile) -> dict[str, Any]:
    config = profile.config
    if config.base_url is None:
        # One that pi knows: nothing is changed but the key.
        overrides: dict[str, Any] = {profile.model: {}}
        known = {"apiKey": profile.key, "modelOverrides": overrides}
        return {"providers": {profile.provider: known}}
    cost = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, **config.cost}
    model = {
        "id": profile.model,
        "name": profile.model,
        "reasoning": config.reasoning,
        "input": ["text"],
        "contextWindow": config.context_window,
        "maxTokens": config.max_tokens,
        "cost": cost,
    }
    provider: dict[str, Any] = {
        "baseUrl": config.base_url,
        "api": config.api,
        "apiKey": profile.key,
        "models": [model],
    }
    if config.api == "openai-completions":
        provider["compat"] = {**_COMPAT, **config.compat}
    return {"providers": {profile.provider: provider}}


def _settings_of_pi(settings: Settings) -> dict[str, Any]:
    silence_ms = round(settings.pi_silence_seconds * 1000)
    return {
        "retry": {
            "enabled": settings.pi_retries > 0,
            "maxRetries": settings.pi_retries,
            "baseDelayMs": round(settings.pi_retry_seconds * 1000),
            # Below these retries 0.73 makes some of its own and says nothing of them.
            "provider": {"maxRetries": 0, "timeoutMs": silence_ms},
        },
        "httpIdleTimeoutMs": silence_ms,
        "compaction": {"enabled": True},
        "steeringMode": "all",
        "enableInstallTelemetry": False,
        "quietStartup": True,
    }
