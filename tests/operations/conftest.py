"""A run of our own on the session's real servers, without a worker process around it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from dispatch.config import Settings
from tests.system.houses import Casa, found_casa


@pytest_asyncio.fixture
async def casa(settings: Settings) -> AsyncIterator[Casa]:
    """A fresh house with a demo agent. Its hints reach a broker that nobody reads."""
    async with found_casa(settings) as made:
        yield made
