"""The same call twice: run it once, answer it the same.

Begin, run, then keep the answer, before anybody hears it. A process that dies in between
leaves a claim that ends by itself; the repeat runs the call again with the same reserved id, so
what was made is found and not made twice. Not here: entries, whose keys stand on their stream.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from dispatch import log
from dispatch.errors import ArbeError, Conflict
from dispatch.models.claims import Answered, Claim, OtherRequest, Scope, UnderWay
from dispatch.operations.record import Record
from dispatch.operations.sealing import Seal
from dispatch.stores.postgres import engine
from dispatch.stores.postgres import idempotency as stored

_log = log.get(__name__)
_MAX_BATCHES: Final = 100
"""Of one pass of the sweep; what is left waits for the next."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call under a key."""

    scope: Scope
    token: str
    """The text of the caller's bearer token; it seals the answer and is not stored."""
    key: str
    request: tuple[bytes, ...]
    """All that makes it this call: method, path, query, body."""


class Answer(msgspec.Struct, frozen=True):
    """What a call was answered, byte for byte."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


async def begin(record: Record, call: Call) -> Claim | Answer:
    """Return the right to run a call, or what it was answered when it ran before.

    Raises: Conflict: `key_reused` (another call had this key), `key_in_use` (under way: repeat
    it), `key_sealed` (answered to another token of this member); Unavailable.
    """
    async with engine.as_member(record.members, call.scope.member_id) as connection:
        found = await stored.claim(
            connection,
            scope=call.scope,
            key_digest=hashlib.sha256(call.key.encode()).digest(),
            request_digest=_digest(call.request),
            lease_seconds=record.settings.idempotency_lease_seconds,
            kept_seconds=record.settings.idempotency_seconds,
        )
    match found:
        case Claim():
            return found
        case Answered():
            return _opened(call, found)
        case UnderWay():
            raise stored.in_use(free_after_seconds=found.free_after_seconds)
        case OtherRequest():
            raise Conflict(
                "key_reused",
                "This Idempotency-Key was used for another call.",
                next_step="Choose a new key, or repeat the first call as it was.",
            )
        case _:
            assert_never(found)


async def keep(record: Record, call: Call, claim: Claim, answer: Answer) -> None:
    """Keep the answer of a call that was done; only then may anybody hear it.

    Raises: Conflict (`key_in_use`) if somebody else has taken the call over; Unavailable. The
    repeat hears what was kept, or runs the call again.
    """
    sealed = _seal(call, claim.reserved_id.bytes).close(msgspec.msgpack.encode(answer))
    async with engine.as_member(record.members, call.scope.member_id) as connection:
        kept = await stored.finish(connection, claim=claim, status=answer.status, sealed=sealed)
    if kept is False:
        raise stored.in_use(free_after_seconds=record.settings.idempotency_lease_seconds)


async def refuse(record: Record, claim: Claim, *, nothing_done: bool) -> None:
    """Let go of a call that was refused; a refusal is not kept.

    Promise: the same call may be repeated at once, with the same reserved id; if nothing was
    done the key is free for any call. Does not raise if Postgres is away: the claim then ends
    by its time.
    """
    let_go = stored.drop if nothing_done else stored.give_back
    try:
        async with engine.as_member(record.members, claim.scope.member_id) as connection:
            await let_go(connection, claim=claim)
    except ArbeError as cause:
        _log.warning("claim.not_released", cause=cause.code)


async def forget(record: Record) -> int:
    """Forget all keys that are older than `idempotency_seconds`, in batches; tell how many."""
    count = 0
    for _ in range(_MAX_BATCHES):
        async with engine.as_worker(record.projector) as connection:
            gone = await stored.delete_old(
                connection,
                older_than_seconds=record.settings.idempotency_seconds,
                limit=record.settings.sweep_batch,
            )
        count += gone
        if gone < record.settings.sweep_batch:
            break
    return count


def _opened(call: Call, found: Answered) -> Answer:
    text = _seal(call, found.reserved_id.bytes).open(found.sealed)
    if text is None:
        raise Conflict(
            "key_sealed",
            "This call was answered to another token of yours, and only that one can hear it "
            "again.",
            next_step="Repeat it with the token of the first call; what it made is there.",
        )
    return msgspec.msgpack.decode(text, type=Answer)


def _seal(call: Call, salt: bytes) -> Seal:
    return Seal(token=call.token, key=call.key, salt=salt)


def _digest(parts: Sequence[bytes]) -> bytes:
    """Return the SHA-256 of the parts; their lengths keep one from running into the next."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8))
        found.update(part)
    return found.digest()
