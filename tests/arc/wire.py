"""ARC as bytes, for what a client library would hide."""

import json
from typing import Any

import httpx


def request(method: str, params: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "arc": "1.0",
        "id": "r-1",
        "method": method,
        "requestAgent": "tester",
        "targetAgent": "demo",
        "params": {} if params is None else params,
    } | fields


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "TextPart", "content": text}]}


class Wire:
    """One caller over plain HTTP."""

    def __init__(self, endpoint: str, token: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.AsyncClient(timeout=60, headers=headers)
        self.endpoint = endpoint

    async def post(self, body: Any, **more: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(self.endpoint, content=content, **more)

    async def call(self, method: str, params: Any = None, **fields: Any) -> dict[str, Any]:
        answer = await self.post(request(method, params, **fields))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def result(self, method: str, params: Any = None, **fields: Any) -> dict[str, Any]:
        answer = await self.call(method, params, **fields)
        assert answer["error"] is None, answer
        found: dict[str, Any] = answer["result"]
        return found

    async def error(self, method: str, params: Any = None, **fields: Any) -> dict[str, Any]:
        answer = await self.call(method, params, **fields)
        assert answer["result"] is None, answer
        found: dict[str, Any] = answer["error"]
        return found


def text_of(result: dict[str, Any]) -> str:
    text: str = result["chat"]["message"]["parts"][0]["content"]
    return text


def frames(body: str) -> list[tuple[str, dict[str, Any]]]:
    """Split a body into events, as strictly as the protocol's own parser."""
    found: list[tuple[str, dict[str, Any]]] = []
    assert "\r" not in body
    assert body.endswith("\n\n")
    for frame in body.removesuffix("\n\n").split("\n\n"):
        if frame.startswith(":"):
            continue
        first, second = frame.split("\n")
        found.append((first.removeprefix("event: "), json.loads(second.removeprefix("data: "))))
    return found
