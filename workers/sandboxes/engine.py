"""The container engine, by the docker SDK: blocking calls made off the loop, errors translated.

The SDK is an optional extra (`arbe-dispatch[docker]`) and ships no types: what comes from it is
`Any` here and nowhere else.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import os
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from dispatch.errors import Invalid, Unavailable
from workers.sandboxes import Place

Answer = TypeVar("Answer")
LABEL: Final = "arbe.sandbox"
INSIDE: Final = "/workspace"
USER: Final = "1000:1000"
SERVER: Final = "The container engine"
_DEFAULT_URL: Final = "unix:///var/run/docker.sock"
_CALL_SECONDS: Final = 30
"""One call to an engine; making a container of an image that is there takes about one."""
_CALLS: Final = 8
"""Calls at once of one turn."""
_REST: Final = ("/bin/sh", "-c", "while :; do sleep 86400; done")


def socket_of(url: str) -> Path | None:
    """Return the engine's Unix socket, None when it is reached otherwise."""
    return Path(url.removeprefix("unix://")) if url.startswith("unix://") else None


def address(url: str) -> str:
    """Return the engine's address: the given one, or the usual one."""
    return url or _DEFAULT_URL


class Pieces:
    """The output of one command as it comes: reading blocks, closing ends it."""

    def __init__(self, client: Any, stream: Any) -> None:
        self._client = client
        self._stream = stream

    def read(self) -> bytes:
        """Return the next piece, nothing at the end; a line that breaks is an end too."""
        try:
            return next(self._stream, b"")
        except (OSError, _sdk().utils.socket.SocketError):
            return b""

    def close(self) -> None:
        """Cut off what is still read. Again is harmless."""
        # The SDK reaches through a connection that may be half gone.
        with contextlib.suppress(OSError, AttributeError):
            self._stream.close()
        self._client.close()


class Engine:
    """One engine; each call has a connection of its own, so nothing is held between them."""

    def __init__(self, url: str) -> None:
        self._url = address(url)
        # Its own OS threads: an image may take minutes, and others' short work must not wait.
        self._threads = ThreadPoolExecutor(_CALLS, thread_name_prefix="arbe-engine")

    async def create(self, place: Place) -> None:
        """Make and start the container of a sandbox, or start the one that is there.

        Raises: Unavailable; Invalid, when there is no such image.
        """
        await self._call(lambda client, errors: _create(client, errors, place))

    async def is_running(self, sandbox_id: uuid.UUID) -> bool:
        """Tell whether the sandbox's container runs. Raises: Unavailable."""
        found = await self._call(lambda client, errors: _find(client, errors, sandbox_id))
        return found is not None and found.status == "running"

    async def list(self) -> list[uuid.UUID]:
        """Return whose containers are here, dead ones too. Raises: Unavailable."""
        found = await self._call(
            lambda client, _: client.containers.list(all=True, filters={"label": LABEL})
        )
        return [each for each in map(_sandbox_of, found) if each is not None]

    async def remove(self, sandbox_id: uuid.UUID) -> None:
        """Remove the container with all that ran in it. Raises: Unavailable."""

        def remove(client: Any, errors: Any) -> None:
            found = _find(client, errors, sandbox_id)
            if found is not None:
                found.remove(force=True, v=True)

        await self._call(remove)

    async def start(
        self, sandbox_id: uuid.UUID, command: tuple[str, ...], environment: dict[str, str]
    ) -> tuple[str, Pieces]:
        """Start a command; return its id and its output, which the caller closes.

        Raises: Unavailable, also when the container is gone.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._start, sandbox_id, command, environment
        )

    async def status(self, exec_id: str) -> int | None:
        """Return a command's exit code, None while it runs. Raises: Unavailable."""
        found = await self._call(lambda client, _: client.api.exec_inspect(exec_id))
        return None if found["Running"] else int(found["ExitCode"])

    async def others_run(self, sandbox_id: uuid.UUID, exec_id: str) -> bool:
        """Tell whether another command runs in the container. Raises: Unavailable."""

        def others(client: Any, _: Any) -> bool:
            found = client.api.inspect_container(name_of(sandbox_id))
            ids = set(found.get("ExecIDs") or ()) - {exec_id}
            return any(client.api.exec_inspect(each)["Running"] for each in ids)

        return await self._call(others)

    async def run(self, sandbox_id: uuid.UUID, command: tuple[str, ...]) -> None:
        """Run a short command of our own to its end. Raises: Unavailable."""

        def run(client: Any, _: Any) -> None:
            made = client.api.exec_create(name_of(sandbox_id), list(command), user=USER)
            client.api.exec_start(made["Id"])

        await self._call(run)

    async def _call(self, work: Callable[[Any, Any], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._do, work)

    def _do(self, work: Callable[[Any, Any], Answer]) -> Answer:
        with self._translated() as docker:
            client = docker.DockerClient(base_url=self._url, timeout=_CALL_SECONDS)
            try:
                return work(client, docker.errors)
            finally:
                client.close()

    def _start(
        self, sandbox_id: uuid.UUID, command: tuple[str, ...], environment: dict[str, str]
    ) -> tuple[str, Pieces]:
        with self._translated() as docker, contextlib.ExitStack() as stack:
            client = docker.DockerClient(base_url=self._url, timeout=_CALL_SECONDS)
            stack.callback(client.close)
            made = client.api.exec_create(
                name_of(sandbox_id),
                list(command),
                user=USER,
                workdir=INSIDE,
                environment=environment,
            )
            pieces = Pieces(client, client.api.exec_start(made["Id"], stream=True))
            stack.pop_all()  # the output still reads from it, and closes it
            return made["Id"], pieces

    @contextlib.contextmanager
    def _translated(self) -> Generator[Any]:
        """Hand out the SDK; turn what it raises into Unavailable."""
        docker = _sdk()
        try:
            yield docker
        except (docker.errors.DockerException, OSError) as problem:
            raise Unavailable(
                SERVER,
                cause=str(problem)[:300],
                next_step=f"Start it at {self._url}, or name another by ARBE_DOCKER_URL; the "
                "worker's user must be allowed to use it.",
            ) from problem


def name_of(sandbox_id: uuid.UUID) -> str:
    """Return the name of a sandbox's container."""
    return f"arbe-{sandbox_id}"


def options(place: Place) -> dict[str, Any]:
    """Return what the engine is told of a sandbox: no network, no rights, small.

    Its own processes are root without capabilities, commands are another user: they cannot end
    what keeps the container.
    """
    limits = place.limits
    return {
        "name": name_of(place.id),
        "labels": {LABEL: str(place.id)},
        "command": list(_REST),
        "entrypoint": [],
        "user": "0:0",
        "working_dir": INSIDE,
        "init": True,
        "network_mode": "bridge" if limits.network else "none",
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "pids_limit": limits.processes,
        "nano_cpus": int(limits.cpus * 1e9),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "shm_size": limits.temporary_bytes,
        "tmpfs": {"/tmp": f"size={limits.temporary_bytes},mode=1777"},  # noqa: S108 - inside
    }


def _create(client: Any, errors: Any, place: Place) -> None:
    found = _find(client, errors, place.id) or _make(client, errors, place)
    if found.status != "running":
        found.start()
    # Root owns the folder that the engine makes for `working_dir`.
    found.exec_run(["chmod", "1777", INSIDE], user="0:0")


def _make(client: Any, errors: Any, place: Place) -> Any:
    limit = place.limits.file_bytes
    given = options(place) | {
        "ulimits": [
            _sdk().types.Ulimit(name="fsize", soft=limit, hard=limit),
            _sdk().types.Ulimit(name="core", soft=0, hard=0),
        ]
    }
    try:
        return client.containers.create(place.image, **given)
    except errors.ImageNotFound:
        _pull(client, errors, place.image)
        return client.containers.create(place.image, **given)
    except errors.APIError as problem:
        if problem.status_code == 409:  # noqa: PLR2004 - HTTP: somebody made it just now
            return client.containers.get(name_of(place.id))
        raise


def _pull(client: Any, errors: Any, image: str) -> None:
    try:
        client.images.pull(image if ":" in image or "@" in image else f"{image}:latest")
    except (errors.ImageNotFound, errors.APIError) as problem:
        raise Invalid(
            f"The container engine cannot get the image '{image}': {str(problem)[:300]}.",
            next_step="Correct the environment's `image`, or pull it on the worker's engine.",
        ) from problem


def _find(client: Any, errors: Any, sandbox_id: uuid.UUID) -> Any:
    try:
        return client.containers.get(name_of(sandbox_id))
    except errors.NotFound:
        return None


def _sandbox_of(container: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(container.labels[LABEL])
    except (KeyError, ValueError):
        return None


def _sdk() -> Any:
    try:
        return importlib.import_module("docker")
    except ImportError as problem:
        raise Unavailable(
            SERVER,
            cause="the docker SDK is not installed",
            next_step="Install it where the workers run: pip install 'arbe-dispatch[docker]'.",
        ) from problem


def is_present(url: str) -> bool:
    """Tell whether an engine may answer here: cheap, and asks nobody."""
    socket = socket_of(address(url))
    if importlib.util.find_spec("docker") is None:
        return False
    return bool(url) if socket is None else os.access(socket, os.W_OK)
