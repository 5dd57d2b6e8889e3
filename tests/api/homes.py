"""Houses as tests use them: a client per token, and the few things every test makes."""

from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from dispatch.operations.houses import Founded


@dataclass
class Home:
    founded: Founded
    http: httpx.AsyncClient

    async def agent(self, handle: str = "demo", **fields: Any) -> dict[str, Any]:
        body = {"handle": handle, "runner": "demo", **fields}
        return created(await self.http.post("/v1/agents", json=body))

    async def thread(self, **fields: Any) -> dict[str, Any]:
        return created(await self.http.post("/v1/threads", json=fields))["thread"]

    async def post(
        self, thread_id: str, text: str, key: str | None = None, **fields: Any
    ) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return await self.http.post(
            f"/v1/threads/{thread_id}/entries", json={"text": text, **fields}, headers=headers
        )

    async def payloads(self, thread_id: str) -> list[dict[str, Any]]:
        answer = await self.http.get(f"/v1/threads/{thread_id}/entries?limit=200")
        assert answer.status_code == 200, answer.text
        return [entry["payload"] for entry in answer.json()["entries"]]


def client_of(app: FastAPI, token: str | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://arbe",
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )


def created(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a whole problem; return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["code"] == code, found
    assert found["status"] == status
    assert found["type"] == f"urn:arbe:problem:{code}"
    assert found["title"]
    assert found["detail"]
    assert found["nextStep"]
    return found
