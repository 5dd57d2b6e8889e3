"""Threads with a long past: whole turns with everything in them, written in a moment."""

from dispatch import ids, payloads
from dispatch.ids import EntryId, ThreadId, WorkerId
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Assistant, Chunk
from dispatch.payloads.signals import Completed
from dispatch.streams import entries, runs, threads
from dispatch.streams.entries import Entry
from dispatch.streams.runs import Claimed
from dispatch.streams.threads import Lane

WORKER = WorkerId("test.1.a")
ANN = Author("member", "ann")


async def post(record: Record, thread_id: ThreadId, text: str, *lanes: Lane) -> EntryId:
    """Post past Postgres, which need not know of a long past."""
    accepted = await threads.accept(
        record.scripts,
        thread_id,
        Chat(by=ANN, text=text),
        key=str(ids.uuid7()),
        body=text.encode(),
        lanes=lanes,
        settings=record.settings,
    )
    return accepted.entry_id


async def begin(record: Record, thread_id: ThreadId, lane: Lane) -> runs.Fence:
    """Post something and let a worker take it."""
    await post(record, thread_id, "say", lane)
    claimed = await runs.claim(
        record.scripts,
        thread_id,
        lane.agent_id,
        run_id=ids.new_run_id(),
        worker_id=WORKER,
        lease_seconds=record.settings.lease_seconds,
    )
    assert isinstance(claimed, Claimed)
    return claimed.fence


async def say(record: Record, fence: runs.Fence, n: int, count: int) -> int:
    """Write that many events, every third a chunk; return the next number."""
    events: list[payloads.KnownPayload] = [_event(n + index) for index in range(count)]
    await runs.append(
        record.scripts,
        fence,
        [(each, payloads.encode(each)) for each in events],
        n=n,
        max_stream_entries=10**6,
    )
    return n + count


def _event(n: int) -> payloads.KnownPayload:
    if n % 3 == 0:
        return Chunk(kind="text", message_id=f"m{n}", delta=f'«{n}» \\ " \x7f \u2028')
    number = {"text": f"{n}", "big": 12345678901234567890, "é": [None, 1.50, "\ud7ff"]}
    return Assistant(message_id=f"m{n}", turn_index=n, message=number)


async def end(record: Record, fence: runs.Fence, n: int) -> None:
    """End the turn well."""
    await runs.finish(
        record.scripts,
        fence,
        Completed(dispatch_id=fence.dispatch_id, run_id=fence.run_id),
        [],
        n=n,
        worker_id=WORKER,
        redeliver_after_seconds=60,
    )


async def turn(record: Record, thread_id: ThreadId, lane: Lane, count: int) -> None:
    """One whole turn with that many events, a heartbeat among them."""
    fence = await begin(record, thread_id, lane)
    n, left = 1, count
    while left:
        some = min(left, 100)
        n, left = await say(record, fence, n, some), left - some
    await runs.renew(record.scripts, fence)
    await end(record, fence, n)


async def live(record: Record, thread_id: ThreadId) -> list[Entry]:
    """Return what is on the stream itself."""
    return await entries.page(record.connection, thread_id, limit=100_000)


async def whole(record: Record, thread_id: ThreadId, size: int = 100) -> list[Entry]:
    """Return what a reader gets, page by page."""
    return [each async for some in record.entries.pages(thread_id, size=size) for each in some]
