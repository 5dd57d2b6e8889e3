"""What every command is given: its output, its settings, and the client to ask with."""

from functools import cached_property
from pathlib import Path
from typing import Final

from dispatch.cli import credentials
from dispatch.cli.output import Output
from dispatch.client.session import Client
from dispatch.config import Settings
from dispatch.errors import ArbeError

_PATIENCE_SECONDS: Final = 3.0
"""A person waits: long enough for an API that restarts, short for one that is not there."""


class NoToken(ArbeError):
    """Nothing says who is calling."""

    code = "no_token"

    def __init__(self) -> None:
        super().__init__(
            "No API token is configured.",
            next_step="Set ARBE_TOKEN, give --token-file, or work in the folder where "
            f"`arbe up` was started (it writes {credentials.FILE}).",
        )


class Door:
    """One command's surroundings. The client is made when it is first used."""

    def __init__(
        self,
        settings: Settings,
        output: Output,
        *,
        url: str | None = None,
        token_file: Path | None = None,
    ) -> None:
        self.settings = settings
        self.output = output
        self._url = url
        self._token_file = token_file
        self._opened: list[Client] = []

    @cached_property
    def client(self) -> Client:
        """Return the caller's client. Raises: Invalid or NoToken, when it cannot be made."""
        found = credentials.find(self.settings, url=self._url, token_file=self._token_file)
        if not found.token:
            raise NoToken
        return self._open(found.url, found.token)

    @cached_property
    def operator(self) -> Client:
        """Return a client with the operator's token if there is one, else the caller's."""
        token = self.settings.operator_token.get_secret_value()
        if not token or self._token_file is not None:
            return self.client
        found = credentials.find(self.settings, url=self._url, token_file=None)
        return self._open(found.url, token)

    async def close(self) -> None:
        """Close what was opened."""
        for client in self._opened:
            await client.close()

    def _open(self, url: str, token: str) -> Client:
        client = Client(url, token, patience_seconds=_PATIENCE_SECONDS)
        self._opened.append(client)
        return client
