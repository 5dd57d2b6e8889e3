"""What an agent's config says of the model behind pi, checked before anything starts."""

from typing import Any, Final, Literal

import msgspec

from dispatch.config import Settings
from dispatch.errors import Invalid
from dispatch.models.houses import Agent

OWN_PROVIDER: Final = "arbe"
"""The provider's name in pi when an agent gives an address and no name."""
NO_KEY: Final = "none"
"""pi refuses a provider without a key, which a server of one's own may not ask for."""

SYSTEM_PROMPT: Final = (
    "You are a helpful agent. Use the tools you are given to do what you are asked."
)
"""For agents that have none: pi's own speaks of tools and files that are not there."""

Api = Literal[
    "openai-completions", "openai-responses", "anthropic-messages", "google-generative-ai"
]
Thinking = Literal["off", "minimal", "low", "medium", "high", "xhigh"]


class _Config(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    system_prompt: str | None = None
    provider: str | None = None
    base_url: str | None = None
    api: Api = "openai-completions"
    api_key_env: str | None = None
    thinking: Thinking = "off"
    reasoning: bool = False
    context_window: int = 128_000
    max_tokens: int = 16_384
    cost: dict[str, float] = {}
    compat: dict[str, Any] = {}
    pi_command: str | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The model to ask, and how. `key` is a secret: it goes into a private file only."""

    provider: str
    model: str
    config: _Config
    key: str

    def __repr__(self) -> str:
        return f"Profile({self.provider}/{self.model})"

    @property
    def secret(self) -> str:
        """Return what nobody may see; empty when there is no key."""
        return "" if self.key == NO_KEY else self.key

    @property
    def system_prompt(self) -> str:
        """Return the whole of what the model is told beforehand."""
        return self.config.system_prompt or SYSTEM_PROMPT

    @property
    def model_ref(self) -> str:
        """Return the model's name as pi's command line takes it."""
        return f"{self.provider}/{self.model}"


def read(agent: Agent, settings: Settings) -> Profile:
    """Return what the agent's config asks for.

    Raises: Invalid, when it is incomplete, malformed, or asks for what it may not have.
    """
    try:
        config = msgspec.convert(agent.config, _Config)
    except msgspec.ValidationError as error:
        raise Invalid(f"The agent's config cannot be used by pi: {error}.") from error
    if not agent.model:
        raise Invalid("The agent has no model.", next_step="Give it one: --model NAME.")
    if config.base_url is None and config.provider is None:
        raise Invalid(
            "The agent names neither a provider of pi's nor the address of one.",
            next_step="Set `provider` or `baseUrl` in its config.",
        )
    return Profile(
        provider=_provider_name(config),
        model=agent.model,
        config=config,
        key=_key(config, settings),
    )


def _provider_name(config: _Config) -> str:
    name = config.provider or OWN_PROVIDER
    if not name.replace("-", "").replace("_", "").isalnum():
        raise Invalid(f"'{name}' is not a provider's name.")
    return name


def _key(config: _Config, settings: Settings) -> str:
    name = config.api_key_env
    if name is None:
        if config.base_url is None:
            raise Invalid(
                f"The provider '{config.provider}' wants a key.",
                next_step="Name the worker's variable that holds it: `apiKeyEnv`.",
            )
        return NO_KEY
    found = settings.provider_key(name)
    if found is None:
        raise Invalid(
            f"The variable {name}, the agent's apiKeyEnv, is not set on this worker, or not "
            "allowed.",
            next_step="Set it where the worker runs; ARBE_PROVIDER_KEY_NAMES allows names.",
        )
    key = found.get_secret_value()
    if key.startswith("!") or "$" in key:
        # pi would run the one as a command and look up the other.
        raise Invalid(f"The value of {name} cannot be a key: pi takes `!` and `$` otherwise.")
    return key
