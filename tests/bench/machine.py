"""The machine: what it is, and where on it things run.

Client and server talk several times faster on one core than across two (an idle core must wake
up), and unpinned it is anything between. So a run pins itself, and all it starts, to one core.
"""

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = (
    "redis",
    "hiredis",
    "celery",
    "uvicorn",
    "uvloop",
    "starlette",
    "fastapi",
    "psycopg",
)


def cores() -> tuple[int, int]:
    """Return the core everything shares and the one for a server measured alone."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[-1], ours[0]


def pin(process_id: int, core: int) -> None:
    """Keep a process, and what it starts from now on, on one core."""
    os.sched_setaffinity(process_id, {core})


def cpu_seconds(process_id: int) -> float:
    """Return the CPU time a process has used so far, all its OS threads together."""
    # What clock_getcpuclockid(3) returns; /proc counts in hundredths of a second.
    return time.clock_gettime(~process_id << 3 | 2)


def resident_kilobytes(process_id: int) -> int:
    """Return the memory a process holds now."""
    for line in Path(f"/proc/{process_id}/status").read_text("utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(process_id)


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def facts() -> dict[str, Any]:
    """Return what a reader needs to judge the figures."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "load": load(),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
