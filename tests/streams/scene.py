"""A stage for the scripts: made-up threads in simulated time, and what the scripts answered."""

import contextlib
from collections.abc import Awaitable, Sequence
from typing import Any, Final

import msgspec
from redis import Redis

from dispatch import ids, payloads
from dispatch.config import Settings
from dispatch.errors import ArbeError
from dispatch.ids import AgentId, DispatchId, EntryId, RunId, ThreadId, WorkerId
from dispatch.models import policies
from dispatch.models.archives import Pointer
from dispatch.models.state import ThreadState, from_fields
from dispatch.payloads.chat import Author, Chat
from dispatch.payloads.llm import Assistant, Chunk, ToolResult
from dispatch.payloads.policy import DispatchPolicy
from dispatch.payloads.signals import Cancelled as CancelledPayload
from dispatch.payloads.signals import (
    Completed,
    Delegated,
    Failed,
    PermissionRequested,
    ThreadCreated,
)
from dispatch.payloads.usage import Cost, TokenUsage
from dispatch.streams import entries, keys, lanes, runs, threads
from dispatch.streams.connection import Connection
from dispatch.streams.entries import Entry
from dispatch.streams.lanes import LaneRef
from dispatch.streams.runs import Claimed, Fence, NotClaimed
from dispatch.streams.threads import Accepted, Lane, Terms
from dispatch.streams.whole import Entries
from tests.streams.shelf import Shelf
from tests.streams.simulated import Clock, Heard

BESIDE_THE_FOLD: Final = ("boot", "archived")
WORKER: Final = WorkerId("host.1.aa")
USAGE: Final = TokenUsage(input=3, output=5, total_tokens=8, cost=Cost(total=0.25))
CHUNK: Final = Chunk(kind="text", message_id="m", delta="word ")
ASSISTANT: Final = Assistant(message_id="m", turn_index=0, message={"text": "word"})
CALLS: Final = Assistant(
    message_id="m",
    turn_index=0,
    message={
        "content": [
            {"type": "toolCall", "id": call_id, "name": "a/b, c", "arguments": {}}
            for call_id in ("1", 'ä "2" %,')
        ]
    },
)
ANSWER: Final = ToolResult(
    tool_call_id="1", tool_name="a/b, c", is_error=False, turn_index=0, message={}
)
RETRYING: Final = payloads.Retrying(attempt=1, max_attempts=2, delay_ms=10)


class Read(msgspec.Struct, frozen=True):
    """An entry whose payload is decoded once."""

    id: EntryId
    seq: int | None
    writer: str | None
    payload: payloads.Payload

    @classmethod
    def of(cls, entry: Entry) -> "Read":
        return cls(entry.id, entry.seq, entry.writer, entry.payload)


class Scene:
    """Every transition by one short name, and the record as it stands."""

    def __init__(
        self, connection: Connection, scripts: Heard, redis: "Redis", settings: Settings
    ) -> None:
        self.connection = connection
        self.scripts = scripts
        self.shelf = Shelf()
        self.entries = Entries(connection, self.shelf)
        self.redis = redis
        self.clock = Clock(redis)
        self.settings = settings
        self.threads: list[ThreadId] = []

    async def hear(self, call: Awaitable[object]) -> str:
        """Return the word a transition was answered with, also where the call raises."""
        self.scripts.word = ""
        with contextlib.suppress(ArbeError):
            await call
        return self.scripts.word

    # --- transitions ---------------------------------------------------------------------

    async def create(self, thread_id: ThreadId | None = None) -> ThreadId:
        thread_id = thread_id or ThreadId(ids.uuid7())
        self.threads.append(thread_id)
        await threads.create(self.scripts, thread_id, ThreadCreated(name="t"))
        return thread_id

    async def accept(
        self,
        thread_id: ThreadId,
        *agents: AgentId,
        key: str = "key",
        text: str = "hello",
        settings: Settings | None = None,
        policy: DispatchPolicy | None = None,
        **choices: Any,
    ) -> Accepted:
        """Args: choices: when_busy, if_status, is_sub_job."""
        return await threads.accept(
            self.scripts,
            thread_id,
            Chat(by=Author("member", "m1"), text=text),
            key=key,
            body=text.encode(),
            lanes=tuple(
                Lane(agent, policy or policies.of({}, self.settings)) for agent in agents
            ),
            settings=settings or self.settings,
            terms=Terms(**choices),
        )

    async def claim(
        self,
        thread_id: ThreadId,
        lane: AgentId,
        run_id: RunId | None = None,
        worker_id: WorkerId = WORKER,
    ) -> Claimed | NotClaimed:
        return await runs.claim(
            self.scripts,
            thread_id,
            lane,
            run_id=run_id or ids.new_run_id(),
            worker_id=worker_id,
            lease_seconds=self.settings.lease_seconds,
        )

    async def hold(self, thread_id: ThreadId, lane: AgentId) -> Fence:
        """Claim what must be claimable."""
        claimed = await self.claim(thread_id, lane)
        assert isinstance(claimed, Claimed), claimed
        return claimed.fence

    async def append(
        self,
        fence: Fence,
        n: int,
        *events: payloads.KnownPayload,
        max_stream_entries: int | None = None,
    ) -> runs.Written:
        return await runs.append(
            self.scripts,
            fence,
            encoded(events),
            n=n,
            max_stream_entries=max_stream_entries or self.settings.max_stream_entries,
        )

    async def renew(self, fence: Fence) -> runs.Written:
        return await runs.renew(self.scripts, fence)

    async def finish(
        self,
        fence: Fence,
        n: int,
        *events: payloads.KnownPayload,
        outcome: str = "completed",
        usage: TokenUsage | None = USAGE,
    ) -> ids.EntryId:
        return await runs.finish(
            self.scripts,
            fence,
            terminal(fence, outcome, usage),
            encoded(events),
            n=n,
            worker_id=WORKER,
            redeliver_after_seconds=self.settings.redeliver_after_seconds,
        )

    async def release(self, fence: Fence) -> str:
        return await runs.release(self.scripts, fence, worker_id=WORKER)

    async def retry(self, fence: Fence, message: str = "broke") -> str:
        return await runs.retry(self.scripts, fence, message=message, worker_id=WORKER)

    async def ask(self, fence: Fence, n: int, call_id: str = "1", **how: Any) -> str:
        """Args: how: seconds, default, kind. Returns: the question's id."""
        ask_id = f"{fence.dispatch_id}.{fence.run_id}.{n}"
        question: PermissionRequested | Delegated = PermissionRequested(
            permission_id=ask_id,
            dispatch_id=fence.dispatch_id,
            agent_id=str(fence.lane),
            kind=how.get("kind", "permission"),
            tool_call_id=call_id,
            tool_name="a/b, c",
            arguments={"x": 'y "z"'},
            deadline=0,
            default=how.get("default", "deny"),
        )
        if how.get("kind") == "delegation":
            question = Delegated(
                delegation_id=ask_id,
                dispatch_id=fence.dispatch_id,
                agent_id=str(fence.lane),
                tool_call_id=call_id,
                thread_id="below",
                deadline=0,
            )
        await runs.ask(
            self.scripts, fence, question, n=n, wait_seconds=how.get("seconds", 3600)
        )
        return ask_id

    async def wait(self, fence: Fence) -> str:
        return await runs.wait(
            self.scripts,
            fence,
            worker_id=WORKER,
            redeliver_after_seconds=self.settings.redeliver_after_seconds,
        )

    async def answer(self, thread_id: ThreadId, told: threads.Answer) -> str:
        return await threads.answer(
            self.scripts,
            thread_id,
            told,
            redeliver_after_seconds=self.settings.redeliver_after_seconds,
        )

    async def take(self, fence: Fence, n: int, step: int = 1) -> runs.Taken:
        return await runs.take(self.scripts, fence, n=n, step=step)

    async def expire(
        self, thread_id: ThreadId, lane: AgentId, dead_run: RunId | None = None
    ) -> lanes.Verdict:
        return await lanes.expire(
            self.scripts, LaneRef(thread_id, lane), settings=self.settings, dead_run=dead_run
        )

    async def cancel(self, thread_id: ThreadId, dispatch_id: DispatchId, **how: Any) -> str:
        """Args: how: reason, only_queued."""
        return await threads.cancel(
            self.scripts,
            thread_id,
            dispatch_id,
            by=Author("member", "m1"),
            message='not "this"',
            grace_seconds=self.settings.cancel_grace_seconds,
            **how,
        )

    async def revalidate(
        self, thread_id: ThreadId, witness: EntryId, *, was_running: bool = True
    ) -> bool:
        return await threads.revalidate(
            self.scripts, thread_id, witness=witness, was_running=was_running
        )

    def restart_redis(self) -> None:
        """Let the scripts believe that the server has started anew."""
        self.redis.set("arbe:test:boot", ids.new_run_id())

    async def delete(self, thread_id: ThreadId) -> None:
        await threads.delete(
            self.scripts, thread_id, tombstone_seconds=self.settings.tombstone_seconds
        )

    # --- the record ----------------------------------------------------------------------

    async def stream(self, thread_id: ThreadId) -> list[Entry]:
        return await self.entries.page(thread_id, limit=100_000)

    async def said(self, thread_id: ThreadId) -> list[payloads.Payload]:
        return [entry.payload for entry in await self.stream(thread_id)]

    async def types(self, thread_id: ThreadId) -> list[str]:
        """Return the stream as short words, e.g. `queued`."""
        said = await self.said(thread_id)
        return [payloads.type_of(payload).rpartition(".")[2] for payload in said]

    async def fields(self, thread_id: ThreadId) -> dict[str, str]:
        """Return the state hash, without what is not the fold's."""
        fields = await entries.state_fields(self.connection, thread_id)
        return {name: text for name, text in fields.items() if name not in BESIDE_THE_FOLD}

    async def state(self, thread_id: ThreadId) -> ThreadState:
        return from_fields(await self.fields(thread_id))

    def snapshot(
        self, thread_ids: Sequence[ThreadId]
    ) -> list[tuple[dict[str, str], list[Read]]]:
        """Return some threads' state hashes and streams, read at one go."""
        pipeline = self.redis.pipeline()
        for thread_id in thread_ids:
            pipeline.hgetall(keys.state(thread_id))
            pipeline.xrange(keys.stream(thread_id))
        found = pipeline.execute()
        return [
            self._whole(thread_id, fields, [entries._entry(row) for row in rows])
            for thread_id, fields, rows in zip(thread_ids, found[::2], found[1::2], strict=True)
        ]

    def _whole(
        self, thread_id: ThreadId, raw: dict[bytes, bytes], live: list[Entry]
    ) -> tuple[dict[str, str], list[Read]]:
        fields = {name.decode(): text.decode() for name, text in raw.items()}
        until = Pointer.of(fields.get("archived")).last_id
        past = self.shelf.everything(thread_id, until)
        return (
            {name: text for name, text in fields.items() if name not in BESIDE_THE_FOLD},
            [Read.of(entry) for entry in (*past, *live)],
        )

    def newest(self, thread_id: ThreadId) -> EntryId:
        """Return the last id that the stream ever gave."""
        info = self.redis.xinfo_stream(keys.stream(thread_id))
        return ids.entry_id_of(info["last-generated-id"].decode())

    def due(self) -> dict[str, int]:
        """Return the due index of this scene's threads: member → seconds from now."""
        mine = {str(thread_id) for thread_id in self.threads}
        found = self.redis.zrange(keys.DUE, 0, -1, withscores=True)
        return {
            member.decode(): int(score) - self.clock.now_ms
            for member, score in found
            if member.decode().partition("|")[0] in mine
        }

    def keys_of(self, thread_id: ThreadId) -> list[str]:
        return sorted(key.decode() for key in self.redis.keys(f"*{thread_id}*"))

    async def close(self) -> None:
        for thread_id in self.threads:
            await self.delete(thread_id)
            self.redis.delete(keys.state(thread_id))
        self.redis.delete(keys.runs(WORKER), "arbe:test:clock", "arbe:test:boot")
        await self.connection.close()


def encoded(
    events: Sequence[payloads.KnownPayload],
) -> list[tuple[payloads.KnownPayload, bytes]]:
    return [(event, payloads.encode(event)) for event in events]


def terminal(
    fence: Fence, outcome: str, usage: TokenUsage | None
) -> Completed | Failed | CancelledPayload:
    about = {"dispatch_id": fence.dispatch_id, "run_id": fence.run_id, "usage": usage}
    match outcome:
        case "completed":
            return Completed(**about)
        case "failed":
            return Failed(**about, reason="agent_error")
        case _:
            return CancelledPayload(**about, reason="by_request")


def new_lane() -> AgentId:
    return AgentId(ids.uuid7())


def lane_fields(fields: dict[str, str], lane: AgentId) -> dict[str, str]:
    """Return one lane's part of the hash, without the lane's id in the names."""
    end = f":{lane}"
    return {n.removesuffix(end): text for n, text in fields.items() if n.endswith(end)}
