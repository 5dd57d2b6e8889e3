"""How a diagnosis is shown: the verdict first, then what it rests on."""

from collections.abc import Sequence
from typing import Final

from dispatch.cli import exits, rows
from dispatch.cli.doors import Door
from dispatch.cli.output import Look, Output
from dispatch.client.connection import Json

_EXIT_OF_STAGE: Final = {"failed": exits.FAILED, "stalled": exits.STALLED}


def show(door: Door, found: Json) -> int:
    """Show how a thread stands; return the exit code."""
    output = door.output
    stage = found["stage"]
    code = _EXIT_OF_STAGE.get(stage, exits.OK)
    if output.as_json:
        output.json(found)
        return code
    output.line(stage, _look(stage))
    output.line(found["cause"])
    output.line(found["nextStep"])
    show_findings(output, found["findings"])
    for name, value in found["evidence"].items():
        output.line(f"  {name}: {rows.cell(name, value)}", "dim")
    _show_lanes(output, [each for each in found["lanes"] if each["dispatchId"] != _id(found)])
    _show_events(output, found["events"])
    return code


def show_findings(output: Output, findings: Sequence[Json]) -> None:
    """Show what is wrong around dispatches, each with what to do."""
    for finding in findings:
        look: Look = "tool" if finding["gravity"] == "degraded" else "error"
        output.line(f"{finding['gravity']} ({finding['code']}): {finding['cause']}", look)
        output.line(f"  {finding['nextStep']}")


def _show_lanes(output: Output, lanes: Sequence[Json]) -> None:
    for lane in lanes:
        name = lane["evidence"].get("agent") or lane["agentId"]
        output.line(f"{name}: {lane['stage']}, {lane['queued']} waiting", _look(lane["stage"]))
        output.line(f"  {lane['cause']}")
        output.line(f"  {lane['nextStep']}")


def _show_events(output: Output, events: Sequence[Json]) -> None:
    if events:
        output.line("Last entries:", "dim")
    for event in events:
        reason = f" ({event['reason']})" if "reason" in event else ""
        ago = rows.duration(event["agoSeconds"])
        output.line(f"  {ago:>8} ago  {event['type']}{reason}", "dim")


def _look(stage: str) -> Look:
    return "error" if stage in _EXIT_OF_STAGE else "good"


def _id(found: Json) -> str | None:
    dispatch_id: str | None = found.get("dispatchId")
    return dispatch_id
