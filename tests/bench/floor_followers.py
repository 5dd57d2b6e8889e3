"""The least that serves followers: it hears Redis's channels and writes frames to sockets.

No HTTP beyond a head, no cursor, no catching up, no rights, no bound for slow readers.
"""

import asyncio
import re
import sys
from typing import Any

import hiredis
import uvloop

from dispatch.streams.entries import wire_of
from tests.bench.wire import HOST, RedisSocket, resp

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
HEALTH = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
THREAD = re.compile(rb"/threads/([0-9a-f-]{36})/")
FRAME = (
    b"event: data\ndata:[%s]\nid: %s\n\n"
    b'event: control\ndata:{"streamNextOffset":"%s","streamCursor":"0","upToDate":true}\n\n'
)
Followers = dict[bytes, set[Any]]


class Server(asyncio.Protocol):
    """One follower."""

    def __init__(self, followers: Followers) -> None:
        self._followers = followers
        self._channel = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        found = THREAD.search(data)
        if found is None:
            self._transport.write(HEALTH)
            return
        self._channel = b"arbe-thread-" + found[1]
        self._followers.setdefault(self._channel, set()).add(self._transport)
        self._transport.write(HEAD)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._followers.get(self._channel, set()).discard(self._transport)


class Subscriber(asyncio.Protocol):
    """The connection to Redis."""

    def __init__(self, followers: Followers) -> None:
        self._followers = followers
        self._reader = hiredis.Reader()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (message := self._reader.gets()) is not False:
            if message[0] == b"pmessage":
                self._tell(message[2], message[3])

    def _tell(self, channel: bytes, message: bytes) -> None:
        entries = [wire_of(line) for line in message.split(b"\n")]
        last = entries[-1][7:33]
        body = FRAME % (b",".join(entries), last, last)
        frame = b"%x\r\n%s\r\n" % (len(body), body)
        for follower in self._followers.get(channel, ()):
            follower.write(frame)


async def main(port: int, url: str) -> None:
    loop = asyncio.get_running_loop()
    followers: Followers = {}
    redis = RedisSocket(url).socket
    redis.settimeout(0)
    subscriber, _ = await loop.create_connection(lambda: Subscriber(followers), sock=redis)
    subscriber.write(resp(("PSUBSCRIBE", "arbe-thread-*")))
    server = await loop.create_server(lambda: Server(followers), HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
