"""Which code answers to an environment's `provider`."""

from typing import assert_never

from dispatch.config import Settings
from dispatch.models.recipes import ProviderName
from workers.sandboxes import Provider
from workers.sandboxes.local import LocalProvider


def make(name: ProviderName, settings: Settings) -> Provider:
    """Return a provider; cheap, and it holds nothing. Raises: Unavailable."""
    match name:
        case "local":
            return LocalProvider(settings)
        case "docker":
            raise NotImplementedError
        case _:
            assert_never(name)


def present(settings: Settings) -> list[Provider]:
    """Return the providers that may have something on this machine; cheap."""
    return [make("local", settings)]
