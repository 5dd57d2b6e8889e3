"""Dispatches and repairs over HTTP: look, diagnose, reconcile, prune."""

from http import HTTPStatus
from typing import Annotated

import msgspec
from fastapi import APIRouter, Body, Path

from dispatch.api import problems
from dispatch.api.auth import Held, Who
from dispatch.api.keyed import KeyedRoute
from dispatch.api.routes import Ref
from dispatch.api.shapes.diagnosis import DiagnosisAnswer
from dispatch.api.shapes.dispatches import (
    DispatchAnswer,
    Prune,
    PruneAnswer,
    ReconcileAnswer,
)
from dispatch.ids import DispatchId
from dispatch.operations import authorize, diagnose, dispatches, prune, reconcile, refs

router = APIRouter(prefix="/threads", tags=["dispatches"], route_class=KeyedRoute)
_DispatchRef = Annotated[str, Path(description="`<entry id>.<i>`, as the POST answered.")]


@router.post(
    "/prune",
    summary="Repair all threads of the house that say `running`",
    responses=problems.responses(),
)
async def prune_threads(
    who: Who, record: Held, body: Annotated[Prune | None, Body()] = None
) -> PruneAnswer:
    """Reconcile stranded rows, delete those without a stream, finish deletions.

    A dry run only counts.
    """
    wanted = body or Prune()
    counts = await prune.prune(record, who=who, dry_run=wanted.dry_run)
    return PruneAnswer(
        checked=counts["checked"],
        repaired=counts["repaired"],
        orphans=counts["orphans"],
        deletions=counts["deletions"],
        unavailable=counts["unavailable"],
        dry_run=wanted.dry_run,
    )


@router.get(
    "/{ref}/dispatches/{dispatch_id}",
    summary="Read a dispatch",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def get_dispatch(
    ref: Ref, dispatch_id: _DispatchRef, who: Who, record: Held
) -> DispatchAnswer:
    """Say how a turn stands."""
    thread_id = await refs.thread(record, who, ref)
    found = await dispatches.get(record, who, thread_id, DispatchId(dispatch_id))
    return DispatchAnswer.model_validate(msgspec.to_builtins(found), by_alias=True)


@router.get(
    "/{ref}/diagnose",
    summary="Say where the last dispatch stands and why",
    response_model_exclude_none=True,
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def diagnose_thread(ref: Ref, who: Who, record: Held) -> DiagnosisAnswer:
    """Read only: repairs nothing."""
    thread_id = await refs.thread(record, who, ref)
    found = await diagnose.diagnose(record, who, thread_id)
    return DiagnosisAnswer.model_validate(msgspec.to_builtins(found), by_alias=True)


@router.post(
    "/{ref}/reconcile",
    summary="Repair one thread",
    responses=problems.responses(HTTPStatus.NOT_FOUND, HTTPStatus.GONE),
)
async def reconcile_thread(ref: Ref, who: Who, record: Held) -> ReconcileAnswer:
    """End what its clocks say is over, bring the row up to the stream, and say what changed."""
    thread_id = await refs.thread(record, who, ref)
    await authorize.thread(record, who, thread_id, fresh=True)
    done = await reconcile.reconcile(record, thread_id)
    return ReconcileAnswer(before=done.before, after=done.after, changed=done.changed)
