"""Say whether a worker of this host lives: `python -m workers.check_health`.

For a container's health check. It asks Redis, where the worker's own loop beats: a worker whose
loop hangs is unhealthy although its process lives, and so is one that says it is deaf.
Exit code 0 yes, 1 no.
"""

import asyncio
import socket
import sys

from dispatch.config import Settings
from dispatch.errors import ArbeError
from dispatch.streams import deafness, lanes
from dispatch.streams.connection import Connection


async def is_healthy(settings: Settings) -> bool:
    """Say whether workers of this host beat within `worker_dead_seconds`, none of them deaf."""
    connection = Connection(
        settings.stream_url.get_secret_value(), timeout_seconds=settings.stream_timeout_seconds
    )
    try:
        living = await lanes.list_living_workers(
            connection, alive_within_seconds=settings.worker_dead_seconds
        )
        ours = [each for each in living if each.startswith(f"{socket.gethostname()}.")]
        return bool(ours) and not await deafness.list_deaf(connection, ours)
    except ArbeError:
        return False
    finally:
        await connection.close()


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(is_healthy(Settings())) else 1)
