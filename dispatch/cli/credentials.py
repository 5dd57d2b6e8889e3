"""Which API, and which token: options, then the environment, then `.arbe/credentials.json`.

A token is never taken from the command line (other users see it there) and never sent to an
address that came from another place than the token itself, unless both were given explicitly.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from dispatch.config import Settings
from dispatch.errors import Invalid

FILE: Final = Path(".arbe") / "credentials.json"
"""Written by `arbe up`, mode 0600: `{"url", "token", …}`."""


class Credentials(msgspec.Struct, frozen=True):
    """Where to call and as whom. The token may be empty: some routes need none."""

    url: str
    token: str


def find(settings: Settings, *, url: str | None, token_file: Path | None) -> Credentials:
    """Choose address and token.

    Promise: the file of `arbe up` counts only where neither option nor environment says
    anything else, or for the address that it names.
    Raises: Invalid, when a file that is named cannot be used.
    """
    given_url = url or (settings.url if "url" in settings.model_fields_set else None)
    token = _read_token(token_file) if token_file else settings.token.get_secret_value()
    if given_url and token:
        return Credentials(given_url, token)
    stored = _stored()
    if stored is None or token:
        return Credentials(given_url or settings.url, token)
    if given_url is not None and given_url.rstrip("/") != stored.url.rstrip("/"):
        return Credentials(given_url, "")
    return stored


def _stored() -> Credentials | None:
    try:
        raw = FILE.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unusable(str(error.strerror)) from error
    try:
        found = msgspec.json.decode(raw, type=dict[str, Any])
        return Credentials(str(found["url"]), str(found["token"]))
    except (msgspec.DecodeError, KeyError) as error:
        raise _unusable("it holds no url and token") from error


def _unusable(cause: str) -> Invalid:
    return Invalid(
        f"{FILE} cannot be used: {cause}.",
        next_step="Run `arbe up` here to write it anew, or set ARBE_URL and ARBE_TOKEN.",
    )


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"The token file {path} cannot be read: {error}.",
            next_step="Give a file that holds the token and nothing else.",
        ) from error
    if not token:
        raise Invalid(
            f"The token file {path} is empty.", next_step="Make a token: `arbe token create`."
        )
    return token
