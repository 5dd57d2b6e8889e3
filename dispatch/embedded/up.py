"""`arbe up`: the whole system on one machine, in one folder, under one supervisor.

Postgres and Redis are private ones unless their URLs are given. All that must survive lies in
the folder, so a restart finds everything again. Nothing outside the folder is touched.
"""

import asyncio
import contextlib
import shutil
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pydantic import SecretStr

from dispatch import errors
from dispatch.config import Settings
from dispatch.embedded import children, first_house, folder_lock, interruption, supervisor
from dispatch.embedded.first_house import Credentials
from dispatch.embedded.journal import Journal
from dispatch.embedded.postgres import Postgres
from dispatch.embedded.redis import Redis
from dispatch.embedded.supervisor import Supervisor
from dispatch.stores.postgres.migrations import runner


@dataclass(frozen=True)
class Running:
    """A system that serves."""

    directory: Path

    settings: Settings
    """As its processes have them, private servers included."""
    credentials: Credentials
    supervisor: Supervisor


async def up(
    settings: Settings, *, directory: Path, on_ready: Callable[[Running], Awaitable[None]]
) -> None:
    """Serve until Ctrl-C or SIGTERM; a second one kills what has not stopped yet.

    Promise: on return no child lives and all data is in the folder.
    Raises: Conflict (folder or port in use), Unavailable (something does not start).
    """

    async def serve(interrupted: interruption.Interruption) -> None:
        async with serving(
            settings, directory=directory, in_haste=interrupted.twice
        ) as running:
            await on_ready(running)
            await interrupted.once.wait()

    await interruption.run(serve)


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    *,
    directory: Path,
    in_haste: asyncio.Event,
    echo: TextIO | None = sys.stderr,
) -> AsyncGenerator[Running]:
    """Have the whole system for the length of the block.

    Args: in_haste: once set, what still stops is killed. echo: where the log goes besides its
        file.
    Raises: as `up`.
    """
    directory = directory.resolve()  # noqa: ASYNC240 — nothing else runs yet
    with (
        folder_lock.held(directory),
        contextlib.closing(Journal(directory / "arbe.log", echo=echo)) as journal,
    ):
        _require_free_port(settings)
        async with supervisor.running(journal, in_haste=in_haste) as processes:
            settings = await _start_servers(settings, directory=directory, processes=processes)
            await asyncio.to_thread(runner.upgrade, settings.database_url.get_secret_value())
            credentials = await first_house.find_or_make(
                settings,
                file=directory / "credentials.json",
                url=children.api_url(settings),
            )
            await processes.start(children.api(settings))
            await processes.start(children.worker(settings))
            await processes.start(children.beat(settings, directory=directory))
            yield Running(
                directory=directory,
                settings=settings,
                credentials=credentials,
                supervisor=processes,
            )


def welcome(running: Running) -> str:
    """Say where the system is and what to try first. It shows the token: not for a log."""
    known = running.credentials
    agent = f"@{first_house.DEMO_AGENT}"
    arbe = _command()
    return f"""
arbe is up.

  API     {known.url}   (its OpenAPI page: {known.url}/docs)
  token   {known.token}
  log     {running.directory / "arbe.log"}

Try, in another terminal in this folder:

  {arbe} thread entries create {agent} "run: uname -a" --follow
  {arbe} thread list
  {arbe} thread entries read <thread id>

Elsewhere, first: export ARBE_URL={known.url} ARBE_TOKEN=<the token>
Ctrl-C stops everything; the data stays in {running.directory}.
"""


def _command() -> str:
    """Return how a person types our command: by its name, if the shell would find it."""
    if shutil.which("arbe"):
        return "arbe"
    beside = Path(sys.executable).parent / "arbe"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


async def _start_servers(
    settings: Settings, *, directory: Path, processes: Supervisor
) -> Settings:
    """Start those servers that no URL names; return settings that name all."""
    found: dict[str, SecretStr | str] = {"workspace_root": _workspaces(settings, directory)}
    if not settings.database_url.get_secret_value():
        database = Postgres(directory / "postgres")
        await database.prepare()
        await processes.start(children.postgres(database))
        found["database_url"] = SecretStr(database.url)
    if not settings.stream_url.get_secret_value():
        streams = Redis(directory / "redis")
        await streams.prepare()
        await processes.start(children.redis(streams))
        found["stream_url"] = SecretStr(streams.url)
    return settings.model_copy(update=found)


def _workspaces(settings: Settings, directory: Path) -> str:
    """Keep workspaces with the other data, unless somebody named a place for them."""
    named = "workspace_root" in settings.model_fields_set
    return str(Path(settings.workspace_root).resolve() if named else directory / "workspaces")


def _require_free_port(settings: Settings) -> None:
    """Refuse to start beside a stranger, whose health check would be taken for ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.api_host, settings.api_port))
        except OSError as taken:
            raise errors.Conflict(
                "port_taken",
                f"The API cannot listen on {settings.api_host}:{settings.api_port} ({taken}).",
                next_step="Stop what listens there, or choose another ARBE_API_PORT.",
            ) from taken
