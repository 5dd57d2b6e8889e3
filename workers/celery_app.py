"""The Celery app of the workers: `celery -A workers.celery_app worker -P threads`.

Stock threads pool, early acks, no results: a message is a hint, the record holds the truth.
`acks_late` on a Redis broker re-runs long tasks at the visibility timeout, and a lost Redis
ends the worker process (Celery 5.7.0); neither can happen here.
"""

import logging
import signal
import sys
import threading
from typing import Any, Final

from celery import Celery, bootsteps, signals
from kombu.asynchronous import get_event_loop

import beat_schedule
from dispatch import log, transport
from dispatch.config import Settings
from workers import bootstrap, redis_broker

_log = log.get(__name__)
settings: Final = Settings()
THREAD_STACK_BYTES: Final = 256 * 1024
"""A pool thread only waits for a turn on the loop."""

SLOT_FREED_SECONDS: Final = (0.002, 0.02)
"""After a task's end its slot is free: at once, or on a loaded machine a little later."""

redis_broker.install()
app = Celery("arbe", include=["workers.tasks"])
app.conf.update(transport.celery_settings(settings))
app.conf.update(
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=transport.uses_redis(settings),
    worker_hijack_root_logger=False,
    task_queues=[
        transport.queue(name, is_redis=transport.uses_redis(settings))
        for name in settings.queues.split(",")
    ],
    task_create_missing_queues=True,
    beat_scheduler="workers.ticker:Ticker",
    beat_schedule={
        entry.name: {
            "task": entry.task,
            "schedule": entry.every_seconds,
            "options": {"expires": entry.expires_seconds, "queue": entry.queue},
        }
        for entry in beat_schedule.TIMETABLE
    },
)

process: Final = bootstrap.Process(settings)


class EarStep(bootsteps.StartStopStep):
    """Lets each consumer hear this process's own messages, beside its queues."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """Add the queue to a consumer that is about to consume; at each new connection."""
        parent.task_consumer.add_queue(process.ear.new_queue(slots=parent.pool.num_processes))


app.steps["consumer"].add(EarStep)


# worker_init comes before Celery's own set-up of logging, which then asks us again.
@signals.setup_logging.connect
@signals.worker_init.connect
@signals.beat_init.connect
def _log_our_way(**_: Any) -> None:
    process_name = "beat" if "beat" in sys.argv else "worker"
    log.configure(level=settings.log_level, as_json=settings.log_json, process=process_name)
    if settings.log_level != "DEBUG":
        # Celery's lines per task say less than ours and cost a fifth of its throughput.
        logging.getLogger("celery").setLevel(logging.WARNING)


@signals.worker_process_init.connect
@signals.worker_init.connect
def _start(**_: Any) -> None:
    threading.stack_size(THREAD_STACK_BYTES)
    process.start()


@signals.worker_ready.connect
def _ready(**_: Any) -> None:
    # Told by SIGQUIT, or twice by SIGINT, Celery ends tasks in a way that a pool of OS threads
    # does not know, and then waits for them without end. Here all three mean SIGTERM.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.getsignal(signal.SIGTERM))
    _log.info("worker.ready")


@signals.task_prerun.connect
def _hear(**_: Any) -> None:
    process.ear.hear()


@signals.task_postrun.connect
def _take_the_next(**_: Any) -> None:
    """Let a saturated worker look for its next hint now, not at kombu's next tick (0.5 s).

    With `worker_disable_prefetch` nothing else tells the hub that a slot is free. The slot is
    freed just after this signal, hence the delays; missing it costs no more than the tick.
    """
    hub = get_event_loop()
    if hub is not None and transport.uses_redis(settings):
        # `call_soon` alone may be called from a pool thread; it wakes the hub since kombu 5.7.
        hub.call_soon(_look_again, hub)


def _look_again(hub: Any) -> None:
    for delay_seconds in SLOT_FREED_SECONDS:
        hub.call_later(delay_seconds, _nothing)


def _nothing() -> None:
    """Do nothing: that the hub's poll returned is all."""


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    process.drain()


@signals.worker_shutdown.connect
def _stop(**_: Any) -> None:
    process.stop()
