"""A real receiver of webhooks on the loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.api.loopback import serving


@dataclass
class Receiver:
    """Keeps what it was sent; answers with what `statuses` still holds, then 204."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.heard.append((headers | {"path": scope["path"]}, body))
        status = self.statuses.pop(0) if self.statuses else 204
        location = [(b"location", b"/elsewhere")] if 300 <= status < 400 else []
        await send({"type": "http.response.start", "status": status, "headers": location})
        await send({"type": "http.response.body", "body": b""})

    async def wait(self, count: int, *, seconds: float = 60.0) -> None:
        """Wait until so many deliveries were heard."""
        async with asyncio.timeout(seconds):
            while len(self.heard) < count:  # noqa: ASYNC110 - it is asked of a server
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(statuses=list(statuses))
    async with serving(receiver) as url:
        receiver.url = url
        yield receiver
