"""One short round of the campaign; the long ones are `make chaos`."""

import shutil
import tempfile
from pathlib import Path

from tests.chaos import plan, report
from tests.chaos.round import open_round
from tests.chaos.verdict import Options

SHORT = Options(seed=3, seconds=16.0, kills=8)


async def test_no_promise_is_broken_while_every_kind_of_process_is_killed() -> None:
    folder = Path(tempfile.mkdtemp(prefix="arbe-chaos-", dir="/tmp"))
    async with open_round(SHORT, folder) as round_:
        verdict = await round_.play()
    assert not verdict.violations, report.histories(verdict)
    assert sum(verdict.kills.values()) >= SHORT.kills
    for family, names in plan.FAMILIES.items():
        assert any(verdict.kills[name] for name in names), f"no {family} was killed"
    assert verdict.terminals["completed"] > 0
    # Kept when the round was lost: logs tell more than the streams.
    shutil.rmtree(folder, ignore_errors=True)


def test_the_same_seed_makes_the_same_plan() -> None:
    once = plan.make(5, seconds=60.0, kills=20)
    assert once == plan.make(5, seconds=60.0, kills=20)
    assert once != plan.make(6, seconds=60.0, kills=20)
    assert sum(fault.kind == "kill" for fault in once) == 20
