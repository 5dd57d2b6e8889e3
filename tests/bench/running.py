"""A dispatch that a worker of ours holds: made by the scripts, without a worker process."""

from dispatch import ids, payloads
from dispatch.config import Settings
from dispatch.ids import AgentId, ThreadId, WorkerId
from dispatch.models import policies
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Chunk
from dispatch.payloads.signals import ThreadCreated
from dispatch.streams import runs, threads
from dispatch.streams.runs import Claimed, Fence
from dispatch.streams.scripts import Scripts
from dispatch.streams.threads import Lane

WORKER = WorkerId("bench.1.aa")
EVENT_BYTES = 200
Event = tuple[payloads.KnownPayload, bytes]


async def open_run(
    scripts: Scripts,
    settings: Settings,
    *,
    thread_id: ThreadId | None = None,
    lease_seconds: float = 3600.0,
) -> Fence:
    """Create a thread's stream if there is none, accept an entry and claim its dispatch."""
    thread_id = thread_id or ThreadId(ids.uuid7())
    lane = AgentId(ids.uuid7())
    await threads.create(scripts, thread_id, ThreadCreated())
    await threads.accept(
        scripts,
        thread_id,
        Chat(by=Author("member", "bench"), text="hello"),
        key=ids.uuid7().hex,
        body=b"hello",
        lanes=(Lane(lane, policies.of({}, settings)),),
        settings=settings,
    )
    claimed = await runs.claim(
        scripts,
        thread_id,
        lane,
        run_id=ids.new_run_id(),
        worker_id=WORKER,
        lease_seconds=lease_seconds,
    )
    assert isinstance(claimed, Claimed), claimed
    return claimed.fence


def chunk(mark: str = "") -> Event:
    """Make a chunk whose JSON has about 200 bytes."""
    payload = Chunk(kind="text", message_id="0123456789ab-1", content_index=0, delta=mark)
    room = EVENT_BYTES - len(payloads.encode(payload))
    payload = Chunk(
        kind="text", message_id="0123456789ab-1", content_index=0, delta=mark + "w" * room
    )
    return payload, payloads.encode(payload)
