"""The children of `arbe up` as values: what each runs, is ready, and gets to stop.

Secrets reach them by their environment only, never by their arguments.
"""

import functools
import signal
import sys
from pathlib import Path
from typing import Final

import httpx
from pydantic import SecretStr

from dispatch.config import Settings
from dispatch.embedded import readiness
from dispatch.embedded.child import Child
from dispatch.embedded.postgres import Postgres
from dispatch.embedded.redis import Redis
from dispatch.ids import WorkerId
from dispatch.streams import lanes
from dispatch.streams.connection import Connection

_SERVER_STOP_SECONDS: Final = 30.0
"""Both write their data down; killed earlier, they recover at the next start."""
_API_START_SECONDS: Final = 60.0
_API_STOP_SECONDS: Final = 10.0
"""Twice the grace the API gives to requests under way."""
_BEYOND_DRAIN_SECONDS: Final = 15.0
"""A worker that hangs ends itself 8 s after its drain; only one that cannot is killed."""
_WORKER_START_SECONDS: Final = 60.0
_BEAT_STOP_SECONDS: Final = 5.0
_PROBE_TIMEOUT_SECONDS: Final = 2.0
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}
_ROOT_IS_FINE: Final = "ignore:You're running the worker with superuser privileges"
"""Celery warns because of pickled messages, which our workers refuse."""
_UNPREFIXED: Final = {
    "database_url": "DATABASE_URL",
    "stream_url": "STREAM_URL",
    "broker_url": "BROKER_URL",
}


def postgres(server: Postgres) -> Child:
    """Run the private Postgres."""
    return Child(
        name="postgres",
        command=server.command(),
        ready=server.wait_ready,
        stop_seconds=_SERVER_STOP_SECONDS,
        stop_signal=signal.SIGINT,  # SIGTERM would wait for its last client
    )


def redis(server: Redis) -> Child:
    """Run the private Redis."""
    return Child(
        name="redis",
        command=server.command(),
        ready=server.wait_ready,
        stop_seconds=_SERVER_STOP_SECONDS,
    )


def api(settings: Settings) -> Child:
    """Run the HTTP door; it is ready when its own health check says so."""
    command = [sys.executable, "-m", "dispatch.api"]
    probe = functools.partial(_is_healthy, f"{api_url(settings)}/health")
    return Child(
        name="api",
        command=command,
        environment=environment(settings),
        ready=functools.partial(
            readiness.wait_until_answers,
            probe,
            server="The API",
            timeout_seconds=_API_START_SECONDS,
        ),
        stop_seconds=_API_STOP_SECONDS,
    )


def worker(settings: Settings) -> Child:
    """Run one worker process; it is ready when it has shown its first sign of life."""
    command = [
        sys.executable, "-W", _ROOT_IS_FINE, "-m", "celery", "-q", "-A", "workers.celery_app",
        "worker",
        "-P", "threads", "--concurrency", str(settings.worker_concurrency),
        "--without-gossip", "--without-mingle", "-l", "WARNING",
        "-Q", settings.queues, "-n", "arbe@%h",
    ]  # fmt: skip
    return Child(
        name="worker",
        command=command,
        environment=environment(settings),
        ready=functools.partial(_wait_for_new_worker, settings),
        stop_seconds=settings.drain_seconds + _BEYOND_DRAIN_SECONDS,
    )


def beat(settings: Settings, *, directory: Path) -> Child:
    """Run the timetable."""
    command = [
        sys.executable, "-m", "celery", "-q", "-A", "workers.celery_app", "beat",
        "-s", str(directory / "beat-schedule"), "--pidfile=", "-l", "WARNING",
    ]  # fmt: skip
    return Child(
        name="beat",
        command=command,
        environment=environment(settings),
        stop_seconds=_BEAT_STOP_SECONDS,
    )


def api_url(settings: Settings) -> str:
    """Return the address under which this machine reaches the API."""
    host = _EVERYWHERE.get(settings.api_host, settings.api_host)
    return f"http://{host}:{settings.api_port}"


def environment(settings: Settings) -> dict[str, str]:
    """Write settings as the environment from which a child reads the very same ones."""
    variables: dict[str, str] = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        variables[_UNPREFIXED.get(name, f"ARBE_{name.upper()}")] = text
    return variables


async def _wait_for_new_worker(settings: Settings) -> None:
    """Wait for a worker process that was not there before; a killed one still shows signs."""
    connection = Connection(
        settings.stream_url.get_secret_value(), timeout_seconds=settings.stream_timeout_seconds
    )

    async def living() -> set[WorkerId]:
        within = settings.worker_dead_seconds
        found = await lanes.list_living_workers(connection, alive_within_seconds=within)
        return set(found)

    async def has_come() -> bool:
        return bool(await living() - before)

    try:
        before = await living()
        await readiness.wait_until_answers(
            has_come, server="The worker", timeout_seconds=_WORKER_START_SECONDS
        )
    finally:
        await connection.close()


async def _is_healthy(url: str) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=_PROBE_TIMEOUT_SECONDS) as client:
            answer = await client.get(url)
    except httpx.HTTPError:
        return False
    return answer.is_success
