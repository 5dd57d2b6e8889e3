"""What an environment may ask of its sandboxes. Values only.

The words are those of an environment's `config`; what it leaves out is the worker's setting.
"""

from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from dispatch.errors import Invalid

ProviderName = Literal["local", "docker"]
_NAMES: Final[tuple[str, ...]] = get_args(ProviderName)
_MiB: Final = 1024**2


class Recipe(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """One environment's config, read. Sizes in bytes; None: as the worker is set up."""

    network: bool = False
    """local: the machine's network, its loopback included; docker: the engine's bridge."""
    memory_bytes: Annotated[int, Meta(ge=16 * _MiB)] | None = None
    processes: Annotated[int, Meta(ge=4, le=100_000)] | None = None
    file_bytes: Annotated[int, Meta(ge=4096)] | None = None
    temporary_bytes: Annotated[int, Meta(ge=4096)] | None = None
    command_seconds: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    image: Annotated[str, Meta(min_length=1, max_length=300)] | None = None
    """docker: what containers are made of; needed there, and only there."""
    cpus: Annotated[float, Meta(gt=0, le=1024)] | None = None
    """docker: cores of one container."""


LOCAL: Final = Recipe()
"""A thread without environment: this machine, no network, the worker's limits."""


def read(provider: str, config: dict[str, Any]) -> Recipe:
    """Read an environment's config.

    Raises: Invalid, for an unknown provider or word, a value out of bounds, or `image` missing
    (docker) or given (local).
    """
    if provider not in _NAMES:
        raise Invalid(
            f"There is no provider '{provider[:80]}'.",
            next_step=f"Use one of: {', '.join(_NAMES)}.",
        )
    try:
        recipe = msgspec.convert(config, Recipe)
    except msgspec.ValidationError as fault:
        known = ", ".join(Recipe.__struct_encode_fields__)
        raise Invalid(
            f"The environment's config is wrong: {fault}.", next_step=f"It may say: {known}."
        ) from fault
    if provider == "docker" and recipe.image is None:
        raise Invalid(
            "A docker environment needs an image.",
            next_step='Add it to the config: {"image": "python:3.12-slim"}.',
        )
    if provider == "local" and (recipe.image or recipe.cpus):
        raise Invalid(
            "A local environment has no `image` and no `cpus`.",
            next_step="Remove them, or use provider docker.",
        )
    return recipe
