"""One API and one worker for the documents' snippets and the WebSocket, and a house in it."""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI

from dispatch.api import app as factory
from dispatch.client import Client
from dispatch.config import Settings
from dispatch.operations.record import Record
from dispatch.stores.postgres import agents, engine
from tests.api.loopback import serving
from tests.system.conftest import free_port, new_system
from tests.system.houses import Casa, found_casa
from tests.system.processes import Processes

AGENTS = ("demo", "support-agent", "agent-a", "support", "finance", "hr")
"""The documents' names, as handles."""


@dataclass(frozen=True)
class System:
    """What runs."""

    url: str
    settings: Settings
    processes: Processes

    @property
    def endpoint(self) -> str:
        return f"{self.url}/arc"


@pytest_asyncio.fixture(scope="session")
async def system(
    postgres_url: str, stream_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[System]:
    settings = new_system(postgres_url, stream_url, name="arbe_documents", first_db=12)
    processes = Processes(settings, tmp_path_factory.mktemp("documents"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    processes.start("dispatch.api", ARBE_API_PORT=str(port))
    processes.start_worker()
    try:
        async with Client(url, "none", patience_seconds=60) as client:
            assert (await client.health())["status"] == "ok"
        yield System(url, settings, processes)
    finally:
        processes.end_all()


@pytest_asyncio.fixture
async def casa(system: System) -> AsyncIterator[Casa]:
    """A house with the documents' agents, all demo."""
    async with found_casa(system.settings) as made:
        async with engine.as_member(made.record.members, made.who.member_id) as connection:
            for handle in AGENTS[1:]:
                await agents.insert(
                    connection, house_id=made.who.house_id, handle=handle, runner="demo"
                )
        yield made


@dataclass(frozen=True)
class Served:
    """Our API in this process; it shares everything else with the system."""

    url: str
    app: FastAPI

    @property
    def socket(self) -> str:
        return self.url.replace("http", "ws") + "/ws"

    @property
    def record(self) -> Record:
        record: Record = self.app.state.record
        return record


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(system: System) -> Serve:
    """Serve our API from this process, with some settings changed."""

    @contextlib.asynccontextmanager
    async def served(
        *, sockets: list[socket.socket] | None = None, **changed: Any
    ) -> AsyncIterator[Served]:
        settings = system.settings.model_copy(update=changed)
        app = factory.create_app(settings)
        limit = settings.ws_max_message_bytes
        async with (
            app.router.lifespan_context(app),
            serving(app, sockets=sockets, max_message_bytes=limit) as url,
        ):
            yield Served(url, app)

    return served
