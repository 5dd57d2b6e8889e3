"""Environments: recipes for the sandboxes in which a thread's commands run."""

from typing import Any

from dispatch.ids import EnvironmentId
from dispatch.models import claims, recipes
from dispatch.models.claims import NewId
from dispatch.models.houses import Caller, Environment
from dispatch.models.pages import Page
from dispatch.operations import labels, paging
from dispatch.operations.record import Record
from dispatch.stores.postgres import engine, idempotency
from dispatch.stores.postgres import environments as stored


async def create(
    record: Record,
    who: Caller,
    *,
    name: str,
    provider: str = "local",
    config: dict[str, Any] | None = None,
    new: NewId | None = None,
) -> Environment:
    """Add a recipe; nothing starts before a turn needs a sandbox of it.

    Raises: Invalid, also for a provider or a word of the config that there is not.
    """
    named = labels.name(name, record.settings)
    provided = labels.name(provider, record.settings, what="provider")
    recipes.read(provided, config or {})
    new = new or claims.fresh()
    environment_id = EnvironmentId(new.id)
    async with engine.as_member(record.members, who.member_id) as connection:
        await idempotency.hold(connection, new=new)
        made = None
        if new.may_exist:
            made = await stored.find(connection, environment_id=environment_id)
        return made or await stored.insert(
            connection,
            house_id=who.house_id,
            name=named,
            provider=provided,
            config=config,
            environment_id=environment_id,
        )


async def get(record: Record, who: Caller, environment_id: EnvironmentId) -> Environment:
    """Return one recipe.

    Raises: NotFound.
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        return await stored.get(connection, environment_id=environment_id)


async def list_environments(
    record: Record, who: Caller, *, cursor: str | None, limit: int | None
) -> Page[Environment]:
    """Return one page of the house's recipes, newest first."""
    size = paging.size(limit, record.settings)
    before = paging.place(cursor, EnvironmentId)
    async with engine.as_member(record.members, who.member_id) as connection:
        found = await stored.list(
            connection, house_id=who.house_id, before=before, limit=size + 1
        )
    return paging.page(found, size)


async def delete(record: Record, who: Caller, environment_id: EnvironmentId) -> None:
    """Remove a recipe; sandboxes made from it live on.

    Raises: NotFound, also when repeated; Conflict (`environment_in_use`).
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        await stored.delete(connection, environment_id=environment_id)
