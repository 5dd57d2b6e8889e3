"""Becomes the program in its arguments, which Linux then kills when its parent dies.

Runs as a script: `launcher.py <parent's pid> <program> <argument>…`. It stands between because
`preexec_fn` may deadlock in a process with OS threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Set the death signal and replace this process."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It died before the signal was set.
        sys.exit(1)
    os.execv(program, sys.argv[2:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
