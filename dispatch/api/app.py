"""The app: routes, layers, and what one process holds open while it serves."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from dispatch.api import body, openapi, problems
from dispatch.api.routes import (
    agents,
    arc,
    archive,
    cancellations,
    chats,
    diagnose,
    dispatches,
    entries,
    environments,
    health,
    houses,
    lifecycle,
    members,
    outputs,
    permissions,
    stream,
    threads,
    tokens,
    ws,
)
from dispatch.api.sockets import Sockets
from dispatch.config import Settings
from dispatch.operations.record import open_record


def create_app(settings: Settings) -> FastAPI:
    """Make the app; `python -m dispatch.api` serves it.

    Promise: nothing is connected before the lifespan starts.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_record(settings) as record:
            app.state.record = record
            app.state.feed = record.feed
            app.state.sockets = Sockets(max_sockets=settings.ws_max_sockets)
            try:
                yield
            finally:
                await app.state.sockets.close()

    app = FastAPI(
        title="arbe-dispatch",
        version="1",
        lifespan=lifespan,
        routes=list(entries.HOT),
    )
    app.include_router(health.router)
    app.include_router(arc.router)
    app.include_router(_version_1())
    app.include_router(ws.router)
    app.add_middleware(body.Bounded, max_body_bytes=settings.max_body_bytes)
    problems.install(app)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app


def _version_1() -> APIRouter:
    router = APIRouter(prefix="/v1")
    # cancellations and dispatches before threads: `/threads/prune` is no reference.
    for part in (houses, members, tokens, agents, environments, diagnose):
        router.include_router(part.router)
    for part in (cancellations, dispatches, lifecycle, archive, threads, outputs):
        router.include_router(part.router)
    for part in (permissions, chats):
        router.include_router(part.router)
    router.include_router(entries.router)
    router.include_router(stream.router)
    return router
