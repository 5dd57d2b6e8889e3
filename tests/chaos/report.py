"""A round's verdict for people and for programs, and the history behind each violation."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tests.chaos.verdict import Options, Verdict

_SHOWN_VIOLATIONS: Final = 10
_SHOWN_LINES: Final = 120


def command(options: Options) -> str:
    """Return what runs the same plan again."""
    words = [
        f"python -m tests.chaos --seed {options.seed} --seconds {options.seconds:g}",
        f"--kills {options.kills} --broker {options.broker}",
        f"--forgets {options.forgets}" if options.forgets else "",
        f"--break {options.broken}" if options.broken else "",
    ]
    return " ".join(word for word in words if word)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return the whole verdict; histories are files beside it."""
    whole = asdict(verdict)
    whole["command"] = command(verdict.options)
    whole["sigkills"] = sum(verdict.kills.values())
    whole["violations"] = [
        {"thread_id": each.thread_id, "promise": each.promise} for each in verdict.violations
    ]
    return whole


def as_markdown(verdict: Verdict) -> str:
    """Return the verdict as a page."""
    options = verdict.options
    broken = f", with its guard `{options.broken}` taken away" if options.broken else ""
    lines = [
        f"## Seed {options.seed}, {options.broker} broker{broken}",
        "",
        f"    {command(options)}",
        "",
        _summary(verdict),
        "",
        *_table(("process", "SIGKILLs"), verdict.kills),
        *_table(("fault", "times"), verdict.faults),
        *_table(("what", "count"), verdict.counts),
        *_table(("terminal", "dispatches"), verdict.terminals),
        *_recoveries(verdict),
        *(f"- {note}" for note in verdict.notes),
        *(f"- VIOLATION {each.thread_id} {each.promise}" for each in verdict.violations),
    ]
    return "\n".join(lines) + "\n"


def _summary(verdict: Verdict) -> str:
    kills, seconds = sum(verdict.kills.values()), verdict.options.seconds
    return (
        f"{kills} real SIGKILLs in {seconds:g} s of storm; "
        f"at rest {verdict.rest_seconds:.1f} s after the last process was back; "
        f"**{len(verdict.violations)} violations**."
    )


def write(verdict: Verdict, path: Path) -> None:
    """Write JSON and markdown, and one file per violation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(as_json(verdict), indent=2) + "\n")
    path.with_suffix(".md").write_text(as_markdown(verdict))
    for number, violation in enumerate(verdict.violations, 1):
        file = path.with_name(f"{path.stem}-violation-{number}.txt")
        file.write_text("\n".join(_history(violation.__dict__)) + "\n")


def histories(verdict: Verdict) -> str:
    """Return what led to the first violations, to be printed."""
    lines: list[str] = []
    for violation in verdict.violations[:_SHOWN_VIOLATIONS]:
        lines += _history(violation.__dict__)[-_SHOWN_LINES:]
    return "\n".join(lines)


def _history(violation: dict[str, Any]) -> list[str]:
    return [
        f"=== {violation['thread_id']}: {violation['promise']}",
        "--- the stream",
        *violation["history"],
        "--- the faults around it",
        *violation["faults"],
        f"=== {violation['thread_id']}: {violation['promise']}",
    ]


def _table(head: tuple[str, str], counts: dict[str, int]) -> list[str]:
    rows = [f"| {name} | {count} |" for name, count in counts.items()]
    return [f"| {head[0]} | {head[1]} |", "| --- | ---: |", *rows, ""]


def _recoveries(verdict: Verdict) -> list[str]:
    rows = [
        f"| {each['name']} | {each['count']} | "
        + " | ".join(
            f"{each[name]:.2f}" if name in each else "" for name in ("p50", "p99", "max")
        )
        + " |"
        for each in verdict.recoveries
    ]
    head = [
        "| recovery, in seconds | count | p50 | p99 | max |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    return [*head, *rows, ""]
