"""Runs one command and keeps what it showed live; finds processes by a marker in their line."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from workers.sandboxes import CommandResult, Sandbox


class Shown:
    def __init__(self) -> None:
        self.pieces: list[str] = []

    async def __call__(self, piece: str) -> None:
        self.pieces.append(piece)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def run(
    sandbox: Sandbox,
    command: str,
    *,
    shown: Shown | None = None,
    wall_seconds: float = 20.0,
    max_output_bytes: int = 50_000,
) -> CommandResult:
    return await sandbox.run_command(
        command,
        wall_seconds=wall_seconds,
        max_output_bytes=max_output_bytes,
        on_output=shown or Shown(),
    )


def processes_with(marker: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in line:
                found.append(int(folder.name))
    return found


async def wait_until(holds: Callable[[], bool], *, within_seconds: float = 60.0) -> None:
    async with asyncio.timeout(within_seconds):
        while not holds():  # noqa: ASYNC110 - a process tells no event
            await asyncio.sleep(0.01)
