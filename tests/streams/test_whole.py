"""A reader that meets an archive or a restore in the middle of a page sees each entry once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dispatch.ids import BEGINNING, ThreadId
from dispatch.streams import archives, entries, keys
from dispatch.streams.connection import Argument, Connection
from dispatch.streams.entries import Entry
from dispatch.streams.whole import Entries
from tests.streams.scene import Scene

Act = Callable[[], Awaitable[object]]


class Interrupted(Connection):
    """Sends one call at a time, in order; before the n-th something else happens in Redis."""

    def __init__(self, wire: Connection, before: dict[int, Act]) -> None:
        self._wire = wire
        self._before = before
        self._turn = asyncio.Lock()
        self._sent = 0

    async def call(self, *arguments: Argument, boot: str | None = None) -> Any:
        async with self._turn:
            act = self._before.pop(self._sent, None)
            self._sent += 1
            if act is not None:
                await act()
            return await self._wire.call(*arguments, boot=boot)


async def thread_of(scene: Scene, count: int) -> ThreadId:
    thread_id = await scene.create()
    for number in range(count - 1):
        await scene.accept(thread_id, key=str(number), text=str(number))
    return thread_id


async def archive(scene: Scene, thread_id: ThreadId, count: int) -> None:
    wire = scene.connection
    seen = await archives.pointer(wire, thread_id)
    some = await entries.page(wire, thread_id, after=seen.last_id, limit=count)
    scene.shelf.put(thread_id, seen.text, seen.last_id, some)
    assert await archives.trim(scene.scripts, thread_id, seen, some) == "ok"


async def restore(scene: Scene, thread_id: ThreadId) -> None:
    seen = await archives.pointer(scene.connection, thread_id)
    past = scene.shelf.everything(thread_id, seen.last_id)
    last = await archives.refill(scene.scripts, thread_id, seen, after=BEGINNING, entries=past)
    await archives.refill(scene.scripts, thread_id, seen, after=last)
    done = await archives.swap_in(scene.scripts, thread_id, seen, archived_count=len(past))
    assert done == "ok"
    scene.shelf.drop(thread_id)
    scene.shelf.sweep(thread_id, BEGINNING)


async def reads(
    scene: Scene, thread_id: ThreadId, before: dict[int, Act], *, backwards: bool
) -> list[Entry]:
    whole = Entries(Interrupted(scene.connection, before), scene.shelf)
    if backwards:
        return (await whole.latest(thread_id, limit=100))[::-1]
    return await whole.page(thread_id, limit=100)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("step", range(8))
async def test_an_archive_at_any_step_of_a_page_changes_nothing(
    scene: Scene, step: int, backwards: bool
) -> None:
    thread_id = await thread_of(scene, 12)
    expected = await scene.stream(thread_id)
    await archive(scene, thread_id, 3)
    before: dict[int, Act] = {step: lambda: archive(scene, thread_id, 4)}
    assert await reads(scene, thread_id, before, backwards=backwards) == expected


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("step", range(3))
async def test_a_restore_at_any_step_of_a_page_changes_nothing(
    scene: Scene, step: int, backwards: bool
) -> None:
    thread_id = await thread_of(scene, 12)
    expected = await scene.stream(thread_id)
    await archive(scene, thread_id, 3)
    await archive(scene, thread_id, 4)
    before: dict[int, Act] = {step: lambda: restore(scene, thread_id)}
    assert await reads(scene, thread_id, before, backwards=backwards) == expected


@pytest.mark.parametrize(("step", "act"), [(1, archive), (2, restore)])
async def test_a_reader_that_looks_at_the_pointer_once_has_a_hole(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, step: int, act: Any
) -> None:
    """The mutant: it believes what it saw before its page (or after)."""

    async def once(self: Entries, thread_id: ThreadId, read: Any) -> Any:
        if act is archive:
            pointer = await archives.pointer(self.connection, thread_id)
            return pointer.last_id, await read(self.connection)
        await archives.pointer(self.connection, thread_id)
        found = await read(self.connection)
        return (await archives.pointer(self.connection, thread_id)).last_id, found

    monkeypatch.setattr(Entries, "_live", once)
    thread_id = await thread_of(scene, 12)
    expected = await scene.stream(thread_id)
    if act is restore:
        await archive(scene, thread_id, 3)
    doing = (lambda: archive(scene, thread_id, 4)) if act is archive else None
    before: dict[int, Act] = {step: doing or (lambda: restore(scene, thread_id))}
    assert await reads(scene, thread_id, before, backwards=False) != expected


async def test_ids_go_on_after_a_restore_though_the_newest_entry_is_gone(scene: Scene) -> None:
    thread_id = await thread_of(scene, 6)
    await archive(scene, thread_id, 3)
    newest = await scene.accept(thread_id, key="last")
    await scene.accept(thread_id, key="very last")
    stream = keys.stream(thread_id)
    gone = scene.newest(thread_id)
    ms, number = gone.split("_")
    await scene.connection.call("XDEL", stream, f"{int(ms)}-{int(number)}")
    await restore(scene, thread_id)
    assert scene.newest(thread_id) == gone
    later = await scene.accept(thread_id, key="later")
    assert later.entry_id > gone > newest.entry_id


async def test_what_nobody_may_archive_stays(scene: Scene) -> None:
    thread_id = await thread_of(scene, 5)
    wire = scene.connection
    seen = await archives.pointer(wire, thread_id)
    some = await entries.page(wire, thread_id, limit=5)
    assert await archives.trim(scene.scripts, thread_id, seen, some) == "last"
    assert await archives.trim(scene.scripts, thread_id, seen, some[1:3]) == "changed"
    await archive(scene, thread_id, 2)
    assert await archives.trim(scene.scripts, thread_id, seen, some[:2]) == "moved"
    assert await archives.count_live(wire, thread_id) == 3
