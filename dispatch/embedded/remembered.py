"""What a private server keeps beside its data: its password and its port.

Both are chosen once and then stay, so that a restart finds the same address. Not guaranteed:
that the port is still free when the server binds it; the supervisor's restart covers that.
"""

import secrets
import socket
from pathlib import Path
from typing import Final

from dispatch.errors import Conflict

LOOPBACK = "127.0.0.1"
_PORTS: Final = range(12_000, 30_000)
"""Below those that outgoing connections are given (Linux: from 32768). While a server is down,
a client that goes on trying could be given that very port, connect to itself, and keep the
server from coming back."""
_TRIES: Final = 200


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read.

    Promise: readers see the old content or the new one, never a half; mode is 0600 from birth.
    """
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def password(path: Path) -> str:
    """Read the password in the file, or make one there; it needs no quoting in a URL."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text(encoding="utf-8").strip()


def choose_port(path: Path) -> int:
    """Keep the remembered port if it is free, else remember a free one.

    Promise: called only while the server is down, or its own port would count as taken.
    """
    if path.exists():
        port = int(path.read_text(encoding="utf-8"))
        if _is_free(port, LOOPBACK):
            return port
    port = free_port()
    write_private(path, str(port))
    return port


def free_port(host: str = LOOPBACK) -> int:
    """Return a port that nobody listens on now and no outgoing connection will take.

    Raises: Conflict (`port_taken`), when many were tried.
    """
    for _ in range(_TRIES):
        port = secrets.choice(_PORTS)
        if _is_free(port, host):
            return port
    raise Conflict(
        "port_taken",
        f"None of {_TRIES} ports that were tried is free on {host}.",
        next_step="Stop some of what listens there.",
    )


def port(path: Path) -> int:
    """Read the remembered port. Raises: FileNotFoundError before the first `choose_port`."""
    return int(path.read_text(encoding="utf-8"))


def _is_free(port_number: int, host: str) -> bool:
    with socket.socket() as probe:
        # As the servers do: connections of a killed predecessor in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port_number))
        except OSError:
            return False
    return True
