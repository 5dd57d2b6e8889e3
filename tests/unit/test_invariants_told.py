"""docs/reliability.md names every product with a guard removed, and none that is not there."""

import re
from pathlib import Path

from tests.crashes import mutants as crashes
from tests.operations import test_rows as rows
from tests.streams import mutants as machine

TEXT = Path(__file__).parents[2] / "docs" / "reliability.md"
NETS = {
    2: {*machine.MUTANTS, *machine.ARCHIVE},
    3: {*rows.MUTANTS, *rows.SCRIPTS},
    4: set(crashes.MUTANTS),
}
"""By the column of the table that names them."""


def test_the_table_of_invariants_names_each_mutant_under_its_test() -> None:
    section = TEXT.read_text().partition("## Invariants")[2].partition("\n## ")[0]
    lines = [line.split("|") for line in section.splitlines() if line.startswith("| ")]
    for column, names in NETS.items():
        told = re.findall(r"`(\w+)`", " ".join(cells[column] for cells in lines))
        assert sorted(told) == sorted(names)
