"""Which code answers to an environment's `provider`."""

from typing import assert_never

from dispatch.config import Settings
from dispatch.models.recipes import ProviderName
from workers.sandboxes import Provider, engine
from workers.sandboxes.containers import DockerProvider
from workers.sandboxes.local import LocalProvider


def make(name: ProviderName, settings: Settings) -> Provider:
    """Return a provider; cheap, and it holds nothing open."""
    match name:
        case "local":
            return LocalProvider(settings)
        case "docker":
            return DockerProvider(settings)
        case _:
            assert_never(name)


def present(settings: Settings) -> list[Provider]:
    """Return the providers that may have something on this machine; cheap."""
    names: list[ProviderName] = ["local"]
    if engine.is_present(settings.docker_url):
        names.append("docker")
    return [make(name, settings) for name in names]
