"""Houses, their members, and the tokens of members."""

from dispatch.client.connection import Connection, Json, present, segment


class Houses:
    """Tenants."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(self, name: str, *, owner_name: str, key: str | None = None) -> Json:
        """Make a house. Returns: `{house, member, token}`; the token's text is shown once."""
        return await self._connection.call(
            "POST", "/v1/houses", body={"name": name, "ownerName": owner_name}, key=key
        )

    async def list(self) -> Json:
        """Return the caller's houses: `{houses}`."""
        return await self._connection.call("GET", "/v1/houses")

    async def get(self, ref: str = "me") -> Json:
        """Return one house; `me` is the caller's own."""
        return await self._connection.call("GET", f"/v1/houses/{segment(ref)}")

    async def rename(self, name: str, *, ref: str = "me", key: str | None = None) -> Json:
        """Give the house another name."""
        return await self.update({"name": name}, ref=ref, key=key)

    async def update(self, changes: Json, *, ref: str = "me", key: str | None = None) -> Json:
        """Change `name` or `whenBusy` (None: `enqueue`); what is not named stays."""
        return await self._connection.call(
            "PATCH", f"/v1/houses/{segment(ref)}", body=changes, key=key
        )

    async def cancel(
        self, *, message: str | None = None, tag: str | None = None, key: str | None = None
    ) -> Json:
        """Cancel every dispatch of the house that is open now: an owner's right.

        Args: tag: only in threads with this tag, and in all below those.
        Returns: as `client.threads.cancel_all`.
        """
        return await self._connection.call(
            "POST",
            "/v1/threads/cancel",
            body=present({"message": message, "tag": tag}),
            key=key,
        )


class Cancellations:
    """Cancels that reach many dispatches."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, cancellation_id: str) -> Json:
        """Return how far one has come: `{id, done, threads, cancelled, requested, …}`."""
        return await self._connection.call(
            "GET", f"/v1/cancellations/{segment(cancellation_id)}"
        )


class Members:
    """People in the caller's house."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(self, name: str, *, role: str = "member", key: str | None = None) -> Json:
        """Add a person: `owner` or `member`."""
        return await self._connection.call(
            "POST", "/v1/members", body={"name": name, "role": role}, key=key
        )

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Json:
        """Return one page: `{members, nextCursor}`."""
        return await self._connection.call(
            "GET", "/v1/members", query={"limit": limit, "cursor": cursor}
        )

    async def delete(self, member_id: str, *, key: str | None = None) -> None:
        """Remove a person and their tokens."""
        await self._connection.call("DELETE", f"/v1/members/{segment(member_id)}", key=key)


class Tokens:
    """API tokens of the caller's house."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self,
        name: str,
        *,
        member_id: str | None = None,
        expires_in_seconds: float | None = None,
        key: str | None = None,
    ) -> Json:
        """Make a token for the caller or another member; its text is in this answer only."""
        body = {"name": name, "memberId": member_id, "expiresInSeconds": expires_in_seconds}
        return await self._connection.call("POST", "/v1/tokens", body=present(body), key=key)

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Json:
        """Return one page: `{tokens, nextCursor}`, without their texts."""
        return await self._connection.call(
            "GET", "/v1/tokens", query={"limit": limit, "cursor": cursor}
        )

    async def revoke(self, token_id: str, *, key: str | None = None) -> None:
        """End a token."""
        await self._connection.call("DELETE", f"/v1/tokens/{segment(token_id)}", key=key)
