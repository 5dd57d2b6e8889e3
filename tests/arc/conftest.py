"""One API and one worker for all tests of ARC, and a house with a demo agent in it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from dispatch.client import Client
from dispatch.config import Settings
from tests.arc.wire import Wire
from tests.system import runners
from tests.system.conftest import free_port, new_system
from tests.system.houses import Casa, found_casa
from tests.system.processes import Processes


@dataclass(frozen=True)
class ArcSystem:
    """What runs, and how to talk to it."""

    url: str
    settings: Settings
    processes: Processes

    @property
    def endpoint(self) -> str:
        return f"{self.url}/arc"


@pytest_asyncio.fixture(scope="session")
async def arc_system(
    postgres_url: str, stream_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ArcSystem]:
    settings = new_system(postgres_url, stream_url, name="arbe_arc", first_db=10)
    processes = Processes(settings, tmp_path_factory.mktemp("arc"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    processes.start(
        "dispatch.api",
        ARBE_API_PORT=str(port),
        ARBE_ARC_WAIT_SECONDS="20",
        ARBE_WEBHOOK_ALLOWED_HOSTS="127.0.0.1",
    )
    processes.start_worker(
        PYTHONPATH=runners.offer(tmp_path_factory.mktemp("runners")),
        ARBE_WEBHOOK_ALLOWED_HOSTS="127.0.0.1",
        ARBE_WEBHOOK_BACKOFF_SECONDS="0.1",
        ARBE_WEBHOOK_ATTEMPTS="3",
        ARBE_WEBHOOK_POLL_SECONDS="0.1",
        ARBE_PERMISSION_GRACE_SECONDS="0.5",
    )
    processes.start_beat()
    try:
        async with Client(url, "none", patience_seconds=60) as client:
            assert (await client.health())["status"] == "ok"
        yield ArcSystem(url, settings, processes)
    finally:
        processes.end_all()


@pytest_asyncio.fixture
async def casa(arc_system: ArcSystem) -> AsyncIterator[Casa]:
    async with found_casa(arc_system.settings) as made:
        yield made


@pytest_asyncio.fixture
async def wire(arc_system: ArcSystem, casa: Casa) -> AsyncIterator[Wire]:
    made = Wire(arc_system.endpoint, casa.token)
    yield made
    await made.http.aclose()


@pytest_asyncio.fixture
async def nobody(arc_system: ArcSystem) -> AsyncIterator[Wire]:
    made = Wire(arc_system.endpoint, "arbe_owner_wrong")
    yield made
    await made.http.aclose()
