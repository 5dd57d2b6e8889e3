"""`arbe thread entries`: post to a thread, list what stands there, read it as it comes."""

import time
from contextlib import aclosing
from typing import Annotated

import msgspec
import typer

from dispatch.cli import arguments, commands, exits, reading
from dispatch.cli.arguments import IfStatus, Limit, ThreadRef, WhenBusy
from dispatch.cli.doors import Door
from dispatch.client.connection import Json
from dispatch.errors import Gone

app = commands.noun("What stands on a thread's stream: post, list, read.")

After = Annotated[
    str | None,
    typer.Option("--after", help="Begin after this entry id.", metavar="ENTRY"),
]


@commands.command(
    app,
    "create",
    examples="""
    arbe thread entries create @demo "run: uname -a" --follow
    arbe thread entries create 0198f2c4 "@demo what changed?"
    arbe thread entries create 0198f2c4 "in English, please" --when-busy steer --follow
    git diff | arbe thread entries create @reviewer - --key "review-$(git rev-parse HEAD)"
    """,
)
async def create(
    door: Door,
    ref: Annotated[
        str,
        typer.Argument(
            help="A thread, or an agent: its DM is reused or made.",
            metavar="THREAD|AGENT",
            show_default=False,
        ),
    ],
    message: Annotated[
        str,
        typer.Argument(
            help="The text; `-` reads standard input.",
            show_default=False,
            callback=arguments.read_stdin,
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option("--key", help="Idempotency key: the same key never posts twice."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Read the answer until the turn ends.")
    ] = False,
    when_busy: WhenBusy = None,
    if_status: IfStatus = None,
) -> None:
    """Post a message. This is what wakes agents.

    With --follow the exit code tells how the turn ended: 0 completed, 2 failed, 4 cancelled;
    an entry that was taken into a running turn is followed into that one, and a turn whose
    answer asks other agents to their ends: the worst of them counts.
    """
    posted = await door.client.entries.create(
        ref, message, key=key, when_busy=when_busy, if_status=if_status or ()
    )
    if posted.get("duplicate"):
        door.output.note("This key was posted before; nothing was added.")
    if not follow or door.output.as_json:
        _show_posted(door, posted)
    for muted in posted.get("muted") or ():
        door.output.note(f"@{muted['handle']} is not woken: its mode in this thread is never.")
    awaited = [dispatch["id"] for dispatch in posted["dispatches"]]
    if not awaited:
        door.output.note("No turn comes of it: no agent is mentioned, or it is busy.")
    elif follow:
        code = await reading.read(
            door, posted["threadId"], after=posted["entry"]["id"], awaited=awaited
        )
        raise exits.Ended(code)


@commands.command(
    app,
    "withdraw",
    examples="arbe thread entries withdraw 0198f2c4 001795206605314_0000000001",
)
async def withdraw(
    door: Door,
    thread: ThreadRef,
    entry: Annotated[str, typer.Argument(help="The entry's id.", metavar="ENTRY")],
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Why, for those who read it.")
    ] = None,
) -> None:
    """Let no turn of an entry start that has not started yet; the entry stays to be read."""
    done = await door.client.entries.withdraw(thread, entry, message=message)
    if door.output.as_json:
        door.output.json(done)
        return
    words = ("withdrawn", "delivered")
    door.output.table(
        [(each, word) for word in words for each in done[word]], ("dispatch", "receipt")
    )


@commands.command(
    app,
    "list",
    examples="""
    arbe thread entries list 0198f2c4 --limit 20
    arbe thread entries list 0198f2c4 --follow --json | jq .payload.type
    """,
)
async def list_entries(
    door: Door,
    thread: ThreadRef,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stay, and print entries as they come.")
    ] = False,
    after: After = None,
    limit: Limit = None,
) -> None:
    """List raw entries, oldest first: all, or --limit of them from --after on."""
    if follow:
        await _tail(door, thread, after, limit)
    elif door.output.as_json:
        await _list_as_object(door, thread, after, limit)
    else:
        await _list_lines(door, thread, after, limit)


@commands.command(
    app,
    "read",
    examples="""
    arbe thread entries read 0198f2c4
    arbe thread entries read 0198f2c4 --timeout 60
    """,
)
async def read(
    door: Door,
    thread: ThreadRef,
    after: After = None,
    timeout_seconds: Annotated[
        float | None,
        typer.Option("--timeout", help="Give up waiting after this time.", metavar="SECONDS"),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stay when the turns are over.")
    ] = False,
) -> None:
    """Read a thread as it comes: words, tool calls and their output.

    Ends when no turn is open any more, nor wakes another by its answer. Exit code: how the
    last turn ended: 0 completed, 2 failed, 4 cancelled; 3 when --timeout passed first.
    """
    code = await reading.read(
        door, thread, after=after, timeout_seconds=timeout_seconds, stays=follow
    )
    raise exits.Ended(code)


def _show_posted(door: Door, posted: Json) -> None:
    if door.output.as_json:
        door.output.json(posted)
        return
    dispatches = " ".join(dispatch["id"] for dispatch in posted["dispatches"])
    door.output.table(
        [(posted["entry"]["id"], posted["threadId"], dispatches)],
        ("entry", "thread", "dispatches"),
    )
    door.output.note(f"Read the answer: arbe thread entries read {posted['threadId']}")


async def _tail(door: Door, thread: str, after: str | None, limit: int | None) -> None:
    count = 0
    async with aclosing(door.client.entries.follow(thread, after=after)) as entries:
        async for entry in entries:
            _show_raw(door, entry)
            count += 1
            if count == limit:
                return
    raise Gone(thread)


async def _list_as_object(
    door: Door, thread: str, after: str | None, limit: int | None
) -> None:
    found: list[Json] = []
    cursor: str | None = None
    async with aclosing(door.client.entries.history(thread, after=after)) as entries:
        async for entry in entries:
            if len(found) == limit:
                cursor = found[-1]["id"]
                break
            found.append(entry)
    door.output.json({"entries": found, "nextCursor": cursor})


async def _list_lines(door: Door, thread: str, after: str | None, limit: int | None) -> None:
    count = 0
    async with aclosing(door.client.entries.history(thread, after=after)) as entries:
        async for entry in entries:
            _show_raw(door, entry)
            count += 1
            if count == limit:
                door.output.note(f"There may be more: --after {entry['id']}")
                return


def _show_raw(door: Door, entry: Json) -> None:
    if door.output.as_json:
        door.output.json(entry)
        return
    payload = dict(entry["payload"])
    kind = payload.pop("type", "?")
    seconds, milliseconds = divmod(int(entry["at"]), 1000)
    clock = f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{milliseconds:03d}"
    door.output.text(f"{entry['id']} {clock} ", "dim")
    door.output.text(f"{kind} ", "speaker")
    door.output.line(msgspec.json.encode(payload).decode())
