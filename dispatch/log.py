"""Logging: constant event names, ids as fields, no payload and no secret ever.

`configure` is called once by each process's entry point. What a library logs passes the same
scrubber, so a token or a password in an exception's text does not reach a log either.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

_SECRETS: Final = re.compile(
    r"(arbe_[a-z]+_[0-9A-Za-z_]{16,}|Bearer\s+\S+|(?<=://)[^/\s:@]*:[^@\s/]+(?=@))"
)


def scrub(text: str) -> str:
    """Blank out tokens, bearer headers and passwords inside URLs."""
    return _SECRETS.sub("[secret]", text)


def _scrub_event(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = scrub(value)
    return event


def _naming(process: str) -> structlog.typing.Processor:
    def name(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> Any:
        event["process"] = process
        return event

    return name


def configure(*, level: str, as_json: bool, process: str) -> None:
    """Send structlog's and the standard library's logs to stderr through one pipeline.

    Args: process: "api", "worker", "beat" …, a field of every line.
    """
    shared: list[structlog.typing.Processor] = [
        _naming(process),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _scrub_event,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of one module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
