"""A client of our WebSocket."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.system.houses import Casa

LIMIT_SECONDS = 60.0


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "TextPart", "content": text}]}


def bearer(casa: Casa) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {casa.token}"}}


class Talk:
    """A socket that is open for the length of a block."""

    def __init__(self, url: str, **options: Any) -> None:
        # A proxy of the environment cannot reach the loopback.
        self._connecting = connect(url, proxy=None, max_size=None, **options)
        self.socket: ClientConnection

    async def __aenter__(self) -> Self:
        self.socket = await self._connecting.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connecting.__aexit__(*error)

    async def send(self, **fields: Any) -> None:
        await self.socket.send(json.dumps(fields))

    async def ask(self, agent_id: str, text: str, **more: Any) -> None:
        await self.send(agent_id=agent_id, message=message(text), **more)

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(LIMIT_SECONDS):
            found: dict[str, Any] = json.loads(await self.socket.recv())
            return found

    async def hear_until(self, last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        found = [await self.hear()]
        while not last(found[-1]):
            found.append(await self.hear())
        return found

    async def answer(self, agent_id: str, text: str, **more: Any) -> dict[str, Any]:
        """Ask without a stream; return the frame that answers."""
        await self.ask(agent_id, text, **more)
        return await self.hear()

    async def closed(self) -> int:
        """Read on until the server has closed; return its code."""
        async with asyncio.timeout(LIMIT_SECONDS):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
        assert self.socket.close_code is not None
        return self.socket.close_code


def is_last(frame: dict[str, Any]) -> bool:
    return frame["type"] != "content"


def words(frames: list[dict[str, Any]]) -> str:
    return "".join(
        part["content"]
        for frame in frames
        if frame["type"] == "content"
        for part in frame["data"]["message"]["parts"]
    )


def text_of(response: dict[str, Any]) -> str:
    text: str = response["result"]["chat"]["message"]["parts"][0]["content"]
    return text
