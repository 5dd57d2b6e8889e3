"""Agents, and the environments their commands run in."""

from typing import Any

from dispatch.client.connection import Connection, Json, present, segment


class Agents:
    """Bots of the caller's house."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        handle: str,
        *,
        runner: str,
        model: str | None = None,
        trigger_mode: str | None = None,
        config: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> Json:
        """Make an agent. `runner` names the code that answers, e.g. `demo`."""
        body = {
            "handle": handle.removeprefix("@"),
            "runner": runner,
            "model": model,
            "triggerMode": trigger_mode,
            "config": config,
        }
        return await self._connection.call("POST", "/v1/agents", body=present(body), key=key)

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Json:
        """Return one page: `{agents, nextCursor}`."""
        return await self._connection.call(
            "GET", "/v1/agents", query={"limit": limit, "cursor": cursor}
        )

    async def get(self, ref: str) -> Json:
        """Return one agent."""
        return await self._connection.call("GET", f"/v1/agents/{segment(ref)}")

    async def update(self, ref: str, changes: Json, *, key: str | None = None) -> Json:
        """Change an agent; what is not named stays. Returns the agent."""
        return await self._connection.call(
            "PATCH", f"/v1/agents/{segment(ref)}", body=changes, key=key
        )

    async def delete(self, ref: str, *, key: str | None = None) -> None:
        """Remove an agent from its house."""
        await self._connection.call("DELETE", f"/v1/agents/{segment(ref)}", key=key)


class Environments:
    """Recipes for sandboxes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        name: str,
        *,
        provider: str = "local",
        config: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> Json:
        """Make an environment."""
        body = {"name": name, "provider": provider, "config": config}
        return await self._connection.call(
            "POST", "/v1/environments", body=present(body), key=key
        )

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Json:
        """Return one page: `{environments, nextCursor}`."""
        return await self._connection.call(
            "GET", "/v1/environments", query={"limit": limit, "cursor": cursor}
        )

    async def get(self, ref: str) -> Json:
        """Return one environment."""
        return await self._connection.call("GET", f"/v1/environments/{segment(ref)}")

    async def delete(self, ref: str, *, key: str | None = None) -> None:
        """Remove an environment."""
        await self._connection.call("DELETE", f"/v1/environments/{segment(ref)}", key=key)
