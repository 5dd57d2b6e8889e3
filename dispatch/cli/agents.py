"""`arbe agent`: the bots of the house."""

from typing import Annotated

import typer

from dispatch.cli import agent_doctor, arguments, commands, exits, rows
from dispatch.cli.arguments import AgentRef, Config, Yes
from dispatch.cli.doors import Door
from dispatch.client.connection import Json, present

app = commands.noun("Agents: the bots of your house.")


@commands.command(
    app,
    "create",
    examples="""
    arbe agent create @demo
    arbe agent create @reviewer --runner demo --trigger-mode mention
    arbe agent create @coder --runner pi --model gpt-5 --config @coder.json
    arbe agent create @careful --config '{"permissions": {"run_command": "ask"}}'
    """,
)
async def create(
    door: Door,
    handle: Annotated[str, typer.Argument(help="How it is mentioned.", metavar="@HANDLE")],
    runner: Annotated[
        str, typer.Option("--runner", help="The code that answers, known to the workers.")
    ] = "demo",
    model: Annotated[str | None, typer.Option("--model", help="The model it uses.")] = None,
    trigger_mode: Annotated[
        str | None,
        typer.Option("--trigger-mode", help="always, mention or never.", metavar="MODE"),
    ] = None,
    config: Config = None,
) -> None:
    """Make an agent."""
    rows.show(
        door,
        await door.client.agents.create(
            handle,
            runner=runner,
            model=model,
            trigger_mode=trigger_mode,
            config=arguments.object_of(config),
        ),
    )


@commands.command(app, "list", examples="arbe agent list")
async def list_agents(door: Door) -> None:
    """List the house's agents."""
    found = await rows.every(door.client.agents.list, "agents")
    rows.show_list(door, found, "agents", ("id", "handle", "runner", "model", "triggerMode"))


@commands.command(app, "show", examples="arbe agent show @demo")
async def show(door: Door, agent: AgentRef) -> None:
    """Show one agent."""
    rows.show(door, await door.client.agents.get(agent))


@commands.command(
    app,
    "update",
    examples="""
    arbe agent update @demo --trigger-mode always
    arbe agent update @reviewer --runner demo --model small
    arbe agent update @careful --config @careful.json
    """,
)
async def update(
    door: Door,
    agent: AgentRef,
    handle: Annotated[
        str | None, typer.Option("--handle", help="Another handle.", metavar="@HANDLE")
    ] = None,
    runner: Annotated[
        str | None, typer.Option("--runner", help="Other code that answers.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Another model; empty: the runner's own.")
    ] = None,
    trigger_mode: Annotated[
        str | None,
        typer.Option(
            "--trigger-mode",
            help="always, mention or never, in all threads that do not say.",
            metavar="MODE",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Change an agent; turns already dispatched run as they were born.

    A thread may say otherwise about the trigger mode: `arbe thread agents`.
    """
    changes: Json = present(
        {
            "handle": handle.removeprefix("@") if handle else None,
            "runner": runner,
            "triggerMode": trigger_mode,
            "config": arguments.object_of(config),
        }
    )
    if model is not None:
        changes["model"] = model or None
    if not changes:
        raise typer.BadParameter(
            "nothing to change: give --handle, --runner, --model, --trigger-mode or --config"
        )
    rows.show(door, await door.client.agents.update(agent, changes))


@commands.command(app, "delete", examples="arbe agent delete @demo --yes")
async def delete(door: Door, agent: AgentRef, yes: Yes = False) -> None:  # noqa: ARG001
    """Remove an agent from the house."""
    await door.client.agents.delete(agent)
    rows.done(door, {"deleted": agent})


@commands.command(
    app,
    "doctor",
    examples="""
    arbe agent doctor
    arbe agent doctor @coder --json
    """,
)
async def doctor(
    door: Door,
    agent: Annotated[
        str | None, typer.Argument(help="An agent: its config is checked too.", metavar="AGENT")
    ] = None,
) -> None:
    """Check that this machine can run pi agents, and say what to install.

    Call it where the workers run. Exit code 1: something is missing.
    """
    code = await agent_doctor.examine(door, agent)
    if code != exits.OK:
        raise exits.Ended(code)
