"""The whole, diagnosed, over HTTP; one thread's diagnosis stands with its dispatches."""

import msgspec
from fastapi import APIRouter, Response

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.routes import Cursor, Limit
from dispatch.api.shapes.fleet import FleetAnswer
from dispatch.operations import diagnose_fleet

router = APIRouter(tags=["health"])


@router.get(
    "/diagnose",
    summary="Say how servers, workers, sweeps and the house's threads stand",
    response_model_exclude_none=True,
    responses=problems.responses(),
)
async def diagnose_whole(
    who: Who, record: Held, response: Response, limit: Limit = None, cursor: Cursor = None
) -> FleetAnswer:
    """Read only; of other houses only numbers. `limit` pages `threads.listed`."""
    found = await diagnose_fleet.diagnose_fleet(record, who, cursor=cursor, limit=limit)
    response.headers["Cache-Control"] = "no-store"
    return FleetAnswer.model_validate(msgspec.to_builtins(found), by_alias=True)
