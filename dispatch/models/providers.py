"""Which addresses a worker's provider key may be sent to: a pure decision over the settings.

An agent's config is written by members of a house: it names a variable of the worker that
holds a key (`apiKeyEnv`) and may name an address (`baseUrl`). Addresses are compared part by
part, and what different programs could read differently is refused. Not guaranteed: what a
server at an allowed address does with the key.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urlsplit

from dispatch.config import Settings
from dispatch.errors import Invalid

_PLAIN: Final = re.compile(r"[!-\[\]-~]+")
"""ASCII, without spaces and backslashes."""
_HOST: Final = r"[a-z0-9.*-]+|\[[0-9a-f:.]+\]"
_ORIGIN: Final = re.compile(rf"(https?)://({_HOST})(?::([0-9]+|\*))?", re.IGNORECASE)
_DEFAULT_PORTS: Final = {"https": "443", "http": "80"}


def require_allowed(config: Mapping[str, Any], settings: Settings) -> None:
    """Return if this agent's key, should it name one, may go where the agent sends it.

    Raises: Invalid.
    """
    url = config.get("baseUrl")
    if config.get("apiKeyEnv") is None or url is None:
        return
    if not allows(url, settings):
        raise Invalid(
            f"The worker's keys may not be sent to the agent's `baseUrl` ({url}).",
            next_step="Allow its origin by ARBE_PROVIDER_URLS where the workers run, or leave "
            "`apiKeyEnv` out if no key is needed there.",
        )


def allows(url: object, settings: Settings) -> bool:
    """Tell whether one of `provider_urls` allows this address."""
    asked = _origin(url)
    if asked is None or "*" in "".join(asked):
        return False
    patterns = [_origin(each.strip()) for each in settings.provider_urls.split(",")]
    return any(each is not None and _fits(asked, each) for each in patterns)


def _origin(url: object) -> tuple[str, str, str] | None:
    """Return scheme, host and port; None for what is no plain address of a web server."""
    if not isinstance(url, str) or not _PLAIN.fullmatch(url):
        return None
    parts = urlsplit(url)
    found = _ORIGIN.fullmatch(f"{parts.scheme}://{parts.netloc}".lower())
    if found is None:
        return None
    scheme, host, port = found.groups()
    return scheme, host, port or _DEFAULT_PORTS[scheme]


def _fits(asked: tuple[str, str, str], allowed: tuple[str, str, str]) -> bool:
    return all(
        # Only `*` stands for something else; the brackets are those of an IPv6 address.
        fnmatchcase(part, pattern.replace("[", "[[]"))
        for part, pattern in zip(asked, allowed, strict=True)
    )
