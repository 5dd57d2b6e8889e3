"""Run the API: `python -m dispatch.api`."""

import gc
import socket
from typing import Final

import uvicorn

from dispatch import log
from dispatch.api import app as factory
from dispatch.api import direct, direct_socket
from dispatch.config import Settings

_GRACE_SECONDS: Final = 5
"""Requests under way get this long at shutdown; followers are sent away before."""
_KEEP_ALIVE_SECONDS: Final = 5
_COLLECT_AFTER: Final = 20_000
"""Young objects before a collection; Python's 700 makes thousands of followers pay for each."""


class Server(uvicorn.Server):
    """uvicorn, which waits for open answers at shutdown: so followers' answers end first."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End sockets and their chats, then followers and ARC's streams, then all else."""
        state = getattr(self.config.app, "state", None)
        if state is not None and hasattr(state, "feed"):
            await state.sockets.close()
            await state.feed.close()
        await super().shutdown(sockets)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = Settings()
    log.configure(level=settings.log_level, as_json=settings.log_json, process="api")
    config = uvicorn.Config(
        factory.create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        http=direct.Protocol,
        ws=direct_socket.Protocol,
        ws_max_size=settings.ws_max_message_bytes,
        log_config=None,
        access_log=False,  # lines would hold query strings, and cost more than a request
        server_header=False,
        proxy_headers=False,  # nothing here asks who the peer is
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    _calm_the_collector()
    Server(config).run()


def _calm_the_collector() -> None:
    """Collect seldom, and never what start-up made: followers leave no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)


if __name__ == "__main__":
    main()
