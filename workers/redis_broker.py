"""Celery's Redis broker as kombu brings it, except that a malformed message ends no worker.

kombu decodes a popped message outside every guard: one line of garbage on a queue would be an
unrecoverable error, and take all turns of the process with it (kombu 5.7.0).
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from dispatch import log

_log = log.get(__name__)


class Channel(redis.Channel):
    """Drops what is no message; its sender gets no second chance, as with any forged hint."""

    def _brpop_read(self, **options: Any) -> Any:
        kombus: Any = super()  # its stub leaves this out
        try:
            return kombus._brpop_read(**options)  # noqa: SLF001 - where kombu decodes
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # It is off the list already, so nobody will meet it again.
            _log.error("message.malformed", cause=type(error).__name__)
            return None


class Transport(redis.Transport):
    """kombu's, with our channel."""

    Channel = Channel


def install() -> None:
    """Let URLs of Redis brokers mean ours in this process.

    Not by the setting `broker_transport`: with it kombu forgets that `rediss` wants TLS.
    """
    name = f"{Transport.__module__}:{Transport.__qualname__}"
    TRANSPORT_ALIASES.update(redis=name, rediss=name)
