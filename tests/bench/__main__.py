"""Measure everything, print the table, write bench.json: `python -m tests.bench --help`."""

import argparse
import signal
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from tests.bench import (
    accept,
    append,
    chats,
    codec,
    first_event,
    followers,
    machine,
    prune,
    table,
    waiting,
)
from tests.bench.figures import Row
from tests.bench.stage import Scale, open_stage, tell

MEASUREMENTS: dict[str, types.ModuleType] = {
    "accept": accept,
    "first_event": first_event,
    "waiting": waiting,
    "append": append,
    "followers": followers,
    "prune": prune,
    "chats": chats,
    "codec": codec,
}


def main() -> None:
    options = _options()
    # An ended run must end its servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scale = Scale(rounds=2 if options.quick else options.rounds, quick=options.quick)
    facts: dict[str, Any] = machine.facts() | {"rounds": scale.rounds, "quick": scale.quick}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="arbe-bench-") as folder:
        tell("starting private servers …")
        with open_stage(Path(folder)) as stage:
            facts |= stage.versions() | {"core": stage.core, "serverCore": stage.other_core}
            for name in options.only or MEASUREMENTS:
                tell(f"{name} …")
                rows += MEASUREMENTS[name].measure(stage, scale)
    facts["load_after"] = machine.load()
    table.show(rows, facts)
    table.write(options.json, rows, facts)
    tell(f"all rounds: {options.json}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=MEASUREMENTS, help="may be given several times"
    )
    parser.add_argument("--rounds", type=int, default=7, help="of floor and ours; default 7")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="PATH")
    parser.add_argument("--quick", action="store_true", help="see that it runs; no figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
