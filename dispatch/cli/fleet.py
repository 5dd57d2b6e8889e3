"""`arbe diagnose --fleet`: how servers, workers, sweeps and the house's threads stand."""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import typer

from dispatch.cli import commands, diagnosis, exits, rows
from dispatch.cli.arguments import Limit
from dispatch.cli.doors import Door
from dispatch.cli.output import Look, Output
from dispatch.client.connection import Json
from dispatch.errors import Unavailable

_EXIT_OF_VERDICT: Final = {"failed": exits.FAILED, "stalled": exits.STALLED}
_WORD_STARTS: Final = re.compile("[A-Z]")
_LOOKS: Final[dict[str, Look]] = {
    "healthy": "good",
    "degraded": "tool",
    "stalled": "error",
    "failed": "error",
}


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    commands.command(
        app,
        "diagnose",
        examples="""
        arbe diagnose --fleet
        arbe diagnose --fleet --json | jq .findings
        """,
    )(diagnose)


async def diagnose(
    door: Door,
    fleet: Annotated[
        bool, typer.Option("--fleet", help="Servers, workers, sweeps, all your threads.")
    ] = False,
    limit: Limit = None,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="`nextCursor` of the page before.")
    ] = None,
) -> None:
    """Say how the whole stands, which threads need a look, and what to do.

    Exit code: 2 when a server is away or no worker is alive, 3 when something stands still,
    else 0. For one thread: arbe thread diagnose <id>.
    """
    if not fleet:
        raise typer.BadParameter(
            "say what to look at: --fleet, or `arbe thread diagnose <id>` for one thread"
        )
    try:
        found = await door.client.diagnose(limit=limit, cursor=cursor)
    except Unavailable as error:
        door.output.error(error)
        raise exits.Ended(exits.FAILED) from error
    if door.output.as_json:
        door.output.json(found)
    else:
        _show(door.output, found)
    raise exits.Ended(_EXIT_OF_VERDICT.get(found["verdict"], exits.OK))


def _show(output: Output, found: Json) -> None:
    output.line(found["verdict"], _LOOKS.get(found["verdict"], "plain"))
    if not found["findings"]:
        output.line(found["cause"])
    diagnosis.show_findings(output, found["findings"])
    for server, told in found["servers"].items():
        _section(output, server, _facts(told, without=("answer", "queues")), told["answer"])
    for queue in found["servers"]["broker"]["queues"]:
        _section(output, f"queue {queue['name']}", _facts(queue, without=("name",)))
    if "backlog" in found:
        _section(output, "backlog", _facts(found["backlog"]))
    for sweep in found.get("sweeps", ()):
        ago = rows.duration(sweep["agoSeconds"])
        _section(output, f"sweep {sweep['name']}", [f"{ago} ago"])
    for worker in found.get("workers", ()):
        _show_worker(output, worker)
    if "threads" in found:
        _show_threads(output, found["threads"])


def _show_worker(output: Output, worker: Json) -> None:
    ago = rows.duration(worker["silentSeconds"])
    life = "alive" if worker["isAlive"] else "dead"
    facts = [f"beat {ago} ago", f"runs {worker['runs']}"]
    if worker["isDeaf"]:
        facts.append("deaf: takes no new work")
    _section(output, f"worker {worker['workerId']}", facts, life)


def _show_threads(output: Output, threads: Json) -> None:
    facts = [f"{stage} {count}" for stage, count in threads["stages"].items()]
    if not threads["isComplete"]:
        facts.append("and more that were not looked at")
    _section(output, "threads", facts or ["none has work or failed within a day"])
    for thread in threads["listed"]:
        name = f" {thread['name']}" if thread.get("name") else ""
        output.line(f"{thread['threadId']}{name}: {thread['stage']}", "error")
        output.line(f"  {thread['cause']}")
        output.line(f"  {thread['nextStep']}")
    if "nextCursor" in threads:
        output.note(f"More: arbe diagnose --fleet --cursor {threads['nextCursor']}")


def _section(output: Output, title: str, facts: Iterable[str], word: str | None = None) -> None:
    told = ", ".join((*([word] if word else []), *facts))
    output.line(f"{title}: {told}", "error" if word in {"down", "dead"} else "plain")


def _facts(told: Json, *, without: Sequence[str] = ()) -> list[str]:
    """Return a part's fields as words: `uptimeSeconds` 9000 is `uptime 2 h`."""
    return [_fact(name, value) for name, value in told.items() if name not in without]


def _fact(name: str, value: object) -> str:
    words = _WORD_STARTS.sub(lambda start: f" {start[0].lower()}", name)
    if isinstance(value, bool):
        return f"{words} {'yes' if value else 'no'}"
    if name.endswith("Seconds") and isinstance(value, int):
        return f"{words.removesuffix(' seconds')} {rows.duration(value)}"
    if name.endswith("Bytes") and isinstance(value, int):
        return f"{words.removesuffix(' bytes')} {value / 1024 / 1024:.1f} MiB"
    return f"{words} {rows.cell(name, value)}"
