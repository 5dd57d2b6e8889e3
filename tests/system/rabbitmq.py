"""A private RabbitMQ node: own folder, own ports, own epmd, nothing of the machine's."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from kombu import Connection
from kombu.exceptions import OperationalError

from dispatch.embedded import remembered
from tests.system.processes import wait_until

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
ACCOUNT = "rabbitmq"
"""Debian's account; its server refuses root, and so do we."""
START_SECONDS = 60.0
PR_SET_PDEATHSIG = 1
CONSUMER_TIMEOUT_MS = 5_000
"""An unacknowledged message older than this ends its consumer; by default 30 minutes."""


def why_not() -> str:
    """Tell why no node can run here; empty if one can."""
    if not SERVER.exists() or shutil.which("epmd") is None:
        return "RabbitMQ is not installed: apt-get install rabbitmq-server"
    return ""


def _die_with_the_tests() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class RabbitMQ:
    """One node; `start`, `stop` (a crash or a clean end), `start` again with the same data."""

    folder: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(prefix="arbe-rabbitmq-", dir="/tmp"))
    )
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port = remembered.choose_port(self.folder / "port")
        self.epmd_port = remembered.choose_port(self.folder / "epmd")
        self.dist_port = remembered.choose_port(self.folder / "dist")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\n"
            f"consumer_timeout = {CONSUMER_TIMEOUT_MS}\n"
            "vm_memory_high_watermark.absolute = 512MB\n"
            "disk_free_limit.absolute = 1MB\n"
        )
        (self.folder / "advanced.config").write_text(
            "[{rabbit, [{channel_tick_interval, 1000}]}].\n"
        )
        (self.folder / "enabled_plugins").write_text("[].\n")
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, ACCOUNT, ACCOUNT)

    @property
    def url(self) -> str:
        """Return the address of the default vhost."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start the node and wait until it answers."""
        if "epmd" not in self.running:
            self._launch("epmd", "epmd", "-port", str(self.epmd_port))
        self._launch("node", str(SERVER))
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self.running["node"].poll() is not None:
                raise AssertionError(f"RabbitMQ did not start:\n{self.log()[-3000:]}")
            time.sleep(0.1)

    def stop(self, *, by: signal.Signals = signal.SIGKILL) -> None:
        """End the node, not its epmd."""
        self._end("node", by)
        wait_until(lambda: not self._listens())

    def end(self) -> None:
        """End everything and forget the data."""
        for name in tuple(self.running):
            self._end(name, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """Return what the node printed."""
        return (self.folder / "out").read_text(errors="replace")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _answers(self) -> bool:
        if not self._listens():
            return False
        try:
            with Connection(self.url, connect_timeout=5) as connection:
                connection.ensure_connection(max_retries=3, interval_start=0.2)
        except OperationalError:
            return False
        return True

    def _launch(self, name: str, *command: str) -> None:
        account = {"user": ACCOUNT, "group": ACCOUNT} if os.geteuid() == 0 else {}
        with (self.folder / "out").open("ab") as output:
            self.running[name] = subprocess.Popen(
                command,
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_the_tests,  # noqa: PLW1509 - it only calls prctl
                **account,
            )

    def _end(self, name: str, by: signal.Signals) -> None:
        process = self.running.pop(name)
        # The node's helpers (erl_child_setup, inet_gethost) share its session.
        if process.poll() is None:
            os.killpg(process.pid, by)
            process.wait(30)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # As under systemd the script then becomes the node, rather than waits for it.
            "NOTIFY_SOCKET": str(self.folder / "nobody"),
            "RABBITMQ_NODENAME": f"arbe{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
        }
