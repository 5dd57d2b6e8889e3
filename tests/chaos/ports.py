"""Ports for servers that are killed and come back; none is given away twice."""

from pathlib import Path

from dispatch.embedded import remembered

LOOPBACK = remembered.LOOPBACK
_given: set[int] = set()


def choose() -> int:
    """Return a port that is free now and that this process has not given away before."""
    while (port := remembered.free_port()) in _given:
        pass
    _given.add(port)
    return port


def remember(*files: Path) -> None:
    """Write a chosen port into each file, where a private server looks for its own."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(choose()))
