"""Run one round and judge it: `python -m tests.chaos --help`. Exits with 1 on a violation."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos import breaks, report, servers
from tests.chaos.round import open_round
from tests.chaos.verdict import Options, Verdict


def tell(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    arguments = _arguments()
    options = Options(
        seed=arguments.seed,
        seconds=arguments.seconds,
        kills=arguments.kills,
        broker=arguments.broker,
        forgets=arguments.forgets,
        broken=arguments.broken,
    )
    reason = servers.why_not(options.broker)
    if reason:
        sys.exit(reason)
    for fault in options.plan():
        tell(fault)
    folder = Path(tempfile.mkdtemp(prefix="arbe-chaos-", dir="/tmp"))
    # Other accounts of the machine run some of the servers.
    folder.chmod(0o755)
    verdict = asyncio.run(_play(options, folder))
    tell(report.as_markdown(verdict))
    if arguments.report is not None:
        report.write(verdict, arguments.report)
    if verdict.violations:
        tell(report.histories(verdict))
        sys.exit(f"{len(verdict.violations)} violations; logs in {folder}")
    if not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)


async def _play(options: Options, folder: Path) -> Verdict:
    async with open_round(options, folder) as round_:
        return await round_.play()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0, help="of the storm")
    parser.add_argument("--kills", type=int, default=30, help="real SIGKILLs in the storm")
    parser.add_argument(
        "--forgets", type=int, default=0, help="times that Redis loses its last moments, too"
    )
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--report", type=Path, metavar="PATH", help="writes PATH.md, PATH.json")
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    parser.add_argument(
        "--break",
        dest="broken",
        choices=sorted(breaks.BREAKS),
        default="",
        help="take a guard away, to see the checker bite",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
