"""Calls under an Idempotency-Key: whose key it is, who is at the call, what it found. Values.

Not guaranteed here: anything about time. Postgres's clock says when a claim ends.
"""

import uuid
from typing import Final

import msgspec

from dispatch import ids
from dispatch.ids import HouseId, MemberId

OPERATOR: Final = MemberId(uuid.UUID(int=0))
"""Stands for the operator, who is no member of any house."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Within what a key means one call: a member's, or the operator's calls."""

    member_id: MemberId
    house_id: HouseId | None = None
    """None: the operator's."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The right to run a call under a key, until it ends or somebody takes it over."""

    scope: Scope
    key_digest: bytes
    claim_id: uuid.UUID
    reserved_id: uuid.UUID
    """The id of the row this call makes, the same in every attempt at it."""
    is_repeat: bool
    """An attempt before this one may have done all or nothing of it."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The call was made before."""

    reserved_id: uuid.UUID
    sealed: bytes


class UnderWay(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody is at the call, or died at it; after so many seconds it can be taken over."""

    free_after_seconds: float


class OtherRequest(msgspec.Struct, frozen=True):
    """The key was used for another call."""


Found = Claim | Answered | UnderWay | OtherRequest


class NewId(msgspec.Struct, frozen=True):
    """The id of a row that a call is about to make, and the claim that reserved it, if any."""

    id: uuid.UUID
    claim: Claim | None = None

    @property
    def may_exist(self) -> bool:
        """Tell whether an earlier attempt may have made the row already."""
        return self.claim is not None and self.claim.is_repeat


def fresh() -> NewId:
    """Choose an id that nobody reserved: the call runs once, or once more as another call."""
    return NewId(ids.uuid7())


def reserved(claim: Claim) -> NewId:
    """Return the id that every attempt at a claimed call uses."""
    return NewId(claim.reserved_id, claim)
