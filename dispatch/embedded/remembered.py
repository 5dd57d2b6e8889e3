"""What a private server keeps beside its data: its password and its port.

Both are chosen once and then stay, so that a restart finds the same address. Not guaranteed:
that the port is still free when the server binds it; the supervisor's restart covers that.
"""

import secrets
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"


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
        if _is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = int(probe.getsockname()[1])
    write_private(path, str(port))
    return port


def port(path: Path) -> int:
    """Read the remembered port. Raises: FileNotFoundError before the first `choose_port`."""
    return int(path.read_text(encoding="utf-8"))


def _is_free(port_number: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: connections of a killed predecessor in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port_number))
        except OSError:
            return False
    return True
