"""Archives and restores on the wire."""

from typing import Annotated

from pydantic import Field

from dispatch.api import shapes
from dispatch.api.shapes import Answer, Body, examples
from dispatch.api.shapes.threads import ThreadAnswer


class ArchiveThread(Body):
    """How to archive a thread."""

    model_config = shapes.example(rollOver=True)

    roll_over: Annotated[
        bool,
        Field(description="Go on in a new thread, which takes its key and labels along."),
    ] = False


class ArchiveDue(Body):
    """How to archive what is due in the house."""

    model_config = shapes.example(dryRun=True)

    dry_run: bool = False


class ArchiveAnswer(Answer):
    """What was moved out of Redis."""

    model_config = shapes.example(
        thread=examples.THREAD, entries=4999, segments=5, nextThread=None
    )

    thread: ThreadAnswer
    entries: Annotated[int, Field(description="Moved by this call.")]
    segments: int
    next_thread: Annotated[
        ThreadAnswer | None, Field(description="The thread it goes on in, if asked for.")
    ] = None


class ArchiveDueAnswer(Answer):
    """What was counted."""

    model_config = shapes.example(
        checked=120,
        due=2,
        archived=2,
        entries=9000,
        rolledOver=0,
        expired=0,
        unavailable=0,
        dryRun=False,
    )

    checked: int
    due: Annotated[int, Field(description="Too long or old.")]
    archived: int
    entries: int
    rolled_over: int
    expired: Annotated[int, Field(description="Whose retention is over: they expire now.")]
    unavailable: int
    dry_run: bool


class RestoreAnswer(Answer):
    """What came back into Redis."""

    model_config = shapes.example(thread=examples.THREAD, entries=4999)

    thread: ThreadAnswer
    entries: int
