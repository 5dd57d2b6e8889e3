"""`arbe permission`: what turns ask, and the answers."""

from typing import Annotated

import typer

from dispatch.cli import arguments, commands, narration, rows
from dispatch.cli.arguments import Message, ThreadRef
from dispatch.cli.doors import Door
from dispatch.client.connection import Json

app = commands.noun("Permissions: what turns ask people before they go on.")

PermissionId = Annotated[
    str,
    typer.Argument(
        help="The question's id, as `list` and the transcript show it.",
        metavar="PERMISSION",
        show_default=False,
    ),
]


@commands.command(
    app,
    "list",
    examples="""
    arbe permission list
    arbe permission list 0199d2a4 --json
    """,
)
async def list_open(
    door: Door,
    thread: Annotated[
        str | None,
        typer.Argument(
            help="Only this thread's: its id, or the beginning of it.", metavar="[THREAD]"
        ),
    ] = None,
) -> None:
    """List the open questions of a thread, or of the house."""
    found = await door.client.permissions.list(thread)
    if door.output.as_json:
        door.output.json(found)
        return
    columns = ("id", "thread", "kind", "call", "deadline", "default")
    door.output.table([_row(each) for each in found["permissions"]], columns)


@commands.command(
    app,
    "grant",
    examples="""
    arbe permission grant 0199d2a4 001760000000123_0000000000.0.5f0c1b2a3d4e.7
    weather Oslo | arbe permission grant 0199d2a4 001760000000123_0000000000.0.5f0c.7 -o -
    """,
)
async def grant(
    door: Door,
    thread: ThreadRef,
    permission: PermissionId,
    message: Message = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="What came of a call of kind `output`; `-` reads standard input.",
            callback=arguments.read_stdin,
        ),
    ] = None,
    is_error: Annotated[
        bool, typer.Option("--is-error", help="With --output: the call failed.")
    ] = False,
) -> None:
    """Let the call be made, or tell with --output what came of it; the turn goes on."""
    permissions = door.client.permissions
    if output is None:
        if is_error:
            raise typer.BadParameter("--is-error tells of an --output, and there is none")
        answered = await permissions.grant(thread, permission, message=message)
    else:
        answered = await permissions.submit_output(
            thread, permission, output, is_error=is_error, message=message
        )
    rows.show(door, answered)


@commands.command(
    app,
    "deny",
    examples="""
    arbe permission deny 0199d2a4 001760000000123_0000000000.0.5f0c1b2a3d4e.7 -m "not on Friday"
    """,
)
async def deny(
    door: Door, thread: ThreadRef, permission: PermissionId, message: Message = None
) -> None:
    """Refuse the call; the agent's model reads --message and goes on."""
    rows.show(door, await door.client.permissions.deny(thread, permission, message=message))


def _row(found: Json) -> tuple[str, ...]:
    call = narration.tool_call(found["toolName"], found["arguments"])
    deadline = rows.moment(found["deadlineMs"])
    return found["id"], found["threadId"], found["kind"], call, deadline, found["default"]
