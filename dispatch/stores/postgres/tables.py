"""The tables as statements need them: names and types of columns, nothing more.

Keys, limits, indexes and rights are written once, in `migrations/sql`; a test holds the columns
here against the migrated database.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = sa.MetaData()


def _table(name: str, *columns: sa.Column[object]) -> sa.Table:
    return sa.Table(name, metadata, *columns)


def _id(name: str = "id", *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid(), primary_key=name == "id", nullable=null)


def _text(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), nullable=null)


def _moment(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null)


def _count(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _flag(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _place(name: str) -> sa.Column[object]:
    """Make a column of entry ids or what is made of them: text order is stream order."""
    return sa.Column(name, sa.Text(collation="C"), nullable=False)


def _object(name: str) -> sa.Column[object]:
    return sa.Column(name, JSONB(), nullable=False)


houses = _table(
    "houses",
    _id(),
    _text("name"),
    _id("primary_thread_id"),
    _moment("created_at"),
    _text("when_busy", null=True),
)
members = _table(
    "members", _id(), _id("house_id"), _text("name"), _text("role"), _moment("created_at")
)
tokens = _table(
    "tokens",
    _id(),
    _id("member_id"),
    _id("house_id"),
    _text("name"),
    _text("digest"),
    _moment("created_at"),
    _moment("expires_at", null=True),
    _moment("last_used_at", null=True),
)
agents = _table(
    "agents",
    _id(),
    _id("house_id"),
    _text("handle"),
    _text("runner"),
    _text("model", null=True),
    _object("config"),
    _text("trigger_mode"),
    _moment("created_at"),
)
environments = _table(
    "environments",
    _id(),
    _id("house_id"),
    _text("name"),
    _text("provider"),
    _object("config"),
    _moment("created_at"),
)
sandboxes = _table(
    "sandboxes",
    _id(),
    _id("house_id"),
    _id("environment_id", null=True),
    _text("status"),
    _moment("created_at"),
    _moment("used_until"),
    _text("cause", null=True),
)
threads = _table(
    "threads",
    _id(),
    _id("house_id"),
    _id("parent_thread_id", null=True),
    _id("parent_agent_id", null=True),
    _text("name", null=True),
    _moment("pinned_at", null=True),
    sa.Column("tags", ARRAY(sa.Text()), nullable=False),
    _id("environment_id", null=True),
    _id("sandbox_id", null=True),
    _text("status"),
    _object("usage"),
    _object("config"),
    _text("key", null=True),
    sa.Column("stream_id", sa.Text(collation="C"), nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
    _text("when_busy", null=True),
    _text("parent_dispatch_id", null=True),
    _object("metadata"),
    _moment("expires_at", null=True),
    _moment("archived_at", null=True),
    _id("previous_thread_id", null=True),
    _text("parent_call_id", null=True),
)
thread_agents = _table(
    "thread_agents",
    sa.Column("thread_id", sa.Uuid(), primary_key=True),
    sa.Column("agent_id", sa.Uuid(), primary_key=True),
    _id("house_id"),
    _text("trigger_mode"),
)
deletions = _table(
    "deletions",
    sa.Column("thread_id", sa.Uuid(), primary_key=True),
    _id("house_id"),
    _moment("requested_at"),
    _moment("done_at", null=True),
)
cancellations = _table(
    "cancellations",
    _id(),
    _id("house_id"),
    _id("thread_id", null=True),
    _text("dispatch_id", null=True),
    _text("tag", null=True),
    _flag("cascade"),
    _text("by_kind"),
    _text("by_id"),
    _text("by_name", null=True),
    _text("message", null=True),
    sa.Column("before_ms", sa.BigInteger(), nullable=False),
    _id("after_thread_id", null=True),
    _flag("is_last_walk"),
    _count("thread_count"),
    _count("cancelled_count"),
    _count("requested_count"),
    _moment("requested_at"),
    _moment("due_at"),
    _moment("done_at", null=True),
)
idempotency = _table(
    "idempotency",
    sa.Column("member_id", sa.Uuid(), primary_key=True),
    sa.Column("key_digest", sa.LargeBinary(), primary_key=True),
    _id("house_id", null=True),
    sa.Column("request_digest", sa.LargeBinary(), nullable=False),
    _id("reserved_id"),
    _id("claim_id"),
    _moment("claimed_until"),
    _moment("created_at"),
    sa.Column("status", sa.Integer(), nullable=True),
    sa.Column("answer", sa.LargeBinary(), nullable=True),
)
command_outputs = _table(
    "command_outputs",
    sa.Column("thread_id", sa.Uuid(), primary_key=True),
    sa.Column("ref", sa.Uuid(), primary_key=True),
    sa.Column("part", sa.Integer(), primary_key=True),
    _id("house_id"),
    _moment("at"),
    sa.Column("data", sa.LargeBinary(), nullable=False),
)
arc_chats = _table(
    "arc_chats",
    sa.Column("chat_id", sa.Text(), primary_key=True),
    _text("status"),
    _text("target_agent"),
    _object("metadata"),
    _moment("created_at"),
    _moment("updated_at"),
    _moment("closed_at", null=True),
    _moment("expires_at", null=True),
    _text("reason", null=True),
)
arc_tasks = _table(
    "arc_tasks",
    _id(),
    _id("house_id"),
    _id("member_id"),
    _id("agent_id"),
    _text("handle"),
    _text("priority"),
    _object("metadata"),
    _text("trace_id", null=True),
    _text("key", null=True),
    _moment("created_at"),
)
arc_subscriptions = _table(
    "arc_subscriptions",
    _id(),
    _id("house_id"),
    _id("member_id"),
    _id("task_id"),
    _text("callback_url"),
    sa.Column("events", ARRAY(sa.Text()), nullable=False),
    _text("secret"),
    _flag("active"),
    _text("ended_because", null=True),
    sa.Column("cursor", sa.Text(collation="C"), nullable=False),
    _count("failure_count"),
    _moment("created_at"),
    _moment("due_at"),
)
segments = _table(
    "segments",
    _id(),
    _id("thread_id"),
    _id("house_id"),
    _place("fence"),
    _place("after_id"),
    _place("first_id"),
    _place("last_id"),
    sa.Column("first_seq", sa.BigInteger(), nullable=True),
    sa.Column("last_seq", sa.BigInteger(), nullable=True),
    _count("entry_count"),
    sa.Column("byte_count", sa.BigInteger(), nullable=False),
    _count("packed_bytes"),
    sa.Column("checksum", sa.LargeBinary(), nullable=False),
    _text("place", null=True),
    sa.Column("data", sa.LargeBinary(), nullable=True),
    _moment("created_at"),
    _moment("dropped_at", null=True),
)
