"""The synchronous door for Django, Flask and scripts: post an entry, wait for the answer.

Behind it is the async client on one background loop per process: there is no second client to
keep equal to the first. A forked child (gunicorn, Celery's prefork) starts its own.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent import futures
from typing import Final

from dispatch.client.connection import Json
from dispatch.client.session import Client
from dispatch.config import Settings
from dispatch.errors import Invalid, Unavailable

_TIMEOUT_SECONDS: Final = 15.0
"""A web request waits this long at most; longer than the client's own patience."""
_CLOSE_SECONDS: Final = 2.0


def post_entry(
    thread: str,
    text: str,
    key: str | None = None,
    *,
    when_busy: str | None = None,
    if_status: Sequence[str] = (),
    url: str | None = None,
    token: str | None = None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> Json:
    """Post a chat entry to a thread, or to an agent's DM, and wake who it concerns.

    Promise: on return the entry is durable. With your own `key` you may repeat the call for 48
    hours and it stays one entry. Any thread may call it; not from inside a running event loop.
    Args: thread: an id, the beginning of one, or an agent's `@handle`. when_busy, if_status: as
    for `Entries.create`. url, token: default to ARBE_URL and ARBE_TOKEN.
    Returns: `{entry: {id, at}, threadId, dispatches: [{id, agentId}], duplicate?}`.
    Raises: NotFound, Gone, Invalid, Conflict, TooBusy, Unauthenticated; Unavailable at the
    latest after `timeout_seconds`, when the entry may have been accepted or not.
    """
    if url is None or token is None:
        settings = Settings()
        url = url or settings.url
        token = token or settings.token.get_secret_value()

    async def post(client: Client) -> Json:
        return await client.entries.create(
            thread, text, key=key, when_busy=when_busy, if_status=if_status
        )

    return _background().call(url, token, post, timeout_seconds=timeout_seconds)


class _Background:
    """One event loop on one OS thread, and the clients that live on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._clients: dict[tuple[str, str], Client] = {}
        self._os_thread = threading.Thread(
            target=self._loop.run_forever, name="arbe-client", daemon=True
        )
        self._os_thread.start()

    def call(
        self,
        url: str,
        token: str,
        act: Callable[[Client], Awaitable[Json]],
        *,
        timeout_seconds: float,
    ) -> Json:
        if threading.get_ident() == self._os_thread.ident:
            raise Invalid("post_entry was called on its own background loop.")
        waiting = asyncio.run_coroutine_threadsafe(self._call(url, token, act), self._loop)
        try:
            return waiting.result(timeout_seconds)
        except futures.TimeoutError as error:
            waiting.cancel()
            raise Unavailable(
                f"The API at {url}",
                cause=f"no answer within {timeout_seconds:g} s",
                next_step="It may have been accepted: repeat with the same `key`.",
            ) from error

    async def _call(
        self, url: str, token: str, act: Callable[[Client], Awaitable[Json]]
    ) -> Json:
        client = self._clients.get((url, token))
        if client is None:
            client = self._clients[url, token] = Client(url, token)
        return await act(client)

    def close(self) -> None:
        closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        try:
            closing.result(_CLOSE_SECONDS)
        except futures.TimeoutError:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._os_thread.join(_CLOSE_SECONDS)
        if not self._os_thread.is_alive():
            self._loop.close()

    async def _close(self) -> None:
        for client in self._clients.values():
            await client.close()


class _Process:
    """What this process has started, and what its parent had."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.background: _Background | None = None
        self.inherited: list[_Background] = []

    def forget_after_fork(self) -> None:
        # The parent's loop shares its epoll with us: closing it, even by garbage collection,
        # would unregister the parent's sockets. So it is kept, untouched.
        self.lock = threading.Lock()
        if self.background is not None:
            self.inherited.append(self.background)
            self.background = None

    def close(self) -> None:
        with self.lock:
            background, self.background = self.background, None
        if background is not None:
            background.close()


_process: Final = _Process()
os.register_at_fork(after_in_child=_process.forget_after_fork)
atexit.register(_process.close)


def _background() -> _Background:
    with _process.lock:
        if _process.background is None:
            _process.background = _Background()
        return _process.background
