"""Run a program that refuses root, from root, without touching the machine.

Started as a script: `python -I -S account.py <folder> <program> <arguments …>`; it replaces
itself by the program. As an ordinary user it does nothing else. As root it tries, in order:

1. a user namespace in which this process is an ordinary account. Outside it stays the owner of
   root's files, so a folder under /root (mode 700) works, and it has no capability any more;
2. where namespaces are forbidden (many containers): `setpriv` to that account, which is given
   the folder and keeps one capability, to pass through folders that are closed to it.

Not guaranteed on other systems than Linux, where root is told to start it as somebody else.
Only the standard library is imported: `-S` spares the 0.2 s of site-packages.
"""

import ctypes
import os
import pwd
import sys
from pathlib import Path
from typing import Final

_CLONE_NEWUSER: Final = 0x10000000
_NOBODY: Final = 65534


def command(folder: Path, program: list[str]) -> list[str]:
    """Make the command line that runs the program as somebody who is not root.

    Promise: the program may write in `folder` and keeps this process's pid and parent.
    """
    if os.geteuid() != 0:
        return program
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(folder), *program]


def _ordinary_account() -> pwd.struct_passwd:
    """Choose an account that the machine knows; 65534 also means "unmapped", so it is last."""
    accounts = sorted(pwd.getpwall(), key=lambda account: account.pw_uid)
    return next(
        (account for account in accounts if account.pw_uid not in {0, _NOBODY}), accounts[-1]
    )


def _enter_namespace(account: pwd.struct_passwd) -> None:
    """Become `account` inside a new user namespace. Raises: OSError where that is forbidden."""
    libc = ctypes.CDLL(None, use_errno=True)
    group_id = os.getegid()  # asked now: inside, before it is mapped, it reads as nobody's
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny", encoding="ascii")
    (own / "uid_map").write_text(f"{account.pw_uid} 0 1", encoding="ascii")
    (own / "gid_map").write_text(f"{account.pw_gid} {group_id} 1", encoding="ascii")


def _may_enter_namespace(account: pwd.struct_passwd) -> bool:
    """Try it in a child: a half-made namespace could not be left again."""
    child = os.fork()
    if child == 0:
        try:
            _enter_namespace(account)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _give(folder: Path, user_id: int, group_id: int) -> None:
    """Give the folder and what is in it, unless it has that owner already."""
    if folder.stat().st_uid == user_id:
        return
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            os.chown(Path(parent) / name, user_id, group_id, follow_symlinks=False)
    # The folder itself last: an interrupted walk is then repeated.
    os.chown(folder, user_id, group_id)


def main(folder: Path, program: list[str]) -> None:
    """Replace this process by the program, as an account that is not root."""
    account = _ordinary_account()
    if sys.platform == "linux" and _may_enter_namespace(account):
        _give(folder, 0, os.getegid())
        _enter_namespace(account)
    else:
        _give(folder, account.pw_uid, account.pw_gid)
        program = [
            "setpriv",
            f"--reuid={account.pw_uid}",
            f"--regid={account.pw_gid}",
            "--clear-groups",
            "--inh-caps=-all,+dac_override",
            "--ambient-caps=+dac_override",
            "--pdeathsig=KILL",  # a change of user clears what `launch` had asked for
            "--",
            *program,
        ]
    os.execvp(program[0], program)  # noqa: S606 — no shell is what we want


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
