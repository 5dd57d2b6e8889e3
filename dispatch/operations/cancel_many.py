"""Cancel what hangs together: a dispatch with what works for it, a thread, a whole house.

What is asked stands in a row of `cancellations` before anything is answered. Most of it is
worked off within the request; what is left, a sweep goes on with. `reserved` is the row's id
where the call has an Idempotency-Key: its repeat finds that row.
"""

from collections.abc import Collection

import msgspec

from dispatch import log
from dispatch.errors import Unavailable
from dispatch.ids import CancellationId, DispatchId, ThreadId
from dispatch.models import claims
from dispatch.models.cancellations import Cancellation, NewCancellation
from dispatch.models.claims import NewId
from dispatch.models.houses import Caller
from dispatch.models.threads import ThreadStatus
from dispatch.operations import (
    authorize,
    dispatches,
    labels,
    rights,
    status_guard,
    walk_cancellation,
)
from dispatch.operations.record import Record
from dispatch.stores.postgres import cancellations, engine, idempotency
from dispatch.streams import lanes

_log = log.get(__name__)


class CancelledDispatch(msgspec.Struct, frozen=True, kw_only=True):
    """How a dispatch answered, and the cancel of what works for it; None: nothing does."""

    status: str
    cancellation: Cancellation | None = None


async def cancel_dispatch(
    record: Record,
    who: Caller,
    thread_id: ThreadId,
    dispatch_id: DispatchId,
    *,
    message: str | None = None,
    cascade: bool = True,
    if_status: Collection[ThreadStatus] = (),
    reserved: NewId | None = None,
) -> CancelledDispatch:
    """Cancel one dispatch, and what works for it: as `dispatches.cancel`, then below it.

    Promise: a dispatch for which nothing works costs one look at an index more. A repeat
    converges, also after a death between the two. One that had ended otherwise is left alone,
    and what worked for it too.
    Raises: NotFound, Gone, Invalid (message), Conflict (`status_mismatch`), Unavailable.
    """
    labels.reason(message)
    await status_guard.check(record, who, thread_id, if_status)
    status = await dispatches.cancel(record, who, thread_id, dispatch_id, message=message)
    if not cascade or status not in {"cancelled", "requested"}:
        return CancelledDispatch(status=status)
    async with engine.as_member(record.members, who.member_id) as connection:
        is_worked_for = await cancellations.has_children(
            connection, thread_id=thread_id, dispatch_id=dispatch_id
        )
    if not is_worked_for:
        return CancelledDispatch(status=status)
    new, new_id = await _new(record, who, message, reserved)
    new = msgspec.structs.replace(
        new,
        thread_id=thread_id,
        dispatch_id=dispatch_id,
        is_last_walk=status == "cancelled",
    )
    asked = await _ask(record, who, new, new_id)
    return CancelledDispatch(status=status, cancellation=asked)


async def cancel_thread(
    record: Record,
    who: Caller,
    thread_id: ThreadId,
    *,
    message: str | None = None,
    cascade: bool = True,
    if_status: Collection[ThreadStatus] = (),
    reserved: NewId | None = None,
) -> Cancellation:
    """Cancel every dispatch of a thread that is open now, and of all threads below it.

    Args: cascade: False leaves the threads below alone.
    Raises: NotFound, Gone, Invalid (message), Conflict (`status_mismatch`), Unavailable.
    """
    await authorize.thread(record, who, thread_id, fresh=True)
    await status_guard.check(record, who, thread_id, if_status)
    new, new_id = await _new(record, who, message, reserved)
    new = msgspec.structs.replace(new, thread_id=thread_id, cascade=cascade)
    return await _ask(record, who, new, new_id)


async def cancel_house(
    record: Record,
    who: Caller,
    *,
    message: str | None = None,
    tag: str | None = None,
    reserved: NewId | None = None,
) -> Cancellation:
    """Cancel every dispatch of the house that is open now: an owner's right.

    Args: tag: only in threads with this tag, and in all below those.
    Raises: Forbidden, Invalid, Unavailable.
    """
    rights.require_owner(who, "cancel the work of all its threads")
    tags = [] if tag is None else labels.tags([tag], record.settings)
    new, new_id = await _new(record, who, message, reserved)
    new = msgspec.structs.replace(new, tag=tags[0] if tags else None)
    return await _ask(record, who, new, new_id)


async def get(record: Record, who: Caller, cancellation_id: CancellationId) -> Cancellation:
    """Return how far a cancel of the caller's house has come.

    Raises: NotFound.
    """
    async with engine.as_member(record.members, who.member_id) as connection:
        return await cancellations.get(connection, cancellation_id=cancellation_id)


async def _new(
    record: Record, who: Caller, message: str | None, reserved: NewId | None
) -> tuple[NewCancellation, NewId]:
    new_id = reserved or claims.fresh()
    new = NewCancellation(
        id=CancellationId(new_id.id),
        house_id=who.house_id,
        by_kind="member",
        by_id=str(who.member_id),
        by_name=who.name,
        message=labels.reason(message),
        before_ms=await lanes.now_ms(record.connection),
    )
    return new, new_id


async def _ask(
    record: Record, who: Caller, new: NewCancellation, new_id: NewId
) -> Cancellation:
    """Write down what is owed, then work at it for a moment."""
    async with engine.as_member(record.members, who.member_id) as connection:
        await idempotency.hold(connection, new=new_id)
        owed, is_held = await cancellations.insert(
            connection, new=new, hold_seconds=walk_cancellation.HOLD_SECONDS
        )
    if not is_held:
        return owed
    try:
        return await walk_cancellation.work(
            record, owed, seconds=record.settings.cancel_request_seconds
        )
    except Unavailable as error:
        # It is owed: the answer is true without the work.
        _log.warning("cancellation.left", cancellation_id=str(owed.id), cause=error.server)
        return owed
