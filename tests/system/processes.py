"""The real processes of a system, as children of the test run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dispatch.config import Settings

STOP_SECONDS = 60.0
SHORT_CLOCKS = {
    "ARBE_HEARTBEAT_SECONDS": "0.5",
    "ARBE_WORKER_DEAD_SECONDS": "2",
    "ARBE_LEASE_SECONDS": "6",
    "ARBE_REDELIVER_AFTER_SECONDS": "1",
    "ARBE_RETRY_BACKOFF_SECONDS": "0.1",
    "ARBE_KEEPER_SECONDS": "1",
    "ARBE_DRAIN_SECONDS": "2",
    "ARBE_CANCEL_GRACE_SECONDS": "3",
}
"""The relations of the defaults at a tenth of their lengths, so that tests see ends."""


def wait_until(holds: Callable[[], bool], *, timeout_seconds: float = 60.0) -> None:
    """Look until it holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds:g} s: {holds.__qualname__}")
        time.sleep(0.05)


@dataclass
class Processes:
    """Starts and ends API, workers and beats of one system."""

    settings: Settings
    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start `python -m …` with the system's servers in its environment."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env={**os.environ, **self.environment(), **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def start_worker(
        self, *, queues: str = "", concurrency: int = 20, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker process."""
        return self.start(
            *("celery", "-q", "-A", "workers.celery_app", "worker", "-P", "threads"),
            *("-c", str(concurrency), "--without-gossip", "--without-mingle", "-l", "WARNING"),
            *(("-Q", queues) if queues else ()),
            **environment,
        )

    def start_beat(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a beat process."""
        return self.start(
            *("celery", "-q", "-A", "workers.celery_app", "beat", "-l", "WARNING"),
            *("-s", str(self.folder / f"beat-{len(self.running)}"), "--pidfile="),
            **environment,
        )

    def end(self, process: subprocess.Popen[bytes], *, by: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        process.send_signal(by)
        return process.wait(STOP_SECONDS)

    def end_all(self) -> None:
        """End what is left."""
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait(STOP_SECONDS)

    def environment(self) -> dict[str, str]:
        """Return what every process of the system is told."""
        return {
            **SHORT_CLOCKS,
            "DATABASE_URL": self.settings.database_url.get_secret_value(),
            "STREAM_URL": self.settings.stream_url.get_secret_value(),
            "BROKER_URL": self.settings.broker_url.get_secret_value(),
            "ARBE_WORKSPACE_ROOT": str(self.folder / "workspaces"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }


def is_healthy(processes: Processes) -> bool:
    """Ask as a container's health check does."""
    command = [sys.executable, "-m", "workers.check_health"]
    return not subprocess.run(
        command, env={**os.environ, **processes.environment()}, check=False
    ).returncode
