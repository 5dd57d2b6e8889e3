"""A model's server that thinks until it is told to answer: OpenAI's chat completions, in short.

It notes when each call came (the machine's monotonic clock), and answers them all at once.
"""

import asyncio
import json
import sys
import time
from typing import Any

from tests.bench.wire import HEAD_END, HOST, HttpSocket, content_length

ASKED, ANSWER = b"GET /asked ", b"POST /answer "
COMPLETION = json.dumps(
    {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Done."},
                "finish_reason": "stop",
            }
        ],
    }
).encode()


class Model:
    """What the bench asks the server: who waits, and that they are answered."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{HOST}:{port}/v1"
        self._client = HttpSocket(port)

    def asked_at(self) -> list[float]:
        """Return when each call that hangs came, in seconds of `time.monotonic`."""
        found: list[float] = json.loads(self._client.send(_request(ASKED))[1])
        return found

    def answer(self) -> None:
        """Answer every call that hangs."""
        self._client.send(_request(ANSWER))

    def close(self) -> None:
        self._client.close()


class _Call(asyncio.Protocol):
    hanging: dict[asyncio.Transport, float]

    def __init__(self, hanging: dict[asyncio.Transport, float]) -> None:
        self._hanging = hanging
        self._asked = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._asked += data
        head, found, body = self._asked.partition(HEAD_END)
        if not found or len(body) < content_length(head):
            return
        self._asked = b""
        if head.startswith(b"POST /v1/chat/completions "):
            self._hanging[self._transport] = time.monotonic()
        elif head.startswith(ANSWER):
            for transport in self._hanging:
                transport.write(_answer(COMPLETION))
            self._hanging.clear()
            self._transport.write(_answer(b"{}"))
        else:
            asked_at = list(self._hanging.values())
            self._transport.write(_answer(json.dumps(asked_at).encode()))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._hanging.pop(self._transport, None)


def _request(line: bytes) -> bytes:
    return line + b"HTTP/1.1\r\nHost: model\r\nContent-Length: 0\r\n\r\n"


def _answer(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


async def main(port: int) -> None:
    hanging: dict[asyncio.Transport, float] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Call(hanging), HOST, port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
