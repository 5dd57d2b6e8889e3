"""HTTP to one API: addresses, headers, time-outs, bounded repeats, errors.

Repeated by itself: whatever got no answer, or met a server that was away. Every call may arrive
twice, since one that changes anything carries a key that its repeats share. Never repeated: a
refusal, but for "this key is at work".
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec

from dispatch.client import problems
from dispatch.client.patience import Patience
from dispatch.errors import ArbeError, Conflict, Invalid, Unavailable

Json: TypeAlias = dict[str, Any]
"""An object as it stood on the wire: camelCase names, ids as text, times as Unix ms."""
Query: TypeAlias = Mapping[str, str | int | bool | list[str] | None]

_KEYED: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_AWAY: Final = frozenset({502, 503, 504})
_CONNECT_SECONDS: Final = 5.0
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_TIMEOUT: Final = httpx.Timeout(30.0, connect=_CONNECT_SECONDS)
"""One answer; longer than the API's own limits on Postgres and Redis together."""
_LIVE_TIMEOUT: Final = httpx.Timeout(10.0, connect=_CONNECT_SECONDS, read=45.0)
"""A live answer is silent for 15 s at most (`keep_alive_seconds`): 2 of 3 may be late."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_START: Final = "Start it with `arbe up`, or set ARBE_URL (--url) to where it runs."


class Connection:
    """One API and one token. Make it inside a running loop; `close` it there."""

    def __init__(self, url: str, token: str, *, patience_seconds: float) -> None:
        self.url = _checked_url(url)
        self.patience_seconds = patience_seconds
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {_checked_token(token)}"} if token else {},
            timeout=_TIMEOUT,
            # A proxy of the environment cannot reach this machine's loopback.
            trust_env=httpx.URL(self.url).host not in _LOOPBACK,
        )

    async def close(self) -> None:
        """Give the sockets back."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Json | None = None,
        key: str | None = None,
    ) -> Json:
        """Send one request and return the answer's object; {} when it has none.

        Promise: what it changes is changed once, however often it had to be sent.
        Args: key: sent as `Idempotency-Key`; None: one is made for this call and its repeats.
        Raises: any of `dispatch.errors`; Unavailable only after bounded repeats.
        """
        if key is None and method in _KEYED:
            key = str(uuid4())
        patience = Patience(self.patience_seconds)
        while True:
            try:
                return await self._send(method, path, query=query, body=body, key=key)
            except Unavailable as error:
                await patience.wait(error)
            except Conflict as error:
                if error.reason != "key_in_use":
                    raise
                # An API that died in this call keeps the key so long; then the repeat goes on.
                patience.extend(_free_after(error) + self.patience_seconds)
                await patience.wait(error)

    @asynccontextmanager
    async def live(self, path: str, query: Query) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Hold an answer open and hand out its bytes as they come.

        Raises: as `call`, but repeats nothing; inside the block, Unavailable on a broken line.
        """
        try:
            async with self._http.stream(
                "GET",
                path,
                params=present(query),
                headers={"Accept": "text/event-stream"},
                timeout=_LIVE_TIMEOUT,
            ) as response:
                if not response.is_success:
                    raise problems.read(
                        response.status_code, await response.aread(), url=self.url
                    )
                yield response.aiter_bytes()
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    async def exchange(
        self,
        url: str,
        body: Json,
        *,
        headers: Mapping[str, str],
        timeout_seconds: float,
        may_repeat: bool,
    ) -> tuple[int, bytes]:
        """POST to an address that speaks a protocol of its own; return status and body.

        Args: may_repeat: False: only what certainly did not arrive is sent again.
        Raises: Unavailable after bounded repeats.
        """
        sent = {"Idempotency-Key": str(uuid4()), **headers}
        timeout = httpx.Timeout(timeout_seconds, connect=_CONNECT_SECONDS)
        patience = Patience(self.patience_seconds)
        while True:
            try:
                response = await self._http.post(
                    url, content=_encode(body), headers=sent, timeout=timeout
                )
            except httpx.TransportError as error:
                # A server that is slow may be at it still: asking again would take as long.
                is_lost = isinstance(error, _NOT_SENT) or (
                    may_repeat and not isinstance(error, httpx.ReadTimeout)
                )
                if not is_lost:
                    raise self._unreachable(error) from error
                await patience.wait(self._unreachable(error))
            else:
                if response.status_code not in _AWAY:
                    return response.status_code, response.content
                await patience.wait(self.refusal(response.status_code, response.content))

    @asynccontextmanager
    async def post_live(
        self, url: str, body: Json, *, headers: Mapping[str, str], timeout_seconds: float
    ) -> AsyncGenerator[httpx.Response]:
        """POST and hold the answer open, whatever its status. Repeats nothing.

        Raises: Unavailable, also inside the block on a broken line.
        """
        try:
            async with self._http.stream(
                "POST",
                url,
                content=_encode(body),
                headers=headers,
                timeout=httpx.Timeout(timeout_seconds, connect=_CONNECT_SECONDS),
            ) as response:
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def refusal(self, status: int, body: bytes) -> ArbeError:
        """Return the error that a refusing answer tells of."""
        return problems.read(status, body, url=self.url)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None,
        body: Json | None,
        key: str | None,
    ) -> Json:
        headers = {"Idempotency-Key": key} if key is not None else {}
        content = None
        if body is not None:
            content = _encode(body)
            headers["Content-Type"] = "application/json"
        try:
            response = await self._http.request(
                method, path, params=present(query or {}), content=content, headers=headers
            )
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise problems.read(response.status_code, response.content, url=self.url)
        return self._object(response)

    def _object(self, response: httpx.Response) -> Json:
        if not response.content:
            return {}
        try:
            return msgspec.json.decode(response.content, type=Json)
        except msgspec.DecodeError as error:
            raise problems.UnexpectedAnswer(
                f"{self.url} answered with something that is no JSON object.",
                next_step="Check the address: ARBE_URL or --url.",
            ) from error

    def _unreachable(self, error: httpx.TransportError) -> ArbeError:
        if isinstance(error, httpx.UnsupportedProtocol):
            return _bad_url(self.url)
        cause = str(error).strip() or type(error).__name__
        server = f"The API at {self.url}"
        if isinstance(error, _NOT_SENT):
            return Unavailable(server, cause=cause, next_step=_START)
        return Unavailable(server, cause=cause)


def segment(ref: str) -> str:
    """Return a reference as one segment of a path.

    Raises: Invalid for one that would change the path.
    """
    if not ref or ref in {".", ".."}:
        raise Invalid(
            f"'{ref}' is not a reference.",
            next_step="Give an id, at least 4 digits of its beginning, or an agent's @handle.",
        )
    return quote(ref, safe="@")


def _free_after(error: Conflict) -> float:
    seconds = error.fields.get("freeAfterSeconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _encode(body: Json) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"This cannot be sent as JSON: {error}.",
            next_step="Send text that is valid Unicode, numbers, lists and objects.",
        ) from error


def present(values: Mapping[str, Any]) -> Json:
    """Leave out what is None: the server then uses its own default."""
    return {name: value for name, value in values.items() if value is not None}


def _checked_url(url: str) -> str:
    try:
        parsed = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise _bad_url(url) from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise _bad_url(url)
    return str(parsed)


def _bad_url(url: str) -> Invalid:
    return Invalid(
        f"'{url}' is not the address of an API.",
        next_step="Give it as http://host:port, in ARBE_URL or --url.",
    )


def _checked_token(token: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Invalid(
            "The token holds characters that no token has.",
            next_step="Check ARBE_TOKEN or the token file: one line, nothing else.",
        )
    return token
