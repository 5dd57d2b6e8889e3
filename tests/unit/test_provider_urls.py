"""Where a worker's key may be sent: addresses are compared as programs read them."""

import pytest

from dispatch.config import Settings
from dispatch.errors import Invalid
from dispatch.models import providers

SETTINGS = Settings(
    provider_urls="https://api.one.com, https://*.two.com:8443,http://127.0.0.1:*,http://[::1]:*"
)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.one.com",
        "https://api.one.com/v1",
        "HTTPS://API.One.com:443/v1?a=b",
        "https://eu.two.com:8443/v1",
        "https://a.b.two.com:8443",
        "http://127.0.0.1:9999/v1",
        "http://127.0.0.1",
        "http://[::1]:8000/v1",
    ],
)
def test_what_a_pattern_names_is_allowed(url: str) -> None:
    assert providers.allows(url, SETTINGS)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.one.com",
        "https://api.one.com:444",
        "https://api.one.com.evil.com",
        "https://api.one.com@evil.com",
        "https://evil.com@api.one.com",
        "https://evil.com#api.one.com",
        "https://evil.com/https://api.one.com",
        "https://evil.com\\.two.com:8443",
        "https://evil.com\\@api.one.com",
        "https://api.one.com\n.evil.com",
        " https://api.one.com",
        "https:api.one.com",
        "https:///api.one.com",
        "//api.one.com",
        "api.one.com",
        "ftp://api.one.com",
        "https://two.com:8443",
        "https://eviltwo.com:8443",
        "https://eu.two.com",
        "https://evil.com%2F.two.com:8443",
        "https://evil.com?.two.com:8443",
        "https://*.two.com:8443",
        "https://api.one.com:*",
        "https://\u0430pi.one.com",
        "http://127.0.0.1.evil.com:80",
        "http://[::2]:8000",
        "",
        None,
        7,
    ],
)
def test_everything_else_is_refused(url: object) -> None:
    assert not providers.allows(url, SETTINGS)


def test_an_empty_setting_allows_nothing() -> None:
    assert not providers.allows("http://127.0.0.1:1", Settings(provider_urls=""))


def test_by_default_well_known_providers_and_this_machine_are_allowed() -> None:
    for url in ("https://api.openai.com/v1", "http://localhost:11434/v1", "http://[::1]:80"):
        assert providers.allows(url, Settings())
    assert not providers.allows("https://evil.com/v1", Settings())


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"baseUrl": "https://evil.com"},
        {"apiKeyEnv": "OPENAI_API_KEY"},
        {"apiKeyEnv": None, "baseUrl": "https://evil.com"},
        {"apiKeyEnv": "OPENAI_API_KEY", "baseUrl": None},
    ],
)
def test_without_a_key_or_an_address_of_its_own_an_agent_is_free(config) -> None:
    providers.require_allowed(config, SETTINGS)


def test_the_refusal_names_the_address_and_the_setting() -> None:
    config = {"apiKeyEnv": "OPENAI_API_KEY", "baseUrl": "https://evil.com/v1"}
    with pytest.raises(Invalid, match=r"https://evil\.com/v1") as refused:
        providers.require_allowed(config, SETTINGS)
    assert "ARBE_PROVIDER_URLS" in refused.value.next_step
