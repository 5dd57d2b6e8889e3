"""The workers' Celery app, its keeper broken: `celery -A tests.system.broken worker`."""

from typing import NoReturn

from workers.celery_app import app
from workers.sweeps import redeliver

__all__ = ["app"]


async def _sweep(_record: object) -> NoReturn:
    raise TypeError("a bug in the keeper")


redeliver.sweep = _sweep
