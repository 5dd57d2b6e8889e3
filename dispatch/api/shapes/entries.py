"""Entries, and what becomes of them, on the wire. The hot route writes its bytes itself."""

from typing import Any

from pydantic import Field

from dispatch import ids
from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, Milliseconds, examples
from dispatch.api.shapes.threads import ThreadAnswer
from dispatch.streams.threads import Accepted


class PostEntry(Body):
    """What to say. `mentions`: agents to wake, beside the `@handle`s in the text.

    Only described here: the route decodes `post_entry.Draft`; a test holds the two together.
    """

    model_config = shapes.example(text="@demo run: uname -a")

    text: str
    mentions: list[str] = Field(default_factory=list[str])
    parts: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])


class PlaceAnswer(Answer):
    """Where the entry stands on the stream, and since when."""

    model_config = shapes.example(**examples.ACCEPTED["entry"])

    id: str
    at: Milliseconds


class DispatchRefAnswer(Answer):
    """A turn that was asked for, and of whom."""

    model_config = shapes.example(**examples.DISPATCHES[0])

    id: str
    agent_id: str


class AcceptedAnswer(Answer):
    """The entry is on the stream. `duplicate`: it was there before, by the same key."""

    model_config = shapes.example(**examples.ACCEPTED)

    entry: PlaceAnswer
    thread_id: str
    dispatches: list[DispatchRefAnswer]
    duplicate: bool | None = None


class CreatedThreadAnswer(Answer):
    """The thread and, if there was a message, its entry and dispatches."""

    model_config = shapes.example(
        thread=examples.THREAD,
        entry=examples.ACCEPTED["entry"],
        dispatches=examples.DISPATCHES,
    )

    thread: ThreadAnswer
    entry: PlaceAnswer | None = None
    dispatches: list[DispatchRefAnswer] | None = None


class EntryAnswer(Answer):
    """One item of a stream. Chunks and heartbeats have no `seq` and may vanish."""

    model_config = shapes.example(**examples.ENTRY)

    id: str
    at: Milliseconds
    seq: int | None = None
    payload: dict[str, Any]


class EntriesAnswer(Answer):
    """A page of entries in the stream's order."""

    model_config = shapes.example(entries=[examples.ENTRY], nextCursor=None)

    entries: list[EntryAnswer]
    next_cursor: str | None = None


def place(accepted: Accepted) -> PlaceAnswer:
    """Show where an accepted entry stands."""
    return PlaceAnswer(id=accepted.entry_id, at=ids.milliseconds_of(accepted.entry_id))


def dispatches(accepted: Accepted) -> list[DispatchRefAnswer]:
    """Show the turns an entry asked for."""
    return [
        DispatchRefAnswer(id=dispatch_id, agent_id=str(agent_id))
        for dispatch_id, agent_id in accepted.dispatches
    ]
