"""The app in this process, against the session's servers."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from pydantic import SecretStr

from dispatch.api import app as factory
from dispatch.config import Settings
from dispatch.embedded import remembered
from dispatch.operations import houses
from dispatch.operations.record import Record
from tests.api.homes import Home, client_of
from tests.api.loopback import serving

MakeHome = Callable[..., Awaitable[Home]]


@pytest_asyncio.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    made = factory.create_app(settings.model_copy(update={"operator_token": SecretStr("op")}))
    async with made.router.lifespan_context(made):
        yield made


@pytest_asyncio.fixture(scope="session")
async def api_url(app: FastAPI) -> AsyncIterator[str]:
    """The address of the app behind a real server."""
    async with serving(app) as url:
        yield url


@pytest_asyncio.fixture(scope="session")
async def record(app: FastAPI) -> Record:
    return app.state.record


@pytest_asyncio.fixture
async def nobody(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, None) as client:
        yield client


@pytest_asyncio.fixture
async def make_home(app: FastAPI, record: Record) -> AsyncIterator[MakeHome]:
    made: list[Home] = []

    async def make(name: str = "Casa") -> Home:
        founded = await houses.create(record, name=name, owner_name="Ada")
        home = Home(founded, client_of(app, founded.secret))
        made.append(home)
        return home

    yield make
    for home in made:
        await home.http.aclose()


@pytest_asyncio.fixture
async def home(make_home: MakeHome) -> Home:
    return await make_home()


@pytest.fixture
def dead_port() -> int:
    """A port nobody listens on."""
    return remembered.free_port()
