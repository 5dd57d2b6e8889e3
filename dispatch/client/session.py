"""The client: one API, one token, everything it can be asked, by noun."""

import secrets
from types import TracebackType
from typing import Final, Self

from dispatch.client.agents import Agents, Environments
from dispatch.client.arc import ArcChats, ArcTasks
from dispatch.client.arc_line import Line
from dispatch.client.chats import Chats
from dispatch.client.connection import Connection, Json
from dispatch.client.entries import Entries
from dispatch.client.houses import Cancellations, Houses, Members, Tokens
from dispatch.client.permissions import Permissions
from dispatch.client.threads import Threads
from dispatch.errors import Invalid

_ARC_PATH: Final = "/arc"
PATIENCE_SECONDS: Final = 10.0
"""A call outlasts a restart of the API."""


class Client:
    """An API as one member sees it. Use it as `async with`, or `close` it.

    Args: endpoint: in place of `url`, the address of an ARC server, `http://host:port/arc`;
    if that is one of ours, everything else works too. request_agent: what ARC calls say we are.
    Not guaranteed: use from several event loops; make one client per loop.
    """

    def __init__(
        self,
        url: str = "",
        token: str | None = "",
        *,
        endpoint: str = "",
        request_agent: str = "",
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        if bool(url) == bool(endpoint):
            raise Invalid(
                "A client needs one address.",
                next_step="Give the API's `url`, or `endpoint`: the same and /arc.",
            )
        url = url or endpoint.rstrip("/").removesuffix(_ARC_PATH)
        self._connection = Connection(url, token or "", patience_seconds=patience_seconds)
        line = Line(
            self._connection,
            endpoint.rstrip("/") or self._connection.url + _ARC_PATH,
            request_agent=request_agent or f"arbe-client-{secrets.token_hex(4)}",
        )
        self.chat = ArcChats(line)
        self.task = ArcTasks(line)
        self.houses = Houses(self._connection)
        self.cancellations = Cancellations(self._connection)
        self.members = Members(self._connection)
        self.tokens = Tokens(self._connection)
        self.agents = Agents(self._connection)
        self.environments = Environments(self._connection)
        self.threads = Threads(self._connection)
        self.entries = Entries(self._connection)
        self.permissions = Permissions(self._connection)
        self.chats = Chats(self._connection)

    @property
    def url(self) -> str:
        """Return the API's address."""
        return self._connection.url

    async def health(self) -> Json:
        """Return what the API says of its servers: `{status, redis, postgres, broker}`.

        Raises: Unavailable, also when the API itself says that it cannot serve.
        """
        return await self._connection.call("GET", "/health")

    async def diagnose(self, *, limit: int | None = None, cursor: str | None = None) -> Json:
        """Return how servers, workers, sweeps and the house's threads stand.

        Returns: `{verdict, cause, nextStep, findings, threads, workers, …}`; ask on with
        `threads.nextCursor` for more of `threads.listed`.
        """
        return await self._connection.call(
            "GET", "/v1/diagnose", query={"limit": limit, "cursor": cursor}
        )

    async def close(self) -> None:
        """Give the sockets back."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.close()
