"""Entries, and what becomes of them, on the wire. The hot route writes its bytes itself."""

from typing import Annotated, Any

from pydantic import Field

from dispatch import ids
from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, Milliseconds, examples
from dispatch.api.shapes.threads import ThreadAnswer
from dispatch.models.houses import WhenBusy
from dispatch.models.threads import ThreadStatus
from dispatch.operations.withdraw import Withdrawn
from dispatch.streams.threads import Accepted


class PostEntry(Body):
    """What to say. `mentions`: agents to wake, beside the `@handle`s in the text.

    Only described here: the route decodes `post_entry.Draft`; a test holds the two together.
    """

    model_config = shapes.example(text="@demo run: uname -a", whenBusy="steer")

    text: str
    mentions: list[str] = Field(default_factory=list[str])
    parts: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    when_busy: Annotated[
        WhenBusy | None,
        Field(
            description="While an agent it wakes is busy: wait (`enqueue`), refuse with 409 "
            "(`reject`), end its turn and go first (`interrupt`), also leave that turn out of "
            "the history (`rollback`), go into that turn at its next step (`steer`), or ask "
            "for no turn (`write`). Unset: as the thread says, else the house, else `enqueue`."
        ),
    ] = None
    if_status: Annotated[
        list[ThreadStatus],
        Field(
            default_factory=list[ThreadStatus],
            description="Post only while the thread has one of these statuses, else 409.",
        ),
    ]


class WithdrawEntry(Body):
    """Why; shown on the stream."""

    model_config = shapes.example(message="Wrong thread.")

    message: Annotated[str | None, Field(max_length=2000)] = None


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


class MutedAnswer(Answer):
    """An agent that the entry mentions, but whose trigger mode in the thread is `never`."""

    model_config = shapes.example(agentId=examples.AGENT_ID, handle="demo")

    agent_id: str
    handle: str


class AcceptedAnswer(Answer):
    """The entry is on the stream. `duplicate`: it was there before, by the same key.

    `muted`: agents it mentions that nothing wakes in this thread; unset: none.
    """

    model_config = shapes.example(**examples.ACCEPTED)

    entry: PlaceAnswer
    thread_id: str
    dispatches: list[DispatchRefAnswer]
    duplicate: bool | None = None
    muted: list[MutedAnswer] | None = None


class WithdrawnAnswer(Answer):
    """Which of the entry's dispatches will not start, and which had started, or ended."""

    model_config = shapes.example(
        entryId=examples.ENTRY_ID, withdrawn=[examples.DISPATCH_ID], delivered=[]
    )

    entry_id: str
    withdrawn: list[str]
    delivered: list[str]


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
    muted: list[MutedAnswer] | None = None


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


def withdrawn(entry_id: str, done: Withdrawn) -> WithdrawnAnswer:
    """Show what became of a withdrawn entry's dispatches."""
    return WithdrawnAnswer(
        entry_id=entry_id, withdrawn=list(done.withdrawn), delivered=list(done.delivered)
    )


def place(accepted: Accepted) -> PlaceAnswer:
    """Show where an accepted entry stands."""
    return PlaceAnswer(id=accepted.entry_id, at=ids.milliseconds_of(accepted.entry_id))


def muted(accepted: Accepted) -> list[MutedAnswer] | None:
    """Show whom an entry mentioned in vain."""
    found = [
        MutedAnswer(agent_id=str(agent_id), handle=handle)
        for agent_id, handle in accepted.muted
    ]
    return found or None


def dispatches(accepted: Accepted) -> list[DispatchRefAnswer]:
    """Show the turns an entry asked for."""
    return [
        DispatchRefAnswer(id=dispatch_id, agent_id=str(agent_id))
        for dispatch_id, agent_id in accepted.dispatches
    ]
