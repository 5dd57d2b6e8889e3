"""Apps behind a real uvicorn on the loopback, and a proxy that loses answers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from dispatch.api import direct_socket


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(
    app: Any, *, sockets: list[socket.socket] | None = None, max_message_bytes: int = 1 << 20
) -> AsyncIterator[str]:
    """Serve an ASGI app on the loopback, at a free port or at `sockets`; yields its address."""
    server = _Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
            ws=direct_socket.Protocol,
            ws_max_size=max_message_bytes,
        )
    )
    task = asyncio.create_task(server.serve(sockets))
    try:
        async with asyncio.timeout(60):
            while not server.started:
                assert not task.done(), "the server did not start"
                await asyncio.sleep(0.01)
        heard = sockets or server.servers[0].sockets
        port = heard[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@dataclass
class Forgetful:
    """A proxy that passes requests on, but answers only after so many lost ones."""

    url: str
    losses: int
    requests: int = 0


@contextlib.asynccontextmanager
async def losing_answers(url: str, *, losses: int) -> AsyncIterator[Forgetful]:
    """Stand between a client and an API; the first answers are lost on the way."""
    target = urlsplit(url)
    proxy = Forgetful("", losses)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_api, from_api = None, None
        try:
            while request := await reader.read(65536):
                proxy.requests += 1
                from_api, to_api = await asyncio.open_connection(target.hostname, target.port)
                to_api.write(request.replace(b"Connection: keep-alive", b"Connection: close"))
                answer = await from_api.read()
                if proxy.losses:
                    proxy.losses -= 1
                    return
                writer.write(answer)
                await writer.drain()
        finally:
            for each in (to_api, writer):
                if each is not None:
                    each.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield proxy
