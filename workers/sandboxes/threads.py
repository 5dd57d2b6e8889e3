"""The sandbox of a thread: found or made when the first command of a turn needs it.

    no environment ─▶ local, in the thread's own workspace; no row
    environment    ─▶ the row's sandbox if it lives ─▶ else a new one, and the row points at it

Not guaranteed: that files last. A sandbox that died, was idle for long, or is local to another
machine is replaced by an empty one.
"""

import contextlib
from collections.abc import AsyncGenerator
from typing import Final, cast

import msgspec

from dispatch import log
from dispatch.errors import ArbeError, SandboxDied, Unavailable
from dispatch.ids import SandboxId, ThreadId
from dispatch.models import recipes
from dispatch.models.houses import Environment
from dispatch.models.recipes import ProviderName, Recipe
from dispatch.models.threads import Thread
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, environments, sandboxes, threads
from workers.sandboxes import (
    CommandResult,
    OnOutput,
    Place,
    Provider,
    Sandbox,
    limits,
    providers,
)
from workers.sandboxes.keeping import Keeper

_log = log.get(__name__)
_TRIES: Final = 4
"""Lanes of one thread that need its sandbox in the same moment: all but one try again."""
_MARGIN_SECONDS: Final = 30.0
"""What starting and ending a command may take beside its wall clock."""


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    sandbox: Sandbox
    recipe: Recipe
    row_id: SandboxId | None = None
    """None: a thread's own workspace, which has no row."""


class ThreadSandbox:
    """Runs one turn's commands in its thread's sandbox."""

    def __init__(self, record: Record, thread_id: ThreadId) -> None:
        self._record = record
        self._settings = record.settings
        self._thread_id = thread_id
        self._found: _Found | None = None

    async def run_command(self, command: str, on_output: OnOutput) -> CommandResult:
        """Run a command within the environment's limits, else the worker's.

        Promise: the sandbox's row names the time until which it is in use, so that no sweep
        removes it under a command.
        Raises: Invalid or Unavailable, when nothing ran; SandboxDied, when the sandbox died,
        before or under the command: the run must end, and if nothing is left its row says so.
        """
        found = await self._find()
        seconds = found.recipe.command_seconds or self._settings.command_seconds
        keeper = Keeper(self._record, self._thread_id)
        async with self._in_use(found, seconds):
            result = await found.sandbox.run_command(
                command,
                wall_seconds=seconds,
                max_output_bytes=self._settings.max_output_bytes,
                on_output=on_output,
                on_bytes=keeper.take,
            )
        kept = await keeper.finish(
            total_bytes=result.total_bytes, shown_bytes=self._settings.max_output_bytes
        )
        return msgspec.structs.replace(result, kept=kept)

    async def _find(self) -> _Found:
        if self._found is None:
            self._found = await self._resolve()
        return self._found

    async def _resolve(self) -> _Found:
        for _ in range(_TRIES):
            async with engine.as_worker(self._record.projector) as connection:
                thread = await threads.get(connection, thread_id=self._thread_id)
                if thread.environment_id is None:
                    break
                environment = await environments.get(
                    connection, environment_id=thread.environment_id
                )
            found = await self._take_up_or_make(thread, environment)
            if found is not None:
                return found
        else:
            raise Unavailable("The thread's sandbox", cause="others replace it over and over")
        place = Place(id=thread.id, limits=limits(self._settings, recipes.LOCAL))
        sandbox = await providers.make("local", self._settings).open(place)
        return _Found(sandbox=sandbox, recipe=recipes.LOCAL)

    async def _take_up_or_make(self, thread: Thread, environment: Environment) -> _Found | None:
        """Return the thread's sandbox, None if somebody pointed it elsewhere meanwhile."""
        recipe = recipes.read(environment.provider, environment.config)
        provider = providers.make(cast("ProviderName", environment.provider), self._settings)
        found = None
        if thread.sandbox_id is not None:
            found = await self._take_up(provider, recipe, thread.sandbox_id)
        return found or await self._make(provider, recipe, thread)

    async def _take_up(
        self, provider: Provider, recipe: Recipe, sandbox_id: SandboxId
    ) -> _Found | None:
        async with engine.as_worker(self._record.projector) as connection:
            is_ready = await sandboxes.hold(
                connection, sandbox_id=sandbox_id, seconds=_MARGIN_SECONDS
            )
        if not is_ready:
            return None
        sandbox = await provider.find(self._place(sandbox_id, recipe))
        if sandbox is None:
            await self._bury(sandbox_id, "it was gone when a turn needed it")
            return None
        return _Found(sandbox=sandbox, recipe=recipe, row_id=sandbox_id)

    async def _make(self, provider: Provider, recipe: Recipe, thread: Thread) -> _Found | None:
        async with engine.as_worker(self._record.projector) as connection:
            row = await sandboxes.insert(
                connection, house_id=thread.house_id, environment_id=thread.environment_id
            )
        try:
            sandbox = await provider.open(self._place(row.id, recipe))
        except ArbeError as error:
            await self._bury(row.id, str(error))
            raise
        async with engine.as_worker(self._record.projector) as connection:
            is_ours = await threads.point_sandbox(
                connection, thread_id=thread.id, before=thread.sandbox_id, sandbox_id=row.id
            )
            # A sweep removes what lost: a worker that dies here leaves it to the same sweep.
            await sandboxes.update(
                connection,
                sandbox_id=row.id,
                status="ready" if is_ours else "released",
                cause=None if is_ours else "another was made at once",
            )
        if not is_ours:
            return None
        _log.info("sandbox.made", thread_id=str(thread.id), sandbox_id=str(row.id))
        return _Found(sandbox=sandbox, recipe=recipe, row_id=row.id)

    @contextlib.asynccontextmanager
    async def _in_use(self, found: _Found, seconds: float) -> AsyncGenerator[None]:
        """Hold the row for the length of a command; note there what it died of."""
        if found.row_id is None:
            yield
            return
        if not await self._hold(found.row_id, seconds + _MARGIN_SECONDS):
            raise SandboxDied(str(found.row_id), cause="it was released")
        try:
            yield
        except SandboxDied as died:
            if not await found.sandbox.alive():
                await self._bury(found.row_id, died.what)
            raise

    async def _hold(self, sandbox_id: SandboxId, seconds: float) -> bool:
        async with engine.as_worker(self._record.projector) as connection:
            return await sandboxes.hold(connection, sandbox_id=sandbox_id, seconds=seconds)

    async def _bury(self, sandbox_id: SandboxId, cause: str) -> None:
        _log.warning("sandbox.dead", sandbox_id=str(sandbox_id), cause=cause)
        try:
            async with engine.as_worker(self._record.projector) as connection:
                await sandboxes.update(
                    connection, sandbox_id=sandbox_id, status="dead", cause=log.scrub(cause)
                )
        except Unavailable as error:
            _log.warning("sandbox.row_lags", sandbox_id=str(sandbox_id), cause=error.server)

    def _place(self, sandbox_id: SandboxId, recipe: Recipe) -> Place:
        return Place(
            id=sandbox_id, limits=limits(self._settings, recipe), image=recipe.image or ""
        )
