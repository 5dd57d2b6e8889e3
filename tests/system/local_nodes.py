"""pytest-celery's containers as processes of this machine: no Docker, the real worker command.

The plugin's nodes only ask a container for its name, its logs and its life; so everything above
(clusters, `celery_setup`, `kill`, `restart`, `assert_log_exists`) is the plugin's own.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis
from pytest_celery import CeleryWorkerContainer, RabbitMQContainer, RedisContainer

from dispatch.embedded.redis import Redis
from tests.system.processes import STOP_SECONDS, wait_until
from tests.system.rabbitmq import RabbitMQ


class LocalRedis(RedisContainer):
    """A private Redis that the tests may kill."""

    def __init__(self, server: Redis) -> None:
        # The parent's constructor wants Docker's container, and so does no method used here.
        self.server = server
        self.life = _Life(server.directory / "log", tuple(server.command()))
        self.life.start()

    name = id = "redis-broker"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.server.url, "host_url": self.server.url}

    @property
    def status(self) -> str:
        return self.life.status

    def ready(self) -> bool:
        wait_until(self._answers)
        return True

    def logs(self) -> str:
        return self.life.logs()

    def kill(self, signal: str | int | None = None) -> None:
        self.life.kill(signal)

    def restart(self, **_: Any) -> None:
        self.life.end()
        self.life.start()
        self.ready()

    def reload(self) -> None:
        """Nothing is cached."""

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.server.url) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class LocalRabbitMQ(RabbitMQContainer):
    """The session's RabbitMQ node."""

    def __init__(self, node: RabbitMQ) -> None:
        self.node = node

    name = id = "rabbitmq-broker"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.node.url, "host_url": self.node.url}

    @property
    def status(self) -> str:
        return "running" if "node" in self.node.running else "exited"

    def ready(self) -> bool:
        return self.status == "running"

    def logs(self) -> str:
        return self.node.log()

    def kill(self, signal: str | int | None = None) -> None:
        self.node.stop(by=_number(signal))

    def restart(self, **_: Any) -> None:
        if self.status == "running":
            self.node.stop()
        self.node.start()

    def reload(self) -> None:
        """Nothing is cached."""


class LocalWorker(CeleryWorkerContainer):
    """`celery -A workers.celery_app worker`, as the plugin's command fixture spells it."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.life = _Life(folder / "worker.log", tuple(command), environment)
        self.life.start()

    name = id = "arbe-worker-1"

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        return [
            *(sys.executable, "-m", "celery", "-q", "-A", "workers.celery_app", "worker"),
            *("-P", "threads", "-c", "10", "--without-gossip", "--without-mingle"),
            *("-n", f"{cls.worker_name()}@{cls.id}", "-l", "WARNING", *args),
        ]

    @property
    def ready_prompt(self) -> str:
        # Remote control is off: nobody on the broker can ping a worker, or shut it down.
        return "worker.ready"

    @property
    def status(self) -> str:
        return self.life.status

    def ready(self) -> bool:
        wait_until(lambda: self.ready_prompt in self.life.logs_of_this_start())
        return True

    def logs(self) -> str:
        return self.life.logs()

    def kill(self, signal: str | int | None = None) -> None:
        self.life.kill(signal)

    def restart(self, **_: Any) -> None:
        self.life.end()
        self.life.start()
        self.ready()

    def reload(self) -> None:
        """Nothing is cached."""

    def teardown(self) -> None:
        self.life.end(by=signal.SIGKILL)


class _Life:
    """One program that is started, killed and started again; its output is one file."""

    def __init__(
        self, log: Path, command: tuple[str, ...], environment: dict[str, str] | None = None
    ) -> None:
        self.log = log
        self.command = command
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None
        self.began_at = 0

    @property
    def status(self) -> str:
        alive = self.process is not None and self.process.poll() is None
        return "running" if alive else "exited"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        self.began_at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **(self.environment or {})},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self, by: str | int | None) -> None:
        if self.status == "running":
            assert self.process is not None
            self.process.send_signal(_number(by))
            if _number(by) not in {signal.SIGSTOP, signal.SIGCONT}:
                self.process.wait(STOP_SECONDS)

    def end(self, *, by: signal.Signals = signal.SIGTERM) -> None:
        self.kill(by)

    def logs(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def logs_of_this_start(self) -> str:
        return self.log.read_bytes()[self.began_at :].decode(errors="replace")


def _number(by: str | int | None) -> signal.Signals:
    if isinstance(by, str):
        return signal.Signals[by]
    return signal.Signals(by or signal.SIGKILL)
