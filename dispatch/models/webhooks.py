"""Where webhooks may go, what they carry, and when they are tried again. Pure."""

import base64
import hashlib
import hmac
import ipaddress
import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from dispatch.errors import Invalid
from dispatch.ids import EntryId, HouseId, MemberId, ThreadId
from dispatch.models import arc, arc_tasks
from dispatch.models.arc_tasks import Event, EventName, Task

DEFAULT_EVENTS: Final[tuple[EventName, ...]] = ("TASK_COMPLETED", "TASK_FAILED")
MAX_URL_CHARACTERS: Final = 2000
_PORTS: Final = {"https": 443, "http": 80}
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told of a task."""

    id: uuid.UUID
    house_id: HouseId
    member_id: MemberId
    task_id: ThreadId
    callback_url: str
    events: Sequence[EventName]
    active: bool = True
    ended_because: str | None = None
    cursor: EntryId = EntryId("")
    """The last entry whose events were delivered, or were not asked for."""
    failure_count: int = 0
    """Attempts at the present delivery that failed."""
    created_at: datetime
    due_at: datetime

    def wants(self, event: Event) -> bool:
        """Tell whether it is told of such an event."""
        return event.name in self.events or arc_tasks.EVERYTHING in self.events


class Target(msgspec.Struct, frozen=True):
    """A callback's URL, taken apart."""

    scheme: str
    host: str
    port: int
    path: str
    """With its query."""
    may_be_private: bool

    @property
    def authority(self) -> str:
        """Return what the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def target(url: str, *, allowed_hosts: Collection[str]) -> Target:
    """Take a callback's URL apart.

    Raises: Invalid, for one that nothing will be sent to, whatever its host's addresses are.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise _refused(f"is no URL ({error})") from error
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if len(url) > MAX_URL_CHARACTERS or not is_plain or not host or "\\" in url:
        raise _refused(f"must be an ASCII URL of at most {MAX_URL_CHARACTERS} characters")
    if parts.username is not None or parts.password is not None:
        raise _refused("must not hold a user or password")
    is_allowed = host in allowed_hosts
    if parts.scheme not in ({"https", "http"} if is_allowed else {"https"}):
        raise _refused("must be an https URL")
    found = Target(
        parts.scheme,
        host,
        port or _PORTS[parts.scheme],
        (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        is_allowed,
    )
    literal = _literal(host)
    if literal is not None and not may_call(literal, found):
        raise _refused("must not point to a private address")
    return found


def may_call(address: Address, to: Target) -> bool:
    """Tell whether a webhook may be sent to an address: a public one, or of an allowed host."""
    if to.may_be_private:
        return True
    inner = _inner(address)
    if inner is not None and not may_call(inner, to):
        return False
    is_special = (
        address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or address.is_private
    )
    # An address that only carries another one may be called special for that alone.
    return not is_special and (address.is_global or inner is not None)


def body(event: Event, task: Task, subscription: Subscription) -> bytes:
    """Return what is sent, exactly; its signature is made over these bytes."""
    told: dict[str, Any] = {
        "arc": "1.0",
        "method": "task.notification",
        "requestAgent": task.handle,
        "taskId": str(task.id),
        "event": event.name,
        "timestamp": event.at,
        "data": {"status": event.status, "message": event.message, **event.data},
        "subscriptionId": str(subscription.id),
    }
    if task.trace_id is not None:
        told["traceId"] = task.trace_id
    return msgspec.json.encode(told)


def headers(event: Event, subscription: Subscription, signed: str) -> dict[str, str]:
    """Return the headers of a delivery; a repeated one has the same `X-ARC-Delivery`."""
    delivery = uuid.uuid5(subscription.id, event.entry_id)
    return {
        "Content-Type": "application/json",
        "User-Agent": f"arbe-dispatch-webhooks/{subscription.id}",
        "X-ARC-Event": event.name,
        "X-ARC-Delivery": str(delivery),
        "X-ARC-Signature": signed,
    }


def signature(secret: str, sent: bytes) -> str:
    """Return the HMAC-SHA256 of the bytes that are sent, as the header has it."""
    digest = hmac.new(secret.encode(), sent, hashlib.sha256).digest()
    return f"sha256={base64.b64encode(digest).decode()}"


def shown(subscription: Subscription) -> dict[str, Any]:
    """Return a subscription as the protocol shows it."""
    return {
        "subscriptionId": str(subscription.id),
        "taskId": str(subscription.task_id),
        "callbackUrl": subscription.callback_url,
        "events": list(subscription.events),
        "createdAt": arc.time(subscription.created_at),
        "active": subscription.active,
    }


def wait_seconds(failure_count: int, *, first: float, longest: float) -> float:
    """Return how long to wait after so many failures."""
    return min(longest, first * 2.0 ** min(failure_count - 1, 40))


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _inner(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]


def _refused(why: str) -> Invalid:
    return Invalid(
        f"`callbackUrl` {why}.",
        next_step="Give a public https address; ARBE_WEBHOOK_ALLOWED_HOSTS names others.",
    )
