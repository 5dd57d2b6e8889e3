"""Whether this process is able to serve."""

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Response

from dispatch.api.auth import Held
from dispatch.api.shapes.dispatches import HealthAnswer
from dispatch.operations import check_health

router = APIRouter(tags=["health"])


@router.get(
    "/health",
    summary="Say whether Redis, Postgres and the broker answer",
    responses={
        503: {"model": HealthAnswer, "description": "Redis or Postgres does not answer."}
    },
)
async def get_health(record: Held, response: Response) -> HealthAnswer:
    """Answer 200 while requests can be served; a dead broker only delays turns."""
    health = await check_health.check_health(record)
    status: Literal["ok", "degraded", "down"] = "ok" if health.broker == "up" else "degraded"
    if not health.is_serving:
        status = "down"
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    response.headers["Cache-Control"] = "no-store"
    return HealthAnswer(
        status=status, redis=health.redis, postgres=health.postgres, broker=health.broker
    )
