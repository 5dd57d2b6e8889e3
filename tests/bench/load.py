"""A load client for many connections: one request at a time each, kept alive, little parsing.

It runs beside the server on the same core and counts against both sides alike.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import uvloop

from tests.bench.wire import HEAD_END, HOST, content_length


def rate(port: int, requests: Sequence[bytes], *, connections: int) -> float:
    """Send all requests over that many connections; return answers per second.

    Raises: RuntimeError for an answer other than 201.
    """
    return uvloop.run(_drive(port, requests, connections))


async def _drive(port: int, requests: Sequence[bytes], connections: int) -> float:
    loop = asyncio.get_running_loop()
    clients = [_Client(requests[index::connections]) for index in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, HOST, port)
    began = time.perf_counter()
    for client in clients:
        client.begin()
    await asyncio.gather(*(client.done for client in clients))
    return len(requests) / (time.perf_counter() - began)


class _Client(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = iter(requests)
        self._answer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport  # uvloop's, which is no asyncio.Transport

    def begin(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self.done.set_result(None)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        end = self._answer.find(HEAD_END)
        if end < 0:
            return
        if len(self._answer) < end + len(HEAD_END) + content_length(self._answer[:end]):
            return
        if self._answer[9:12] != b"201":
            self.connection_lost(RuntimeError(self._answer.decode(errors="replace")))
            return
        self._answer = b""
        self.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server hung up"))
