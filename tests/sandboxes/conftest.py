"""One behaviour suite for every provider; the promises of one alone have their own files."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dispatch import ids
from dispatch.config import Settings
from dispatch.errors import Unavailable
from dispatch.models import recipes
from workers.sandboxes import Place, Provider, Sandbox, engine, isolation, limits
from workers.sandboxes.bubblewrap import Bubblewrap
from workers.sandboxes.containers import DockerProvider
from workers.sandboxes.local import LocalProvider

IMAGE = os.environ.get("ARBE_TEST_IMAGE", "python:3.12-slim")
"""For a real engine; any image with a shell, tr, grep and seq."""
PROVIDERS = ["bubblewrap", "bare", "docker"]


def a_place(settings: Settings, recipe: recipes.Recipe = recipes.LOCAL) -> Place:
    return Place(id=ids.uuid7(), limits=limits(settings, recipe), image=recipe.image or "")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(workspace_root=str(tmp_path / "workspaces"))


@pytest.fixture
def bubblewrap(settings: Settings) -> Bubblewrap:
    try:
        found = isolation.choose(settings)
    except Unavailable as problem:
        pytest.skip(str(problem))
    assert isinstance(found, Bubblewrap)
    return found


@pytest.fixture
def place(settings: Settings) -> Place:
    return a_place(settings, recipes.Recipe(image=IMAGE))


@pytest.fixture
def workspace(settings: Settings, place: Place) -> Path:
    return Path(settings.workspace_root) / str(place.id)


@pytest_asyncio.fixture(params=PROVIDERS)
async def provider(
    request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Provider]:
    match request.param:
        case "docker":
            if not engine.is_present(settings.docker_url):
                pytest.skip("no container engine answers on this machine")
            yield DockerProvider(settings)
        case "bare":
            without_bubblewrap(monkeypatch)
            allowed = settings.model_copy(update={"allow_unsandboxed": True})
            yield LocalProvider(allowed)
        case _:
            request.getfixturevalue("bubblewrap")
            yield LocalProvider(settings)


@pytest_asyncio.fixture
async def sandbox(provider: Provider, place: Place) -> AsyncIterator[Sandbox]:
    yield await provider.open(place)
    assert await provider.release(place.id)


def without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_choose_once", lambda *_: "bwrap is not installed")
