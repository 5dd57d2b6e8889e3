"""Provider `docker`: each sandbox a container of its own, found again on any worker.

Not guaranteed: more isolation than the engine gives; who may use the engine owns its machine.
A container lives on the engine that `ARBE_DOCKER_URL` names: workers that share an environment
share the engine, or each turn that moves gets a new sandbox.
"""

import asyncio
import contextlib
import math
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from dispatch import clock, log
from dispatch.config import Settings
from dispatch.errors import SandboxDied, Unavailable
from workers.sandboxes import CommandResult, OnBytes, OnOutput, Place
from workers.sandboxes.engine import INSIDE, Engine, Pieces
from workers.sandboxes.launches import LANG
from workers.sandboxes.local import ending, refuse_what_no_shell_takes
from workers.sandboxes.output import Output

_log = log.get(__name__)
_MARK: Final = "ARBE_COMMAND"
"""Names a command in the environment of all its processes."""
END_SECONDS: Final = 20.0
"""What ending a command's processes may take; then the container goes as a whole."""
# A killed worker ends nothing in a container: the command has a clock of its own, a bit late.
_BOUNDED: Final = (
    'if command -v timeout >/dev/null; then exec timeout -s KILL "$2" /bin/sh -c "$1"; fi; '
    'exec /bin/sh -c "$1"'
)
_END_MARKED: Final = (
    'for each in /proc/[0-9]*; do tr "\\0" "\\n" <"$each/environ" 2>/dev/null '
    '| grep -qx "$1" && kill -9 "${each#/proc/}"; done; :'
)
_END_ALL: Final = "kill -9 -1; :"
"""All this user may signal but the shell itself; the container's own processes are root's."""


class Container:
    """Runs shell commands in one container."""

    def __init__(self, engine: Engine, place: Place) -> None:
        self._engine = engine
        self._place = place

    async def alive(self) -> bool:
        """Tell whether the container runs. Raises: Unavailable."""
        return await self._engine.is_running(self._place.id)

    async def run_command(
        self,
        command: str,
        *,
        wall_seconds: float,
        max_output_bytes: int,
        on_output: OnOutput,
        on_bytes: OnBytes | None = None,
    ) -> CommandResult:
        """Run `/bin/sh -c command` and return how it ended; see `workers.sandboxes.Sandbox`.

        Not guaranteed: the end of a killed worker's command before its wall clock (and by then
        only where the image has `timeout`); while other commands run beside it, the end of a
        process that cleared its environment: it goes with the last of them.
        """
        refuse_what_no_shell_takes(command)
        output = Output(max_output_bytes)
        started = clock.monotonic_seconds()
        running = await self._start(command, wall_seconds)
        try:
            is_late = await running.pass_on(output, on_output, on_bytes, wall_seconds)
            status = None if is_late else await self._status(running.exec_id)
        finally:
            await asyncio.shield(self._end(running))
        exit_code, signal_name = ending(status)
        return CommandResult(
            exit_code=exit_code,
            signal=signal_name,
            output=output.tail(),
            truncated=output.truncated,
            total_bytes=output.total_bytes,
            duration_seconds=clock.monotonic_seconds() - started,
            timed_out=is_late,
        )

    async def _start(self, command: str, wall_seconds: float) -> "_Running":
        mark = uuid.uuid4().hex
        environment = {"HOME": INSIDE, "LANG": LANG, _MARK: mark}
        try:
            exec_id, pieces = await self._engine.start(
                self._place.id,
                ("/bin/sh", "-c", _BOUNDED, "sh", command, str(math.ceil(wall_seconds) + 5)),
                environment,
            )
        except Unavailable:
            await self._assert_alive()
            raise
        return _Running(exec_id, pieces, mark)

    async def _status(self, exec_id: str) -> int:
        try:
            status = await self._engine.status(exec_id)
        except Unavailable:
            status = None
        if status is None:
            # Its output ended and it did not: so did the container, or the line to the engine.
            await self._assert_alive()
            raise SandboxDied(str(self._place.id), cause="the engine lost the command")
        await self._assert_alive()
        return status

    async def _assert_alive(self) -> None:
        if not await self.alive():
            raise SandboxDied(str(self._place.id), cause="its container is gone")

    async def _end(self, running: "_Running") -> None:
        """End all that the command left; where that fails, the whole container."""
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._end_processes(running)
        except (Unavailable, TimeoutError) as problem:
            _log.warning(
                "sandbox.command_not_ended", sandbox_id=str(self._place.id), cause=str(problem)
            )
            with contextlib.suppress(Unavailable):
                await self._engine.remove(self._place.id)
        finally:
            running.close()

    async def _end_processes(self, running: "_Running") -> None:
        if not await self.alive():
            return
        if await self._engine.others_run(self._place.id, running.exec_id):
            script: tuple[str, ...] = (_END_MARKED, "sh", f"{_MARK}={running.mark}")
        else:
            script = (_END_ALL,)
        await self._engine.run(self._place.id, ("/bin/sh", "-c", *script))


class _Running:
    """One command's output, read by an OS thread of its own: the SDK's reads block."""

    def __init__(self, exec_id: str, pieces: Pieces, mark: str) -> None:
        self.exec_id = exec_id
        self.mark = mark
        self._pieces = pieces
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="arbe-exec")

    async def pass_on(
        self, output: Output, on_output: OnOutput, on_bytes: OnBytes | None, wall_seconds: float
    ) -> bool:
        """Pass the output on until its end; True if the wall clock came first.

        Promise: the wall clock never cancels a listener.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wall_seconds
        while True:
            reading = loop.run_in_executor(self._reader, self._pieces.read)
            done, _ = await asyncio.wait({reading}, timeout=max(0.0, deadline - loop.time()))
            if not done:
                return True
            data = reading.result()
            shown = output.feed(data)
            if shown:
                await on_output(shown)
            if not data:
                return False
            if on_bytes is not None:
                await on_bytes(data)
            if loop.time() > deadline:
                return True

    def close(self) -> None:
        """Let the reader go; what it still waits for is cut off."""
        self._pieces.close()
        self._reader.shutdown(wait=False, cancel_futures=True)


class DockerProvider:
    """Gives each sandbox a container on one engine."""

    def __init__(self, settings: Settings, engine: Engine | None = None) -> None:
        self._engine = engine or Engine(settings.docker_url)

    async def open(self, place: Place) -> Container:
        """Make and start the container; its image is pulled when it is missing.

        Raises: Unavailable; Invalid for an image that cannot be had.
        """
        await self._engine.create(place)
        return Container(self._engine, place)

    async def find(self, place: Place) -> Container | None:
        """Return the sandbox if its container runs. Raises: Unavailable."""
        if not await self._engine.is_running(place.id):
            return None
        return Container(self._engine, place)

    async def list(self) -> list[uuid.UUID]:
        """Return the ids of all containers of ours on the engine. Raises: Unavailable."""
        return await self._engine.list()

    async def release(self, sandbox_id: uuid.UUID) -> bool:
        """Remove the container; again is harmless. Raises: Unavailable."""
        await self._engine.remove(sandbox_id)
        return True
