"""The table of a run, for people, and its file, for the next comparison."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figure, Goal, Row

WIDTH = 150


def show(rows: Sequence[Row], facts: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title="arbe-dispatch against floors of the same run", title_justify="left")
    for column in ("what", "where", "ours p50 / p99", "floor p50 / p99", "ratio (rounds)"):
        table.add_column(column, overflow="fold")
    table.add_column("goal")
    table.add_column("")
    for row in rows:
        table.add_row(
            f"{row.what}\n[dim]{row.note}[/dim]" if row.note else row.what,
            row.where,
            _figure(row.ours, row.unit),
            f"{_figure(row.floor, row.unit)}\n[dim]{row.against}[/dim]" if row.floor else "",
            _ratio(row),
            "\n".join(goal.text(row.unit) for goal in row.goals),
            "\n".join(_verdict(row, goal) for goal in row.goals),
        )
    console = Console()
    if console.width < WIDTH:
        console = Console(width=WIDTH)
    console.print(table)
    console.print(
        f"{facts['cpu']}, {facts['cores']} cores, "
        f"load {facts['load']} → {facts['load_after']}; "
        f"Python {facts['python']}, Redis {facts['redis']}, Postgres {facts['postgres']}; "
        f"AOF always, fsync on; {facts['rounds']} rounds, floor and ours in turn.",
        style="dim",
    )


def write(path: Path, rows: Sequence[Row], facts: dict[str, Any]) -> None:
    """Write all rounds and the facts of the machine."""
    document = {"machine": facts, "rows": [row.document() for row in rows]}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _figure(figure: Figure | None, unit: str) -> str:
    if figure is None:
        return ""
    if unit.endswith("/s") or figure.p99 is None:
        return f"{_number(figure.p50)} {unit}"
    return f"{_number(figure.p50)} / {_number(figure.p99)} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return ""
    return f"{row.ratio:.2f} ({min(row.ratios):.2f}-{max(row.ratios):.2f})"


def _verdict(row: Row, goal: Goal) -> str:
    missed = goal.missed_by(row.value(goal))
    return "[green]met[/green]" if missed == 0 else f"[red]missed by {missed:.0%}[/red]"
