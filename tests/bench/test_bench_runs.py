"""The benches run, so that they cannot rot; their figures are nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 300


def test_every_bench_still_runs_and_reports(tmp_path: Path) -> None:
    report = tmp_path / "bench.json"

    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--json", str(report)],
        cwd=ROOT,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stderr.decode()
    rows = json.loads(report.read_text("utf-8"))["rows"]
    assert all(len(row["rounds"]) == 2 for row in rows)
