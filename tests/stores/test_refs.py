"""What a person typed, found."""

import uuid

import psycopg
import pytest

from dispatch import ids
from dispatch.errors import AmbiguousRef, Gone, Invalid, NotFound
from dispatch.models import refs as forms
from dispatch.models.refs import Ref, RefKind
from dispatch.stores.postgres import refs, threads
from tests.stores.factories import Home


async def resolve(home: Home, text: str, *kinds: RefKind) -> Ref:
    async with home.as_member() as conn:
        return await refs.resolve(
            conn, house_id=home.house.id, text=text, kinds=kinds or forms.ALL_KINDS
        )


async def test_a_whole_id_names_a_thing_of_any_kind(home: Home) -> None:
    for kind, thing in {
        "thread": home.thread,
        "agent": home.agent,
        "house": home.house,
        "environment": home.environment,
    }.items():
        for text in (str(thing.id), thing.id.hex.upper(), f" {thing.id} "):
            assert await resolve(home, text) == Ref(kind=kind, id=thing.id)
            assert await resolve(home, text, kind) == Ref(kind=kind, id=thing.id)


async def test_a_handle_names_an_agent(home: Home) -> None:
    assert await resolve(home, "@demo") == Ref(kind="agent", id=home.agent.id)
    for text, kinds in (("@nobody", ()), ("@demo", ("thread",)), ("@", ())):
        with pytest.raises(NotFound):
            await resolve(home, text, *kinds)


async def test_a_beginning_names_what_it_fits_alone(
    home: Home, admin: psycopg.AsyncConnection
) -> None:
    first, second = uuid.UUID("ab" * 16), uuid.UUID("ab" * 15 + "ac")
    for thread_id in (first, second):
        await admin.execute(
            "insert into threads (id, house_id, status) values (%s, %s, 'open')",
            [thread_id, home.house.id],
        )
    assert (await resolve(home, str(first)[:-1] + "b")).id == first
    assert (await resolve(home, "ab" * 15 + "ac")).id == second
    for text in ("abab", "abababab-ab", "ab" * 15):
        with pytest.raises(AmbiguousRef) as refused:
            await resolve(home, text)
        assert str(first) in str(refused.value)
    with pytest.raises(NotFound):
        await resolve(home, "abab", "agent")
    async with home.as_member() as conn:
        await threads.delete_tree(conn, thread_id=first)
    assert (await resolve(home, "abab")).id == second
    async with home.as_member() as conn:
        await threads.delete_tree(conn, thread_id=second)


async def test_another_houses_things_have_no_name_here(home: Home, elsewhere: Home) -> None:
    for thing in (elsewhere.thread, elsewhere.agent, elsewhere.house, elsewhere.environment):
        with pytest.raises(NotFound):
            await resolve(home, str(thing.id))


async def test_a_deleted_threads_id_is_gone_rather_than_unknown(home: Home) -> None:
    async with home.as_member() as conn:
        await threads.delete_tree(conn, thread_id=home.thread.id)
    with pytest.raises(Gone):
        await resolve(home, str(home.thread.id))
    with pytest.raises(NotFound):
        await resolve(home, str(home.thread.id), "agent")
    with pytest.raises(NotFound):
        await resolve(home, str(ids.uuid7()))


@pytest.mark.parametrize(
    "text", ["", "abc", "xyz", "a" * 33, "--", "abcg", "ab\x00cd", "é" * 5]
)
async def test_a_text_that_can_be_no_reference_is_invalid(home: Home, text: str) -> None:
    with pytest.raises(Invalid):
        await resolve(home, text)


async def test_a_beginning_is_found_by_walking_the_index(
    home: Home, admin: psycopg.AsyncConnection
) -> None:
    low, high = forms.id_range("0199").low, forms.id_range("0199").high
    await admin.execute("set enable_seqscan = off")
    plan = await (
        await admin.execute(
            "explain select id from threads where house_id = %s and id between %s and %s"
            " order by id limit 6",
            [home.house.id, low, high],
        )
    ).fetchall()
    assert any("Index" in line and "threads" in line for (line,) in plan)
