"""Ports that no outgoing connection of this machine ever takes.

A server that is down leaves its port alone. Were it one of the ephemeral range, a client that
goes on trying could be given that very port, connect to itself, and keep the server from coming
back.
"""

import random
import socket
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_RANGE: Final = range(12_000, 30_000)
"""Below Linux's ephemeral ports, which begin at 32768."""
_TRIES: Final = 200

_given: set[int] = set()


def choose() -> int:
    """Return a port that is free now and that this process has not given away before."""
    for _ in range(_TRIES):
        port = random.SystemRandom().choice(_RANGE)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise AssertionError("no free port on the loopback")


def remember(*files: Path) -> None:
    """Write a chosen port into each file, where a private server looks for its own."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(choose()))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
