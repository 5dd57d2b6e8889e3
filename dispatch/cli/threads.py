"""`arbe thread`: conversations, and the verbs that look after them."""

import functools
from typing import Annotated, Final

import typer

from dispatch.cli import (
    arguments,
    cancellations,
    commands,
    diagnosis,
    entries,
    exits,
    lifecycle,
    rows,
    triggers,
)
from dispatch.cli.arguments import (
    Config,
    ExpiresIn,
    IfStatus,
    Limit,
    Message,
    Metadata,
    Tags,
    ThreadRef,
    WhenBusy,
    Yes,
)
from dispatch.cli.doors import Door
from dispatch.client.connection import Json, present

app = commands.noun("Threads: conversations with agents, each a row and a stream.")
app.add_typer(entries.app, name="entries")
app.add_typer(triggers.app, name="agents")

lifecycle.register(app)

_COLUMNS: Final = ("id", "status", "parent", "name", "tags", "updated")


@commands.command(
    app,
    "create",
    examples="""
    arbe thread create @demo
    arbe thread create me --name "Release 2.1" --tag release
    arbe thread create @demo --key "user-17" --message "hello"
    arbe thread create @demo --key "session-4" --expires-in 24h --metadata '{"user_id": "17"}'
    """,
)
async def create(  # noqa: PLR0913 - options, one each
    door: Door,
    *,
    parent: Annotated[
        str,
        typer.Argument(
            help="Where it lives: an agent (a DM), a thread (a sub-job), or `me` (the house).",
            metavar="PARENT",
            show_default=False,
        ),
    ],
    environment: Annotated[
        str | None, typer.Option("--env", help="Bind it to an environment.", metavar="ENV")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Its title.")] = None,
    tags: Tags = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Get the thread of this key, or make it.")
    ] = None,
    config: Config = None,
    metadata: Metadata = None,
    expires_in: ExpiresIn = None,
    message: Annotated[
        str | None,
        typer.Option(
            "--message",
            "-m",
            help="Post this at once; `-` reads standard input.",
            callback=arguments.read_stdin,
        ),
    ] = None,
    when_busy: WhenBusy = None,
) -> None:
    """Make a thread. Without --message this makes the row only and wakes nobody.

    --when-busy counts for entries that do not say themselves; else the house's.
    """
    made = await door.client.threads.create(
        parent,
        environment=environment,
        name=name,
        tags=tags or (),
        key=key,
        config=arguments.object_of(config),
        metadata=arguments.object_of(metadata),
        expires_in=arguments.seconds(expires_in),
        message=message,
        when_busy=when_busy,
    )
    if door.output.as_json:
        door.output.json(made)
        return
    door.output.table([_row(made["thread"])], _COLUMNS)
    verb = "read" if message else "create"
    rest = "" if message else ' "…"'
    door.output.note(f"Next: arbe thread entries {verb} {made['thread']['id']}{rest}")


@commands.command(
    app,
    "list",
    examples="""
    arbe thread list --status running
    arbe thread list --tag release --all --json
    """,
)
async def list_threads(  # noqa: PLR0913 - filters, one each
    door: Door,
    *,
    status: Annotated[
        str | None, typer.Option("--status", help="Only with this status.")
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only with this label.")] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", help="Only below this agent or thread.")
    ] = None,
    pinned: Annotated[
        bool | None, typer.Option("--pinned/--not-pinned", help="Only pinned ones, or others.")
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", "-q", help="Only with this in the name.")
    ] = None,
    key_prefix: Annotated[
        str | None, typer.Option("--key-prefix", help="Only with a key that begins so.")
    ] = None,
    limit: Limit = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All pages, not only the first.")
    ] = False,
) -> None:
    """List threads, newest first."""
    list_page = functools.partial(
        door.client.threads.list,
        status=status,
        tag=tag,
        parent=parent,
        pinned=pinned,
        search=search,
        key_prefix=key_prefix,
        limit=limit,
    )
    if everything:
        found = await rows.every(list_page, "threads")
    else:
        found = await list_page()
    if door.output.as_json:
        door.output.json(found)
        return
    door.output.table([_row(thread) for thread in found["threads"]], _COLUMNS)
    if found.get("nextCursor"):
        door.output.note("There are more: --all, or a larger --limit.")


@commands.command(app, "show", examples="arbe thread show 0198f2c4")
async def show(door: Door, thread: ThreadRef) -> None:
    """Show a thread. A stuck one is repaired by being read."""
    rows.show(door, await door.client.threads.get(thread))


@commands.command(
    app,
    "update",
    examples="""
    arbe thread update 0198f2c4 --name "Release 2.1" --pin --tag release
    arbe thread update 0198f2c4 --expires-in 7d --metadata '{"ticket": 12, "draft": null}'
    """,
)
async def update(  # noqa: PLR0913 - options, one each
    door: Door,
    *,
    thread: ThreadRef,
    name: Annotated[
        str | None, typer.Option("--name", help="Another title; empty: untitled.")
    ] = None,
    pinned: Annotated[
        bool | None, typer.Option("--pin/--unpin", help="Pin it to the house's sidebar.")
    ] = None,
    tags: Tags = None,
    when_busy: WhenBusy = None,
    config: Config = None,
    metadata: Metadata = None,
    expires_in: ExpiresIn = None,
    if_status: IfStatus = None,
) -> None:
    """Change a thread's name, pin, labels, notes, end or busy policy; --tag replaces all.

    --when-busy counts for entries that do not say themselves; empty: as the house says.
    --config replaces what was there: `maxAgentHops`, `archive`, `chatRetentionSeconds`.
    --metadata is merged into what is there: null removes a key. --expires-in "": never.
    """
    changes: Json = present(
        {
            "pinned": pinned,
            "tags": None if tags is None else [tag for tag in tags if tag],
            "config": arguments.object_of(config),
            "metadata": arguments.object_of(metadata),
        }
    )
    if name is not None:
        changes["name"] = name or None
    if when_busy is not None:
        changes["whenBusy"] = when_busy or None
    if expires_in is not None:
        changes["expiresIn"] = arguments.seconds(expires_in or None)
    if not changes:
        raise typer.BadParameter(
            "nothing to change: give --name, --pin, --unpin, --tag, --when-busy, --config, "
            "--metadata or --expires-in"
        )
    rows.show(
        door, await door.client.threads.update(thread, changes, if_status=if_status or ())
    )


@commands.command(
    app,
    "delete",
    examples="""
    arbe thread delete 0198f2c4 --yes
    arbe thread delete 0198f2c4 --if-status open --if-status failed --yes
    """,
)
async def delete(
    door: Door,
    thread: ThreadRef,
    if_status: IfStatus = None,
    yes: Yes = False,  # noqa: ARG001
) -> None:
    """Delete a thread, what hangs below it, and its stream. Again is harmless."""
    with door.output.progress("Deleting …"):
        await door.client.threads.delete(thread, if_status=if_status or ())
    rows.done(door, {"deleted": thread})


@commands.command(
    app,
    "cancel",
    examples="""
    arbe thread cancel 0198f2c4
    arbe thread cancel 0198f2c4 --no-cascade
    arbe thread cancel 0198f2c4 001795206605314_0000000001.0 --message "wrong branch"
    """,
)
async def cancel(
    door: Door,
    thread: ThreadRef,
    dispatch: Annotated[
        str | None, typer.Argument(help="One dispatch; else all that are open.")
    ] = None,
    message: Message = None,
    cascade: Annotated[
        bool,
        typer.Option(
            "--cascade/--no-cascade",
            help="Threads below it too; with a dispatch: those that work for it.",
        ),
    ] = True,
    if_status: IfStatus = None,
) -> None:
    """Cancel what is queued at once, and ask what runs to end."""
    guard = if_status or ()
    if dispatch is None:
        asked = await door.client.threads.cancel_all(
            thread, message=message, cascade=cascade, if_status=guard
        )
        cancellations.show(door, asked)
        return
    answer = await door.client.threads.cancel(
        thread, dispatch, message=message, cascade=cascade, if_status=guard
    )
    if door.output.as_json:
        door.output.json(answer)
        return
    door.output.table([(dispatch, answer["status"])], ("dispatch", "status"))
    if answer.get("cancellationId"):
        cancellations.note_rest(door, answer["cancellationId"])


@commands.command(
    app,
    "archive",
    examples="""
    arbe thread archive 0198f2c4
    arbe thread archive 0198f2c4 --roll-over
    arbe thread archive --due --dry-run
    """,
)
async def archive(
    door: Door,
    thread: Annotated[
        str | None,
        typer.Argument(help="A thread: its id, or the beginning of it.", metavar="THREAD"),
    ] = None,
    roll_over: Annotated[
        bool, typer.Option("--roll-over", help="Go on in a new thread with its key and labels.")
    ] = False,
    due: Annotated[
        bool, typer.Option("--due", help="All threads of the house that are too long or old.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --due: count only, change nothing.")
    ] = False,
) -> None:
    """Move a thread's entries out of Redis. It reads as before, from the same places."""
    if due == (thread is not None) or (due and roll_over) or (dry_run and not due):
        raise typer.BadParameter("give a THREAD (and --roll-over), or --due (and --dry-run)")
    with door.output.progress("Archiving …"):
        if thread is None:
            found = await door.client.threads.archive_due(dry_run=dry_run)
        else:
            found = await door.client.threads.archive(thread, roll_over=roll_over)
    rows.show(door, found)


@commands.command(app, "restore", examples="arbe thread restore 0198f2c4")
async def restore(door: Door, thread: ThreadRef) -> None:
    """Bring a thread's archived entries back into Redis; it takes entries again."""
    with door.output.progress("Restoring …"):
        found = await door.client.threads.restore(thread)
    rows.show(door, found)


@commands.command(app, "output", examples="arbe thread output 0198f2c4 0198f2d0-… > build.log")
async def output(
    door: Door,
    thread: ThreadRef,
    ref: Annotated[
        str, typer.Argument(help="As a tool result's details.output.ref says.", metavar="REF")
    ],
) -> None:
    """Print the whole output of a command that was too long for its tool result."""
    pieces = door.client.threads.output(thread, ref)
    if door.output.as_json:
        whole = b"".join([piece async for piece in pieces])
        door.output.json({"output": whole.decode(errors="replace")})
        return
    async for piece in pieces:
        door.output.raw(piece)


@commands.command(
    app, "diagnose", examples="arbe thread diagnose 0198f2c4 || echo needs a look"
)
async def diagnose(door: Door, thread: ThreadRef) -> None:
    """Say how far the last turn came, why, and what to do.

    Exit code: 2 when it failed, 3 when it is stalled, else 0.
    """
    found = await door.client.threads.diagnose(thread)
    raise exits.Ended(diagnosis.show(door, found))


@commands.command(app, "reconcile", examples="arbe thread reconcile 0198f2c4")
async def reconcile(door: Door, thread: ThreadRef) -> None:
    """Repair a thread now: prints `running → failed`, or `no change`."""
    found = await door.client.threads.reconcile(thread)
    if door.output.as_json:
        door.output.json(found)
        return
    door.output.line(
        f"{found['before']} → {found['after']}" if found["changed"] else "no change"
    )


@commands.command(app, "prune", examples="arbe thread prune --dry-run")
async def prune(
    door: Door,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count only, change nothing.")
    ] = False,
) -> None:
    """Repair every thread that is stuck in `running`, and collect orphans."""
    with door.output.progress("Looking at every running thread …"):
        counts = await door.client.threads.prune(dry_run=dry_run)
    rows.show(door, counts)


def _row(thread: Json) -> tuple[str, ...]:
    parent: Json = thread.get("parent") or {}
    return (
        thread["id"],
        thread["status"],
        str(parent.get("kind", "")),
        thread.get("name") or "",
        ",".join(thread.get("tags") or ()),
        rows.moment(thread.get("updatedAt")),
    )
