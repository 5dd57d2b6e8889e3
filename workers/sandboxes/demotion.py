"""A root worker's way down: its commands run as a user that owns nothing.

To the kernel a command inside a user namespace is the user that made it. Root's would own the
kernel's own files, and the kernel does not bound root's processes at all.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import msgspec

# The workspace may lie in folders only root enters: a private mount brings it within reach.
_STEP_DOWN: Final = 'unset PWD; mount --bind "$1" "$2" && shift 2 && exec "$@"'
_MOUNT_POINTS: Final = ("/mnt", "/media", "/srv", "/opt")
_OWN_SECONDS: Final = 60.0


class Demotion(msgspec.Struct, frozen=True):
    """Steps down from root before anything of the command starts."""

    unshare: str
    setpriv: str
    uid: int
    mount_point: str
    """Covered for the command's ancestors alone, in a mount namespace of theirs."""

    def arguments(self, workspace: Path) -> tuple[str, ...]:
        """Return what stands before a command line whose workspace is at `mount_point`."""
        down = ("--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups")
        return (
            *(self.unshare, "--mount", "--propagation", "slave"),
            *("/bin/sh", "-c", _STEP_DOWN, "sh", str(workspace), self.mount_point),
            *(self.setpriv, *down, "--no-new-privs", "--pdeathsig", "KILL"),
        )

    def own(self, workspace: Path) -> None:
        """Give the workspace to the user; links are given, never followed.

        Raises: OSError.
        """
        if workspace.lstat().st_uid == self.uid:
            return
        owner = f"{self.uid}:{self.uid}"
        try:
            subprocess.run(  # noqa: S603 - our own arguments
                ("/bin/chown", "-R", "-P", "-h", owner, "--", str(workspace)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_OWN_SECONDS,
                check=True,
            )
        except subprocess.SubprocessError as problem:
            raise OSError(str(problem)) from problem


def find(uid: int) -> Demotion | None:
    """Return the way down, None when this process is not root or lacks the programs."""
    unshare, setpriv = shutil.which("unshare"), shutil.which("setpriv")
    points = [each for each in _MOUNT_POINTS if Path(each).is_dir()]
    if os.geteuid() != 0 or unshare is None or setpriv is None or not points:
        return None
    return Demotion(unshare, setpriv, uid, points[0])
