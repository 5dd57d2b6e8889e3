"""Sends a webhook: to the address that was checked, signed over the bytes that leave.

Promise: a name is resolved once and the connection goes to what came of it, so nothing can be
put in its place between check and call; all its addresses must be allowed. No redirect is
followed, no proxy of the environment used, no answer read beyond its status.
"""

import asyncio
import functools
import ipaddress
import socket
import ssl
from typing import Final

import httpx
import msgspec

from dispatch.errors import Invalid
from dispatch.models import webhooks
from dispatch.models.webhooks import Address, Target

GONE: Final = 410


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook, whole."""

    url: str
    headers: dict[str, str]
    body: bytes


class Sent(msgspec.Struct, frozen=True):
    """How it was answered: delivered, or why not. No part of it is secret."""

    failure: str | None = None
    is_final: bool = False
    """True: another attempt would end the same."""


async def send(
    delivery: Delivery, *, allowed_hosts: frozenset[str], timeout_seconds: float
) -> Sent:
    """Deliver once; never raises for what is wrong with the other side."""
    try:
        async with asyncio.timeout(timeout_seconds):
            to = webhooks.target(delivery.url, allowed_hosts=allowed_hosts)
            address = await _resolve(to)
            return _judged(await _post(delivery, to, address, timeout_seconds))
    except TimeoutError:
        return Sent(f"no answer within {timeout_seconds:g} s")
    except Invalid as error:
        return Sent(error.what, is_final=True)
    except (httpx.HTTPError, OSError, UnicodeError) as error:
        return Sent(type(error).__name__)


async def _resolve(to: Target) -> Address:
    """Return an address of the host.

    Raises: Invalid, if any of its addresses must not be called; OSError.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    if not addresses:
        raise OSError("no address")
    if not all(webhooks.may_call(each, to) for each in addresses):
        raise Invalid("`callbackUrl` points to a private address.")
    return addresses[0]


async def _post(
    delivery: Delivery, to: Target, address: Address, timeout_seconds: float
) -> int:
    """Call the address in the host's name; return the status."""
    at = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004
    named = {"Host": to.authority}
    async with (
        httpx.AsyncClient(
            verify=_trusted(),
            trust_env=False,
            follow_redirects=False,
            timeout=timeout_seconds,
        ) as client,
        client.stream(
            "POST",
            f"{to.scheme}://{at}:{to.port}{to.path}",
            content=delivery.body,
            headers=delivery.headers | named,
            # The certificate must be the host's, not the address's.
            extensions={"sni_hostname": to.host},
        ) as answer,
    ):
        return answer.status_code


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Return who may vouch for a receiver: the usual ones, or those SSL_CERT_FILE names."""
    return httpx.create_ssl_context()


def _judged(status: int) -> Sent:
    if httpx.codes.is_success(status):
        return Sent()
    return Sent(f"HTTP {status}", is_final=status == GONE)
