"""A scripted provider on loopback: speaks OpenAI's dialect, each request takes a step."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 20,
    "total_tokens": 1020,
    "prompt_tokens_details": {"cached_tokens": 400},
}

Step = Callable[["Reply"], Awaitable[None]]


class Reply:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def head(self, status: int = 200, **headers: str) -> None:
        named = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in named.items())]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self._writer.drain()

    async def body(self, text: str) -> None:
        data = text.encode()
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self._writer.drain()

    async def delta(self, finish: str | None = None, **delta: Any) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        await self.event({"choices": [choice]})

    async def event(self, more: dict[str, Any]) -> None:
        known = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "fake-1"}
        await self.body(f"data: {json.dumps({**known, **more})}\n\n")

    async def finish(self, reason: str, usage: dict[str, Any] | None = None) -> None:
        await self.delta(reason)
        await self.event({"choices": [], "usage": usage or USAGE})
        await self.body("data: [DONE]\n\n")
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def cut(self) -> None:
        self._writer.transport.abort()

    async def wait_for_ever(self) -> None:
        await asyncio.Event().wait()


def text(
    answer: str, *, pieces: int = 3, finish: str = "stop", usage: dict[str, Any] | None = None
) -> Step:
    async def step(reply: Reply) -> None:
        await reply.head()
        size = max(1, -(-len(answer) // pieces))
        for start in range(0, len(answer), size):
            await reply.delta(content=answer[start : start + size])
        await reply.finish(finish, usage)

    return step


def thinking(thought: str, answer: str) -> Step:
    async def step(reply: Reply) -> None:
        await reply.head()
        await reply.delta(reasoning_content=thought)
        await reply.delta(content=answer)
        await reply.finish("stop")

    return step


def tool_calls(*calls: tuple[str, str, Any], say: str = "") -> Step:
    """Each call: id, name, arguments (a string stands as it is)."""

    async def step(reply: Reply) -> None:
        await reply.head()
        if say:
            await reply.delta(content=say)
        for index, (identity, name, arguments) in enumerate(calls):
            raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
            await reply.delta(
                tool_calls=[
                    {
                        "index": index,
                        "id": identity,
                        "type": "function",
                        "function": {"name": name, "arguments": raw},
                    }
                ]
            )
        await reply.finish("tool_calls")

    return step


def status(code: int, message: str = "boom", **headers: str) -> Step:
    async def step(reply: Reply) -> None:
        await reply.head(code, content_type="application/json", **headers)
        await reply.body(json.dumps({"error": {"message": message, "type": "x"}}))
        reply._writer.write(b"0\r\n\r\n")
        await reply._writer.drain()

    return step


async def cut(reply: Reply) -> None:
    await reply.head()
    await reply.delta(content="half an ans")
    await asyncio.sleep(0.05)
    reply.cut()


async def missing_finish(reply: Reply) -> None:
    await reply.head()
    await reply.delta(content="half an ans")
    reply._writer.write(b"0\r\n\r\n")
    await reply._writer.drain()


async def hang(reply: Reply) -> None:
    await reply.wait_for_ever()


async def stall(reply: Reply) -> None:
    await reply.head()
    await reply.delta(content="half an ans")
    await reply.wait_for_ever()


class Provider:
    """`steps` are taken in order; a request beyond the last is answered by `otherwise`."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.otherwise: Step = status(599, "no step is left")
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.asked = asyncio.Event()
        self.url = ""

    def contexts(self) -> list[list[dict[str, Any]]]:
        """What was sent of the conversation, without the system's part."""
        return [
            [
                each
                for each in request["messages"]
                if each["role"] not in {"system", "developer"}
            ]
            for request in self.requests
        ]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                    headers = dict(
                        line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line
                    )
                    body = await reader.readexactly(int(headers["content-length"]))
                    self.requests.append(json.loads(body))
                    self.keys.append(headers.get("authorization", ""))
                    self.asked.set()
                    step = self.steps.pop(0) if self.steps else self.otherwise
                    await step(Reply(writer))
            finally:
                writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Provider]:
    provider = Provider()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(provider.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=16 * 1024 * 1024)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield provider
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
