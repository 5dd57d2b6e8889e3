"""ARC's chats beside ARC itself: look at them, sweep them."""

from dispatch.client.connection import Connection, Json


class Chats:
    """The caller's chats."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Json:
        """Return one page of the caller's active ones: `{chats, nextCursor}`."""
        return await self._connection.call(
            "GET", "/v1/chats", query={"limit": limit, "cursor": cursor}
        )

    async def sweep(self, *, dry_run: bool = False, key: str | None = None) -> Json:
        """Remove closed chats whose time is over. Returns: `{expired, dryRun}`."""
        return await self._connection.call(
            "POST", "/v1/chats/sweep", body={"dryRun": dry_run}, key=key
        )
