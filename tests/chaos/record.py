"""Everything the system has written, read straight from its servers after the storm."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from dispatch import payloads
from dispatch.ids import BEGINNING, ThreadId, milliseconds_of
from dispatch.payloads.chat import Chat
from dispatch.payloads.signals import (
    Cancelled,
    Completed,
    Failed,
    Queued,
    RunLost,
    Started,
    Steered,
    StreamRollback,
)
from dispatch.streams import entries, keys
from dispatch.streams.connection import Connection
from dispatch.streams.entries import Entry
from tests.chaos.stage import Stage
from tests.streams.scene import Read

_PAGE: Final = 1000


@dataclass
class Told:
    """One stream, and what it tells at a glance. No promise is assumed to hold."""

    thread_id: str
    raw: list[Entry]
    fields: dict[str, str]
    keys: list[str]
    """Every key in Redis that names the thread."""
    reads: list[Read] = field(default_factory=list)
    births: dict[str, Queued] = field(default_factory=dict)
    terminals: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)
    """Dispatch → ids and payloads of its ends."""
    starts: dict[str, tuple[int, Started]] = field(default_factory=dict)
    """Run → when it started, in Unix ms, and how."""
    reaped: dict[str, int] = field(default_factory=dict)
    """Run that somebody else ended → when."""
    chats: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    was_rolled_back: bool = False
    """It says that its Redis has forgotten its end."""

    def __post_init__(self) -> None:
        self.reads = [Read.of(entry) for entry in self.raw]
        for read in self.reads:
            self._note(read)

    @property
    def seq(self) -> int:
        """Return the sequence of the last durable entry."""
        return max((read.seq for read in self.reads if read.seq is not None), default=0)

    def _note(self, read: Read) -> None:
        self.ids.add(read.id)
        payload = read.payload
        match payload:
            case Chat(text=text):
                self.chats[text] += 1
            case Queued(dispatch_id=dispatch_id):
                self.births[dispatch_id] = payload
            case Started(run_id=run_id):
                self.starts[run_id] = (milliseconds_of(read.id), payload)
            case StreamRollback():
                self.was_rolled_back = True
            case _:
                self._note_end(read)

    def _note_end(self, read: Read) -> None:
        at_ms, payload = milliseconds_of(read.id), read.payload
        match payload:
            case RunLost(run_id=run_id, reason=reason) if reason != "error":
                self.reaped[run_id] = at_ms
            case Steered():
                self.terminals.setdefault(payload.dispatch_id, []).append((read.id, payload))
            case Completed() | Failed() | Cancelled():
                self.terminals.setdefault(payload.dispatch_id, []).append((read.id, payload))
                if read.writer is None and payload.run_id is not None:
                    self.reaped[payload.run_id] = at_ms
            case _:
                pass

    def lines(self) -> list[str]:
        """Return the stream for people to read."""
        return [
            f"{entry.id} {entry.seq or '-':>5} {entry.writer or '':16} "
            + entry.raw.decode()[:400]
            for entry in self.raw
        ]


@dataclass(frozen=True)
class Row:
    """A thread's row, as far as the streams write it."""

    thread_id: str
    status: str
    stream_id: str
    usage: Mapping[str, Any]
    is_sub_job: bool
    is_primary: bool


@dataclass
class Everything:
    """The whole record."""

    streams: dict[str, Told]
    rows: dict[str, Row]
    open_deletions: list[str]
    open_cancellations: list[str]
    due: list[str]
    behind: list[str]
    """Threads whose rows are marked as lagging."""


async def read_everything(stage: Stage, thread_ids: set[str]) -> Everything:
    """Read every row, and the streams of these threads and of every row."""
    rows = read_rows(stage)
    connection = Connection(stage.servers["redis"].url, timeout_seconds=30.0)
    try:
        found = await _keys_by_thread(connection)
        names = thread_ids | set(rows) | set(found)
        return Everything(
            streams={
                name: await _told(connection, name, found.get(name, []))
                for name in sorted(names)
            },
            rows=rows,
            open_deletions=_open(stage, "deletions", "thread_id"),
            open_cancellations=_open(stage, "cancellations", "id"),
            due=await _members(connection, keys.DUE),
            behind=await _members(connection, keys.DIRTY),
        )
    finally:
        await connection.close()


def read_rows(stage: Stage) -> dict[str, Row]:
    """Return every thread's row, past every right."""
    with _rows(stage) as connection:
        found = connection.execute(
            "select t.id, t.status, t.stream_id, t.usage,"
            " t.parent_thread_id is not null as sub, h.id is not null as is_primary"
            " from threads t left join houses h on h.primary_thread_id = t.id"
        ).fetchall()
    return {
        str(row["id"]): Row(
            str(row["id"]),
            row["status"],
            row["stream_id"],
            row["usage"],
            row["sub"],
            row["is_primary"],
        )
        for row in found
    }


async def running(stage: Stage) -> list[str]:
    """Return what is not at rest: rows that say so or lag, and lanes in the due index."""
    with _rows(stage) as connection:
        found = connection.execute("select id from threads where status = 'running'").fetchall()
    redis = Connection(stage.servers["redis"].url, timeout_seconds=5.0)
    try:
        members = await _members(redis, keys.DUE) + await _members(redis, keys.DIRTY)
    finally:
        await redis.close()
    return sorted({str(row["id"]) for row in found} | {member[:36] for member in members})


async def _members(connection: Connection, key: str) -> list[str]:
    return [member.decode() for member in await connection.call("ZRANGE", key, 0, -1)]


def _open(stage: Stage, table: LiteralString, name: LiteralString) -> list[str]:
    with _rows(stage) as connection:
        found = connection.execute(
            sql.SQL("select {} as id from {} where done_at is null").format(
                sql.Identifier(name), sql.Identifier(table)
            )
        )
        return [str(row["id"]) for row in found]


def _rows(stage: Stage) -> psycopg.Connection[dict[str, Any]]:
    return psycopg.connect(
        stage.servers["postgres"].url, autocommit=True, connect_timeout=5, row_factory=dict_row
    )


async def _keys_by_thread(connection: Connection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    cursor, began = b"0", time.monotonic()
    while time.monotonic() - began < 60:
        cursor, page = await connection.call(
            "SCAN", cursor, "MATCH", "*arbe-thread-*", "COUNT", _PAGE
        )
        for key in page:
            name = key.decode()
            thread_id = name.partition("arbe-thread-")[2][:36]
            found.setdefault(thread_id, []).append(name)
        if cursor == b"0":
            return found
    raise AssertionError("the keys have no end")


async def _told(connection: Connection, name: str, names: list[str]) -> Told:
    thread_id, raw, after = ThreadId(UUID(name)), list[Entry](), BEGINNING
    while page := await entries.page(connection, thread_id, after=after, limit=_PAGE):
        raw += page
        after = page[-1].id
    fields = await entries.state_fields(connection, thread_id)
    return Told(name, raw, fields, sorted(set(names)))


def word_of(payload: payloads.Payload) -> str:
    """Return the last word of a payload's type."""
    return payloads.type_of(payload).rpartition(".")[2]
