"""Run a program that dies with the process that started it, even on its kill -9.

Started as a script: `python -I -S launch.py <parent's pid> <program> <arguments …>`; it asks
the kernel for a SIGKILL at its parent's death and replaces itself by the program. The kernel
means the parent's OS *thread*, so the starter must not be a thread that ends early. Linux only:
elsewhere the program just runs. Only the standard library is imported.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def command(program: Sequence[str]) -> list[str]:
    """Make the command line that ties the program to this process."""
    script = str(Path(__file__).resolve())
    return [sys.executable, "-I", "-S", script, str(os.getpid()), *program]


def main(parent: int, program: list[str]) -> None:
    """Tie this process to its parent, then replace it by the program."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    # The parent may have died before we asked: then nobody would tell us any more.
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")
    os.execvp(program[0], program)  # noqa: S606 — no shell is what we want


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
