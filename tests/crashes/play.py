"""One play: a story acted by processes that die as planned, then everything repaired.

The stage for stories: who may act, in which process, and what happens when it dies.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final

import httpx

from dispatch import ids
from dispatch.errors import ArbeError
from dispatch.ids import ThreadId, WorkerId
from dispatch.operations.post_entry import Draft, post_entry
from dispatch.operations.record import Record
from dispatch.payloads.signals import ThreadCreated
from dispatch.stores.postgres import engine, threads
from dispatch.stores.postgres.threads import NewThread
from dispatch.streams import keys, lanes
from dispatch.streams import threads as streams
from dispatch.streams.lanes import LaneRef
from dispatch.streams.threads import Accepted
from tests.crashes.doors import START_MS
from tests.crashes.life import Life, Plan
from tests.crashes.world import World
from workers import turn
from workers.heartbeat import Heartbeats
from workers.sweeps import cancellations, expire, prune, reconcile, redeliver

_MAX_ROUNDS: Final = 40
"""Of keepers, until all is at rest; a play that needs more is stuck."""

_OWED_MS: Final = 16_000
"""What is neither due nor held by a worker is looked at again within this time."""

Act = Callable[[Record], Awaitable[Any]]


class Violation(AssertionError):
    """A promise was broken."""


class Nobody:
    """What a client heard whose every process died."""


NOBODY: Final = Nobody()


@dataclass
class Play:
    """What happens on the stage, and what must be true of it in the end."""

    world: World
    plan: Plan
    insists: bool = True
    """A client repeats its request until it hears an answer; else it goes away."""
    effects: list[tuple[str, str, str]] = field(default_factory=list)
    """Turn (thread and dispatch), run, tool call of each effect that happened."""
    threads: list[ThreadId] = field(default_factory=list)
    deleted: set[ThreadId] = field(default_factory=set)
    maybe_deleted: set[ThreadId] = field(default_factory=set)
    posted: dict[str, bool] = field(default_factory=dict)
    """Idempotency key → whether the client heard that its entry was accepted."""
    paused_workers: set[str] = field(default_factory=set)
    lost_workers: set[str] = field(default_factory=set)
    """Worker processes that died or were paused: their runs may be ended at once."""
    may_repeat: bool = False
    """The agent said that its effects may happen again."""
    has_forgotten: bool = False
    """Redis has: what was answered may be gone, with a word about it on the stream."""
    trouble: list[str] = field(default_factory=list)
    """What background tasks and callbacks raised that was no death and no refusal."""
    checks: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """What else must be true in the end."""

    def __post_init__(self) -> None:
        self._names = count(1)
        self._lives: list[Life] = []
        self._paused: list[Life] = []
        self._at_gate = asyncio.Event()
        self._gate = asyncio.Event()

    # --- the agent's world -------------------------------------------------------------------

    async def effect(self, turn: str, run_id: str, call_id: str) -> None:
        life = Life.acting()

        async def happen() -> None:
            self.effects.append((turn, run_id, call_id))

        await life.cross("EFFECT", happen)

    async def gate(self) -> None:
        self._at_gate.set()
        await self._gate.wait()

    def expect_rows(self, column: str, value: str, *, is_heard: bool) -> None:
        """Let there be one thread with this value in the end; or none, if nobody heard."""

        async def check() -> None:
            query = f"select count(*) from threads where {column} = %s"  # noqa: S608 - ours
            found = await self.world.admin.execute(query, [value])
            [count] = await found.fetchone() or (0,)
            assert count == 1 or not (is_heard or count), "one call makes one thread"

        self.checks.append(check)

    # --- setting -----------------------------------------------------------------------------

    async def open_thread(self, *, stream: bool = True) -> ThreadId:
        """Return a thread whose row is there, and its stream too if it shall be."""
        thread_id = await self.world.thread()
        self.threads.append(thread_id)
        if stream:
            created = ThreadCreated(name=None)
            await streams.create(self.world.record.scripts, thread_id, created)
        return thread_id

    async def open_child(self, parent_id: ThreadId) -> ThreadId:
        """Return a sub-job below a thread, row and stream."""
        record, who = self.world.record, self.world.who
        new = NewThread(house_id=who.house_id, parent_thread_id=parent_id)
        async with engine.as_member(record.members, who.member_id) as connection:
            thread_id = (await threads.insert(connection, new=new)).id
        self.threads.append(thread_id)
        await streams.create(record.scripts, thread_id, ThreadCreated(name=None))
        return thread_id

    # --- processes ---------------------------------------------------------------------------

    async def client(self, act: Act, *, name: str = "api") -> Any:
        """Let somebody ask for something, again and again until an answer is heard.

        Returns: the answer, the refusal as a value, or NOBODY.
        """
        while True:
            life, heard = await self._live(name, act)
            if heard:
                try:
                    return life.main.result()
                except ArbeError as refused:
                    return refused
            if not self.insists:
                return NOBODY

    async def post(
        self,
        thread_id: ThreadId,
        text: str,
        *,
        key: str,
        mentions: tuple[str, ...] = (),
        **more: Any,
    ) -> Accepted | ArbeError | Nobody:
        """Post an entry as a member, under a key of its own."""
        self.posted.setdefault(key, False)
        draft = Draft(text, mentions=mentions, **more)
        heard = await self.client(
            lambda record: post_entry(record, self.world.who, thread_id, draft, key=key)
        )
        if isinstance(heard, Accepted):
            self.posted[key] = True
        return heard

    async def post_thread_over_http(self, **body: str) -> None:
        """Make a thread by the API, under a key; repeat the call until it is answered."""
        key = new_key()
        headers = {"Idempotency-Key": key, "Authorization": f"Bearer {self.world.token}"}

        async def post(record: Record) -> httpx.Response:
            self.world.app.state.record = record
            transport = httpx.ASGITransport(self.world.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
                return await http.post(
                    "/v1/threads", json={**body, "tags": [key]}, headers=headers
                )

        self.posted[key] = False
        answer = await self.client(post)
        while answer is not NOBODY and answer.json().get("reason") == "key_in_use":
            await self.pass_seconds(self.world.settings.idempotency_lease_seconds)
            answer = await self.client(post)
        if answer is not NOBODY:
            expected = {httpx.codes.CREATED, httpx.codes.CONFLICT}
            assert answer.status_code in expected, answer.text
            self.posted[key] = answer.status_code == httpx.codes.CREATED
        self.expect_rows("tags[1]", key, is_heard=self.posted[key])

    async def workers(self) -> None:
        """Let workers take what is hinted, until nothing is."""
        while self.world.doors.broker.hints:
            await self._live("worker", self._work)

    async def one_turn(self) -> None:
        """Let a worker take one hint; those that come meanwhile are lost."""
        await self._live("worker", partial(self._work, most=1))
        self.world.doors.broker.hints.clear()

    async def worker_to_gate(self) -> Life | None:
        """Start a worker; returns it when its agent stands at the gate, None if none did."""
        life = self._new_life("worker")
        life.start(self._work(Record(self.world.settings)))
        reached = asyncio.ensure_future(self._at_gate.wait())
        ended = asyncio.ensure_future(life.until_answer_or_end())
        await asyncio.wait({reached, ended}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        if ended.done():
            self._note_end(life, heard=ended.result())
            self._gate.set()
            return None
        ended.cancel()
        return life

    async def let_through(self, life: Life | None) -> None:
        """Open the gate, and let the worker go on to its end."""
        self._gate.set()
        if life is not None:
            self._note_end(life, heard=await life.until_answer_or_end())

    async def drain(self, life: Life | None) -> None:
        """Tell a worker to end, as SIGTERM does, and wait until it has."""
        if life is not None:
            life.also(life.heartbeats.drain())
            self._note_end(life, heard=await life.until_answer_or_end())
        self._gate.set()

    async def beat(self, life: Life | None) -> None:
        """Let a worker and its runs say that they live."""
        if life is not None and not life.gone.is_set():
            heartbeats = life.heartbeats
            signs = [heartbeats._beat(), *(each.renew() for each in heartbeats._writers)]
            said = asyncio.gather(*map(life.also, signs), return_exceptions=True)
            gone = asyncio.ensure_future(life.gone.wait())
            await asyncio.wait({said, gone}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()

    async def keeper(self, *sweeps: Any) -> bool:
        """Run some sweeps once, as the timetable does; tell whether they came to their end."""

        async def sweep(record: Record) -> None:
            for each in sweeps or (redeliver, reconcile, cancellations):
                await each.sweep(record)

        return (await self._live("keeper", sweep))[1]

    async def settle(self) -> None:
        """Let time pass and the others repair, until nothing is left to do.

        Raises: Violation, if that never comes.
        """
        self._gate.set()
        await self._repair()
        while self._paused:
            life = self._paused.pop(0)
            life.resume()  # if it did not wake before
            self._note_end(life, heard=await life.until_answer_or_end())
            await self._repair()

    async def _repair(self) -> None:
        """Let workers and sweeps act as long as there is something for them to do."""
        for _ in range(_MAX_ROUNDS):
            await self.workers()
            next_ms = await self._next_ms()
            if next_ms is not None:
                await self.pass_seconds((next_ms - self.world.doors.clock.now_ms) / 1000)
                await self.keeper()
            elif await self.world.waits_for("prune"):
                await self.keeper(prune)
            elif await self.world.waits_for("expire"):
                await self.keeper(expire)
            elif not self.world.doors.broker.hints:
                return
        raise Violation("stuck: never at rest")

    async def _next_ms(self) -> int | None:
        """Return when there is something to do for the sweeps that come often; None: never."""
        clock, wire = self.world.doors.clock, self.world.doors.wire
        workers, due, is_dirty = await asyncio.gather(
            wire.call("ZRANGE", keys.WORKERS, 0, 0),
            wire.call("ZRANGE", keys.DUE, 0, 0, "WITHSCORES"),
            wire.call("EXISTS", keys.DIRTY, keys.REPLIES),
        )
        if workers:
            return clock.now_ms + int(self.world.settings.worker_dead_seconds * 1000) + 1
        if due:
            return max(int(due[0][1]), clock.now_ms) + 1
        is_owed = is_dirty or await self.world.waits_for("cancellations")
        return clock.now_ms + _OWED_MS if is_owed else None

    async def pass_seconds(self, seconds: float) -> None:
        """Let time pass for Redis, and for what Postgres keeps times of."""
        clock = self.world.doors.clock
        await clock.set(clock.now_ms + int(seconds * 1000))
        await self.world.age(seconds)

    # --- servers -----------------------------------------------------------------------------

    async def redis_starts_anew(self) -> None:
        """Restart Redis, which has everything on disk."""
        await self.world.doors.clock.restart_redis()

    async def redis_writes_its_file(self) -> dict[bytes, bytes]:
        """Return what Redis would find if it lost all that comes after this."""
        wire = self.world.doors.wire
        return {name: await wire.call("DUMP", name) for name in await wire.call("KEYS", "*")}

    async def redis_forgets(self, remembered: dict[bytes, bytes] | None = None) -> None:
        """Restart Redis with what it remembers: nothing, or what it once wrote."""
        wire, self.has_forgotten = self.world.doors.wire, True
        await wire.call("FLUSHDB")
        for name, value in (remembered or {}).items():
            await wire.call("RESTORE", name, 0, value)
        # Ids are made of the time of day, which goes on.
        self.world.doors.clock.now_ms += 1
        await self.world.doors.clock.restart_redis()

    # --- what the processes do ---------------------------------------------------------------

    def _new_life(self, kind: str) -> Life:
        life = Life(self.plan, f"{kind}{next(self._names)}", self)
        self._lives.append(life)
        return life

    async def end(self) -> None:
        """Leave no task of any process behind."""
        for life in self._lives:
            await life.bury()

    async def _live(self, kind: str, act: Act) -> tuple[Life, bool]:
        life = self._new_life(kind)
        life.start(act(Record(self.world.settings)))
        heard = await life.until_answer_or_end()
        self._note_end(life, heard=heard)
        return life, heard

    def _note_end(self, life: Life, *, heard: bool) -> None:
        if life.is_paused:
            self._paused.append(life)
        if life.name.startswith("worker") and (life.is_dead or life.is_paused):
            self.lost_workers.add(life.name)
        if life.name.startswith("worker") and life.is_paused:
            self.paused_workers.add(life.name)
        if heard:
            error = life.main.exception()
            if error is not None and not isinstance(error, ArbeError):
                raise error

    async def _work(self, record: Record, *, most: int = 1000) -> None:
        """Be a worker process: beat, take the hints, run them, leave."""
        life = Life.acting()
        heartbeats = Heartbeats(
            record.connection, worker_id=WorkerId(life.name), settings=record.settings
        )
        life.heartbeats = heartbeats
        await heartbeats._beat()
        hints = self.world.doors.broker.hints
        while hints and most and not heartbeats.draining:
            most -= 1
            hint = await life.cross("broker get", _popper(hints))
            if hint is not None:
                ref = LaneRef(hint.thread_id, hint.lane)
                await turn.run_lane(record, heartbeats, ref)
        await lanes.leave(record.connection, heartbeats.worker_id)


def _popper(hints: list[Any]) -> Callable[[], Awaitable[Any]]:
    async def pop() -> Any:
        return hints.pop(0) if hints else None

    return pop


async def begin(world: World, plan: Plan, *, insists: bool) -> Play:
    """Clear the stage for the next play."""
    await world.clear()
    world.doors.clock.now_ms = START_MS
    await world.doors.clock.tell()
    return Play(world, plan, insists=insists)


def new_key() -> str:
    return str(ids.uuid7())
