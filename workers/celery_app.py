"""The Celery app of the workers: `celery -A workers.celery_app worker -P threads`.

Stock threads pool, early acks, no results: a message is a hint, the record holds the truth.
`acks_late` on a Redis broker re-runs long tasks at the visibility timeout, and a lost Redis
ends the worker process (Celery 5.7.0); neither can happen here.
"""

import logging
import sys
import threading
from typing import Any, Final

from celery import Celery, signals

import beat_schedule
from dispatch import log, transport
from dispatch.config import Settings
from workers import bootstrap

settings: Final = Settings()
THREAD_STACK_BYTES: Final = 256 * 1024
"""A pool thread only waits for a turn on the loop."""

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


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    process.drain()


@signals.worker_shutdown.connect
def _stop(**_: Any) -> None:
    process.stop()
