"""`arbe thread agents`: whom a thread wakes, and when."""

import typer

from dispatch.cli import commands, rows
from dispatch.cli.arguments import AgentRef, Mode, ThreadRef
from dispatch.cli.doors import Door

app: typer.Typer = commands.noun("Which agents a thread wakes: always, when mentioned, never.")


@commands.command(app, "list", examples="arbe thread agents list 0198f2c4")
async def list_agents(door: Door, thread: ThreadRef) -> None:
    """List the house's agents as this thread wakes them, and who says so."""
    found = await door.client.threads.agents(thread)
    rows.show_list(door, found, "agents", ("handle", "triggerMode", "source", "agentId"))


@commands.command(
    app,
    "set",
    examples="""
    arbe thread agents set 0198f2c4 @reviewer always
    arbe thread agents set 0198f2c4 @reviewer never
    """,
)
async def set_mode(door: Door, thread: ThreadRef, agent: AgentRef, mode: Mode) -> None:
    """Say when this thread wakes an agent, whatever the house says."""
    rows.show(door, await door.client.threads.set_trigger(thread, agent, mode))


@commands.command(app, "reset", examples="arbe thread agents reset 0198f2c4 @reviewer")
async def reset(door: Door, thread: ThreadRef, agent: AgentRef) -> None:
    """Let the house's word hold in this thread again. Again is harmless."""
    await door.client.threads.reset_trigger(thread, agent)
    rows.done(door, {"reset": agent})
