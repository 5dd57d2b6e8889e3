"""Where webhooks may go: the guard against calling into private networks."""

import ipaddress

import pytest

from dispatch.errors import Invalid
from dispatch.models import webhooks

NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "https:///path",
        "https://user:pass@example.com/",
        "https://example.com:99999/",
        "https://exa mple.com/",
        "https://example.com\\@127.0.0.1/",
        "https://ex\u00e4mple.com/",
        "https://example.com/\r\nX: y",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://[::1]/",
        "https://[::]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://example.com/" + "x" * 2000,
    ],
)
def test_a_url_into_the_house_is_refused(url: str):
    with pytest.raises(Invalid):
        webhooks.target(url, allowed_hosts=NONE)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("https://EXAMPLE.com.:8443/a?b=c", "example.com", 8443, "/a?b=c"),
        ("https://93.184.216.34/x", "93.184.216.34", 443, "/x"),
        ("https://[2606:2800:220:1::1]/x", "2606:2800:220:1::1", 443, "/x"),
    ],
)
def test_a_public_url_is_taken_apart(url: str, host: str, port: int, path: str):
    found = webhooks.target(url, allowed_hosts=NONE)
    assert (found.host, found.port, found.path) == (host, port, path)


@pytest.mark.parametrize("url", ["http://localhost:99/x", "https://10.0.0.1/", "http://[::1]/"])
def test_hosts_that_are_allowed_may_be_private(url: str):
    allowed = frozenset({"localhost", "10.0.0.1", "::1"})
    to = webhooks.target(url, allowed_hosts=allowed)
    assert webhooks.may_call(ipaddress.ip_address("127.0.0.1"), to)


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("192.168.1.1", False),
        ("172.16.0.1", False),
        ("198.18.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("64:ff9b::a00:1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
    ],
)
def test_a_name_may_lead_to_public_addresses_only(address: str, may: bool):
    to = webhooks.target("https://example.com/", allowed_hosts=NONE)
    assert webhooks.may_call(ipaddress.ip_address(address), to) is may


def test_waits_double_up_to_a_bound():
    waits = [webhooks.wait_seconds(n, first=5, longest=60) for n in (1, 2, 3, 4, 5, 1000)]
    assert waits == [5, 10, 20, 40, 60, 60]
