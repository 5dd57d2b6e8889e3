"""Who may do what: every table, verb and actor, and a lint of the catalog."""

import itertools
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from dispatch import ids
from dispatch.errors import Forbidden, NotFound
from dispatch.ids import CancellationId, DispatchId
from dispatch.models import delegations as models
from dispatch.models.cancellations import NewCancellation
from dispatch.models.delegations import NewTask
from dispatch.models.houses import Member
from dispatch.models.threads import NewThread
from dispatch.stores.postgres import cancellations, delegations, engine, threads
from dispatch.stores.postgres.tables import metadata
from tests.stores.factories import Home, new_digest

ACTORS = ("owner", "member", "stranger", "nobody", "worker")
VERBS = ("select", "insert", "update", "delete")
HOUSE = {"owner", "member"}
"""Who may, by table and verb, to a row of the house; everyone else must not."""
MATRIX: Mapping[str, Mapping[str, set[str]]] = {
    "houses": {
        "select": {*HOUSE, "worker"},
        "insert": set(),
        "update": {"owner"},
        "delete": set(),
    },
    "members": {
        "select": HOUSE,
        "insert": {"owner"},
        "update": {"owner"},
        "delete": {"owner"},
    },
    # the row is the owner's token: a member neither sees nor makes nor revokes it
    "tokens": {"select": {"owner"}, "insert": {"owner"}, "update": set(), "delete": {"owner"}},
    "agents": {"select": {*HOUSE, "worker"}, "insert": HOUSE, "update": HOUSE, "delete": HOUSE},
    "environments": {
        "select": {*HOUSE, "worker"},
        "insert": HOUSE,
        "update": HOUSE,
        "delete": HOUSE,
    },
    "sandboxes": {
        "select": {*HOUSE, "worker"},
        "insert": {"worker"},
        "update": {"worker"},
        "delete": set(),
    },
    "threads": {
        "select": {*HOUSE, "worker"},
        "insert": HOUSE,
        "update": {*HOUSE, "worker"},
        "delete": HOUSE,
    },
    "thread_agents": {
        "select": {*HOUSE, "worker"},
        "insert": HOUSE,
        "update": HOUSE,
        "delete": HOUSE,
    },
    # written by a trigger; a worker may finish it, and forget it only then (see below)
    "deletions": {
        "select": {*HOUSE, "worker"},
        "insert": set(),
        "update": {"worker"},
        "delete": set(),
    },
    # of the whole house: an owner's to ask; a worker asks for dispatches only (see below)
    "cancellations": {
        "select": {*HOUSE, "worker"},
        "insert": {"owner"},
        "update": {"worker"},
        "delete": set(),
    },
    # the row is the owner's: a member neither sees nor uses it; a worker sees no content of it
    "idempotency": {
        "select": {"owner", "worker"},
        "insert": {"owner"},
        "update": {"owner"},
        "delete": {"owner", "worker"},
    },
    "segments": {
        "select": {*HOUSE, "worker"},
        "insert": {"worker"},
        "update": {"worker"},
        "delete": {"worker"},
    },
    # a worker writes and forgets what it may not read
    "command_outputs": {
        "select": {*HOUSE, "worker"},
        "insert": {"worker"},
        "update": set(),
        "delete": {"worker"},
    },
    # its storage knows ids and no members: the caller's is the beginning of the id
    "arc_chats": {verb: {*ACTORS} for verb in VERBS},
    # the rows are the owner's: a member does not see them; a worker tells of them
    "arc_tasks": {
        "select": {"owner", "worker"},
        "insert": {"owner"},
        "update": set(),
        "delete": set(),
    },
    "arc_subscriptions": {
        "select": {"owner", "worker"},
        "insert": {"owner"},
        "update": {"worker"},
        "delete": set(),
    },
}
CASES = list(itertools.product(MATRIX, VERBS, ACTORS))
FREE: Mapping[str, tuple[str, Any]] = {
    "houses": ("name", "n"),
    "members": ("name", "n"),
    "tokens": ("name", "n"),
    "agents": ("runner", "n"),
    "environments": ("name", "n"),
    "sandboxes": ("status", "ready"),
    "threads": ("name", "n"),
    "thread_agents": ("trigger_mode", "never"),
    "deletions": ("done_at", sa.func.now()),
    "cancellations": ("done_at", sa.func.now()),
    "idempotency": ("claimed_until", sa.func.now()),
    "command_outputs": ("part", 7),
    "arc_chats": ("reason", "n"),
    "arc_tasks": ("handle", "n"),
    "arc_subscriptions": ("failure_count", 7),
    "segments": ("dropped_at", sa.func.now()),
}
"""A column to update, as one may if one may at all, and what to."""


@pytest.fixture
def door(
    home: Home, elsewhere: Home, api: AsyncEngine, worker: AsyncEngine
) -> Callable[[str], AbstractAsyncContextManager[AsyncConnection]]:
    doors = {
        "owner": home.as_owner,
        "member": home.as_member,
        "stranger": elsewhere.as_owner,
        "nobody": lambda: engine.as_nobody(api),
        "worker": lambda: engine.as_worker(worker),
    }
    return lambda actor: doors[actor]()


async def target(table: str, home: Home, worker: AsyncEngine | None = None) -> dict[str, Any]:
    """Make sure there is a row nothing else hangs on, and return what finds it."""
    match table:
        case "command_outputs" | "segments":
            row = fresh(table, home)
            assert worker is not None
            async with engine.as_worker(worker) as conn:
                await conn.execute(sa.insert(metadata.tables[table]).values(row))
            names = ("id",) if table == "segments" else ("thread_id", "ref", "part")
            return {name: row[name] for name in names}
        case "sandboxes":
            return {"id": home.sandbox.id}
        case "houses" | "members" | "tokens" | "agents" | "environments" | "threads":
            return {"id": getattr(home, table.removesuffix("s")).id}
        case "thread_agents":
            async with home.as_owner() as conn:
                dm = await threads.insert_dm(
                    conn, house_id=home.house.id, agent_id=home.agent.id
                )
            return {"thread_id": dm.thread.id}
        case "deletions":
            async with home.as_owner() as conn:
                doomed = await threads.insert(conn, new=NewThread(house_id=home.house.id))
                await threads.delete_tree(conn, thread_id=doomed.id)
            return {"thread_id": doomed.id}
        case _:
            row = fresh(table, home)
            if table == "arc_tasks":
                row |= {"id": home.house.primary_thread_id}
            if table == "arc_subscriptions":
                await target("arc_tasks", home)
            async with home.as_owner() as conn:
                await conn.execute(sa.insert(metadata.tables[table]).values(row))
            return {
                column.name: row[column.name] for column in metadata.tables[table].primary_key
            }


def asking(home: Home, who: Member, **fields: Any) -> NewCancellation:
    return NewCancellation(
        id=CancellationId(ids.uuid7()),
        house_id=home.house.id,
        by_kind="member",
        by_id=str(who.id),
        by_name=who.name,
        before_ms=1,
        **fields,
    )


def fresh(table: str, home: Home) -> dict[str, Any]:
    house_id = home.house.id
    values: dict[str, dict[str, Any]] = {
        "houses": {"name": "n", "primary_thread_id": home.thread.id},
        "members": {"house_id": house_id, "name": "n", "role": "member"},
        "tokens": {
            "house_id": house_id,
            "member_id": home.owner.id,
            "name": "n",
            "digest": new_digest(),
        },
        "agents": {"house_id": house_id, "handle": "new", "runner": "demo"},
        "environments": {"house_id": house_id, "name": "n", "provider": "local"},
        "sandboxes": {"house_id": house_id},
        "threads": {"house_id": house_id, "status": "open"},
        "thread_agents": {
            "house_id": house_id,
            "thread_id": home.house.primary_thread_id,
            "agent_id": home.agent.id,
            "trigger_mode": "never",
        },
        "deletions": {"house_id": house_id, "thread_id": ids.uuid7()},
        "cancellations": {
            "house_id": house_id,
            "cascade": True,
            "by_kind": "member",
            "by_id": str(home.owner.id),
            "by_name": "Ada",
            "before_ms": 1,
            "is_last_walk": True,
        },
        "idempotency": {
            "member_id": home.owner.id,
            "house_id": house_id,
            "key_digest": secrets.token_bytes(32),
            "request_digest": secrets.token_bytes(32),
            "reserved_id": ids.uuid7(),
            "claim_id": ids.uuid7(),
            "claimed_until": sa.func.now(),
        },
        "segments": {
            "thread_id": home.thread.id,
            "house_id": house_id,
            "fence": secrets.token_hex(4),
            "after_id": "0",
            "first_id": "1",
            "last_id": "2",
            "entry_count": 1,
            "byte_count": 1,
            "packed_bytes": 1,
            "checksum": secrets.token_bytes(32),
            "data": b"x",
        },
        "command_outputs": {
            "thread_id": home.thread.id,
            "house_id": house_id,
            "ref": ids.uuid7(),
            "part": 0,
            "data": b"x",
        },
        "arc_tasks": {
            "id": home.thread.id,
            "house_id": house_id,
            "member_id": home.owner.id,
            "agent_id": home.agent.id,
            "handle": "n",
            "priority": "LOW",
            "metadata": {},
        },
        "arc_subscriptions": {
            "house_id": house_id,
            "member_id": home.owner.id,
            "task_id": home.house.primary_thread_id,
            "callback_url": "https://example.com",
            "events": ["NEW_MESSAGE"],
            "secret": "n",
        },
        "arc_chats": {
            "chat_id": f"{home.member.id}/{ids.uuid7()}",
            "status": "ACTIVE",
            "target_agent": "n",
            "metadata": {},
        },
    }
    keyed = {"thread_agents", "deletions", "idempotency", "command_outputs", "arc_chats"}
    has_id = table not in keyed
    return {**({"id": ids.uuid7()} if has_id else {}), **values[table]}


def change(table: str, actor: str) -> dict[str, Any]:
    if (table, actor) == ("threads", "worker"):
        return {"status": "running"}
    return {FREE[table][0]: FREE[table][1]}


async def attempt(
    conn: AsyncConnection, verb: str, table: str, row: dict[str, Any], home: Home, actor: str
) -> int:
    """Do it in plain SQL, past all our functions; return how many rows it reached."""
    it = metadata.tables[table]
    where = [it.c[column] == value for column, value in row.items()]
    match verb:
        case "select":
            first = next(iter(row))
            return len((await conn.execute(sa.select(it.c[first]).where(*where))).all())
        case "insert":
            return (await conn.execute(sa.insert(it).values(fresh(table, home)))).rowcount
        case "update":
            statement = sa.update(it).where(*where).values(change(table, actor))
            return (await conn.execute(statement)).rowcount
        case _:
            return (await conn.execute(sa.delete(it).where(*where))).rowcount


async def test_a_worker_does_not_read_outputs(home: Home, worker: AsyncEngine) -> None:
    await target("command_outputs", home, worker)
    with pytest.raises(Forbidden):
        async with engine.as_worker(worker) as conn:
            await conn.execute(sa.select(metadata.tables["command_outputs"].c.data))


def test_every_table_has_its_row_in_the_matrix() -> None:
    assert set(MATRIX) == set(metadata.tables)


@pytest.mark.parametrize(("table", "verb", "actor"), CASES)
async def test_the_matrix_holds(
    table: str,
    verb: str,
    actor: str,
    home: Home,
    worker: AsyncEngine,
    door: Callable[[str], AbstractAsyncContextManager[AsyncConnection]],
) -> None:
    row = await target(table, home, worker)
    try:
        async with door(actor) as conn:
            reached = await attempt(conn, verb, table, row, home, actor)
            await conn.rollback()
    except Forbidden:
        reached = 0
    assert bool(reached) == (actor in MATRIX[table][verb])


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("threads", "status", "running"),
        ("threads", "usage", {}),
        ("threads", "stream_id", "000000000000001_0000000001"),
        ("threads", "house_id", "elsewhere"),
        ("threads", "parent_thread_id", None),
        ("agents", "house_id", "elsewhere"),
        ("environments", "house_id", "elsewhere"),
        ("members", "house_id", "elsewhere"),
        ("houses", "primary_thread_id", None),
        ("deletions", "done_at", None),
        ("cancellations", "done_at", None),
    ],
)
async def test_the_api_cannot_write_what_is_not_its_own(
    home: Home, elsewhere: Home, table: str, column: str, value: object
) -> None:
    value = elsewhere.house.id if value == "elsewhere" else value
    with pytest.raises(Forbidden):
        async with home.as_owner() as conn:
            await conn.execute(sa.update(metadata.tables[table]).values({column: value}))


@pytest.mark.parametrize(
    "column", ["name", "tags", "house_id", "parent_thread_id", "key", "when_busy"]
)
async def test_a_worker_writes_projections_and_nothing_else(
    worker: AsyncEngine, column: str
) -> None:
    with pytest.raises(Forbidden):
        async with engine.as_worker(worker) as conn:
            await conn.execute(sa.update(metadata.tables["threads"]).values({column: None}))


@pytest.mark.parametrize("table", ["deletions", "cancellations"])
async def test_a_worker_forgets_what_is_owed_only_when_it_is_done(
    home: Home, worker: AsyncEngine, table: str
) -> None:
    row = await target(table, home)
    async with engine.as_worker(worker) as conn:
        assert await attempt(conn, "delete", table, row, home, "worker") == 0
        await attempt(conn, "update", table, row, home, "worker")
        assert await attempt(conn, "delete", table, row, home, "worker") == 1


def task(home: Home, **changes: Any) -> NewTask:
    new = NewTask(
        house_id=home.house.id,
        parent_thread_id=home.thread.id,
        parent_dispatch_id=DispatchId("000000000000001_0000000001.0"),
        parent_call_id="call",
        name="task",
    )
    return msgspec.structs.replace(new, **changes)


async def test_a_worker_makes_threads_for_calls_and_no_others(
    home: Home, elsewhere: Home, worker: AsyncEngine
) -> None:
    async with engine.as_worker(worker) as conn:
        made = await delegations.insert(conn, new=task(home))
        again = await delegations.insert(conn, new=task(home, name="other"))
    assert (made.status, made.name, again) == ("idle", "task", made)
    with pytest.raises(NotFound):
        async with engine.as_worker(worker) as conn:
            await delegations.insert(
                conn, new=task(home, house_id=elsewhere.house.id, parent_call_id="x")
            )
    it = metadata.tables["threads"]
    row = {"id": ids.uuid7(), "house_id": home.house.id, "tags": [], "config": {}}
    below = {"parent_thread_id": home.thread.id, "parent_dispatch_id": made.parent_dispatch_id}
    for refused in (
        {"status": "open"},
        {"status": "idle", **below},
        {"status": "running", "parent_call_id": "other", **below},
        {"status": "idle", "parent_call_id": "other", "key": "k", **below},
    ):
        with pytest.raises(Forbidden):
            async with engine.as_worker(worker) as conn:
                await conn.execute(sa.insert(it).values({**row, **refused}))


async def test_a_member_makes_no_thread_that_looks_like_a_task(home: Home) -> None:
    with pytest.raises(Forbidden):
        async with home.as_owner() as conn:
            await delegations.insert(conn, new=task(home))


async def test_a_worker_cancels_whole_threads_only_if_they_are_tasks(
    home: Home, worker: AsyncEngine
) -> None:
    async with engine.as_worker(worker) as conn:
        made = await delegations.insert(conn, new=task(home))
        asked = models.cancellation(made.id, home.house.id, before_ms=1)
        for _ in range(2):
            await delegations.cancel(conn, asked=[asked])
        assert (await cancellations.get(conn, cancellation_id=asked.id)).thread_id == made.id
    other = models.cancellation(home.thread.id, home.house.id, before_ms=1)
    with pytest.raises(Forbidden):
        async with engine.as_worker(worker) as conn:
            await delegations.cancel(conn, asked=[other])


async def test_a_member_cancels_a_thread_in_its_own_name_only(home: Home) -> None:
    async with home.as_member() as conn:
        new = asking(home, home.member, thread_id=home.thread.id)
        await cancellations.insert(conn, new=new, hold_seconds=0)
    for denied in (
        asking(home, home.owner, thread_id=home.thread.id),
        asking(home, home.member),
        asking(home, home.member, tag="all"),
    ):
        with pytest.raises(Forbidden):
            async with home.as_member() as conn:
                await cancellations.insert(conn, new=denied, hold_seconds=0)


async def test_a_worker_cancels_only_what_works_for_a_dispatch(
    home: Home, worker: AsyncEngine
) -> None:
    dispatch_id = DispatchId("000000000000001_0000000000.0")
    for_dispatch = asking(home, home.owner, thread_id=home.thread.id, dispatch_id=dispatch_id)
    async with engine.as_worker(worker) as conn:
        await cancellations.insert(conn, new=for_dispatch, hold_seconds=0)
    new = asking(home, home.owner, thread_id=home.thread.id)
    with pytest.raises(Forbidden):
        async with engine.as_worker(worker) as conn:
            await cancellations.insert(conn, new=new, hold_seconds=0)


async def test_a_thread_is_not_born_running(home: Home) -> None:
    row = {**fresh("threads", home), "status": "running"}
    with pytest.raises(Forbidden):
        async with home.as_owner() as conn:
            await conn.execute(sa.insert(metadata.tables["threads"]).values(row))


@pytest.mark.parametrize("column", ["request_digest", "reserved_id", "status", "answer"])
async def test_a_worker_forgets_keys_without_seeing_what_they_were(
    worker: AsyncEngine, column: str
) -> None:
    with pytest.raises(Forbidden):
        async with engine.as_worker(worker) as conn:
            await conn.execute(sa.select(metadata.tables["idempotency"].c[column]))


@pytest.mark.parametrize("who", ["as_owner", "as_member"])
async def test_nobody_reads_a_digest(home: Home, who: str) -> None:
    with pytest.raises(Forbidden):
        async with getattr(home, who)() as conn:
            await conn.execute(sa.select(metadata.tables["tokens"].c.digest))


async def test_a_removed_member_sees_nothing_from_the_next_statement_on(home: Home) -> None:
    count = sa.select(sa.func.count()).select_from(metadata.tables["threads"])
    async with home.as_member() as conn:
        assert await conn.scalar(count) == 2
        async with home.as_owner() as other:
            members = metadata.tables["members"]
            await other.execute(sa.delete(members).where(members.c.id == home.member.id))
        assert await conn.scalar(count) == 0


LINT = {
    "tables without forced row level security": """
        select relname from pg_class where relnamespace = 'public'::regnamespace
        and relkind in ('r', 'p') and relname <> 'alembic_version'
        and not (relrowsecurity and relforcerowsecurity)""",
    "tables without a policy": """
        select relname from pg_class c where relnamespace = 'public'::regnamespace
        and relkind in ('r', 'p') and relname <> 'alembic_version'
        and not exists (select from pg_policy where polrelid = c.oid)""",
    "views, which run as their owner, and materialized ones": """
        select relname from pg_class where relnamespace = 'public'::regnamespace
        and relkind in ('v', 'm')""",
    "policies for everybody": """
        select polname from pg_policy where 0 = any(polroles)""",
    "roles that are too strong": """
        select rolname from pg_roles where rolname like 'arbe\\_%' and (rolsuper or rolbypassrls
        or rolcanlogin or rolcreaterole or rolcreatedb or rolreplication)""",
    "roles of ours that are members of another": """
        select member::regrole::text from pg_auth_members
        where member::regrole::text like 'arbe\\_%'""",
    "tables, schemas or databases our roles own": """
        select relname::text from pg_class where relowner::regrole::text like 'arbe\\_%'
        union all select nspname from pg_namespace where nspowner::regrole::text like 'arbe\\_%'
        union all select datname from pg_database
        where datdba::regrole::text like 'arbe\\_%'""",
    "schemas our roles may create in": """
        select nspname || ' ' || rolname from pg_namespace, pg_roles
        where rolname like 'arbe\\_%' and nspname !~ '^pg_'
        and has_schema_privilege(rolname, nspname, 'create')""",
    "rights that no policy filters": """
        select table_name || ' ' || grantee from information_schema.role_table_grants
        where privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER')
        and grantee like 'arbe\\_%'""",
    "tables granted to everybody": """
        select table_name from information_schema.role_table_grants
        where grantee = 'PUBLIC' and table_schema = 'public'""",
    "functions that everybody may call": """
        select p.oid::regprocedure::text from pg_proc p
        where pronamespace = 'public'::regnamespace and (proacl is null or exists (
            select from aclexplode(proacl) where grantee = 0))""",
    "functions with a free search_path": """
        select p.oid::regprocedure::text from pg_proc p
        where pronamespace = 'public'::regnamespace
        and not coalesce(proconfig @> array['search_path=""'], false)""",
    "functions that claim to leak nothing": """
        select p.oid::regprocedure::text from pg_proc p
        where pronamespace = 'public'::regnamespace and proleakproof""",
    "definer functions that are not listed, or not the definer's": """
        select proname from pg_proc where pronamespace = 'public'::regnamespace and prosecdef
        and not (proowner = 'arbe_definer'::regrole and proname in ('arbe_current_house',
        'arbe_is_owner', 'arbe_find_caller', 'arbe_create_house', 'arbe_refound_house',
        'arbe_note_deletion', 'arbe_release_sandbox',
        'arbe_roll_over'))""",
    "foreign keys without an index to follow them back": """
        select conname from pg_constraint c where contype = 'f'
        and connamespace = 'public'::regnamespace and not exists (
            select from pg_index i where i.indrelid = c.conrelid
            and (i.indkey::int2[])[0] = any(c.conkey))""",
}


@pytest.mark.parametrize("finding", LINT)
async def test_the_catalog_has_no(admin: psycopg.AsyncConnection, finding: str) -> None:
    found = await (await admin.execute(LINT[finding])).fetchall()
    assert found == []
