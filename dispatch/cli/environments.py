"""`arbe environment`: recipes for the sandboxes that commands run in."""

from typing import Annotated

import msgspec
import typer

from dispatch.cli import commands, rows
from dispatch.cli.arguments import Yes
from dispatch.cli.doors import Door
from dispatch.client.connection import Json

app = commands.noun("Environments: where agents' commands run.")


@commands.command(
    app,
    "create",
    examples="""
    arbe environment create build --network
    arbe environment create tests --provider docker --image python:3.12-slim
    arbe environment create small --config '{"memoryBytes": 268435456, "processes": 32}'
    """,
)
async def create(
    door: Door,
    name: Annotated[str, typer.Argument(help="Its name.")],
    provider: Annotated[str, typer.Option("--provider", help="local or docker.")] = "local",
    image: Annotated[
        str | None, typer.Option("--image", help="docker: what containers are made of.")
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Let commands reach the network.")
    ] = False,
    config: Annotated[
        str | None, typer.Option("--config", help="Limits and the like, a JSON object.")
    ] = None,
) -> None:
    """Make an environment."""
    rows.show(
        door,
        await door.client.environments.create(
            name,
            provider=provider,
            config=_config(config, image=image, network=network) or None,
        ),
    )


@commands.command(app, "list", examples="arbe environment list")
async def list_environments(door: Door) -> None:
    """List the house's environments."""
    found = await rows.every(door.client.environments.list, "environments")
    rows.show_list(door, found, "environments", ("id", "name", "provider", "createdAt"))


@commands.command(app, "show", examples="arbe environment show 0198f2c4")
async def show(
    door: Door,
    environment: Annotated[str, typer.Argument(help="An environment.", metavar="ENV")],
) -> None:
    """Show one environment."""
    rows.show(door, await door.client.environments.get(environment))


@commands.command(app, "delete", examples="arbe environment delete 0198f2c4 --yes")
async def delete(
    door: Door,
    environment: Annotated[str, typer.Argument(help="An environment.", metavar="ENV")],
    yes: Yes = False,  # noqa: ARG001 - asked while the line was parsed
) -> None:
    """Remove an environment."""
    await door.client.environments.delete(environment)
    rows.done(door, {"deleted": environment})


def _config(text: str | None, *, image: str | None, network: bool) -> Json:
    config = _object(text) if text else {}
    if image is not None:
        config["image"] = image
    if network:
        config["network"] = True
    return config


def _object(text: str) -> Json:
    try:
        return msgspec.json.decode(text, type=Json)
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f"--config is not a JSON object: {error}") from error
