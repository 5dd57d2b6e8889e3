import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

from dispatch.config import Settings
from tests.agents import model as models
from tests.agents.doubles import DOUBLES, Double
from tests.agents.model import Model
from tests.agents.stage import Stage, a_stage
from tests.system.houses import Casa, found_casa
from workers.agents import registry


@pytest_asyncio.fixture
async def casa(settings: Settings, tmp_path: Path) -> AsyncIterator[Casa]:
    """A fresh house on the session's servers, its workspaces in a folder of its own."""
    ours = {"workspace_root": str(tmp_path), "permission_grace_seconds": 0.2}
    local = settings.model_copy(update=ours)
    async with found_casa(local) as made:
        yield made
    await registry.close()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Agents break down here by the dozen; a pretty traceback of each takes seconds."""
    talkative = structlog.get_config()
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)
    yield
    structlog.configure(**talkative)


@pytest.fixture
def model() -> Model:
    return models.fresh()


@pytest.fixture(params=DOUBLES, ids=str)
def double(request: pytest.FixtureRequest) -> Double:
    return request.param


@pytest.fixture
def needs(double: Double) -> Callable[..., None]:
    """Skip what a runner cannot do by its nature."""

    def need(*words: str) -> None:
        missing = double.lacks & set(words)
        if missing:
            pytest.skip(f"{double} has no {', '.join(sorted(missing))}")

    return need


@pytest_asyncio.fixture
async def stage(casa: Casa, double: Double, model: Model) -> Stage:
    return await a_stage(casa, double, model)
