"""What may stand on a stream: one tagged union on `type`, its codec and its predicates.

A payload of a type this version does not know decodes to `Unknown`, never to an error: during a
rolling upgrade old readers meet new writers. Bytes pass from writer to follower untouched; only
code that looks inside decodes.
"""

from typing import Final, TypeAlias, TypeGuard

import msgspec

from dispatch.errors import Invalid
from dispatch.payloads.chat import Chat
from dispatch.payloads.llm import Assistant, Chunk, Compaction, ToolResult
from dispatch.payloads.signals import (
    Cancelled,
    CancelRequested,
    Checkpoint,
    Completed,
    Delegated,
    DelegationEnded,
    EntryWritten,
    Failed,
    FellThrough,
    Heartbeat,
    HopLimit,
    HouseAgentCreated,
    HouseAgentDeleted,
    HouseRenamed,
    NoProgress,
    PermissionDenied,
    PermissionExpired,
    PermissionGranted,
    PermissionRequested,
    Queued,
    Released,
    Resumed,
    Retrying,
    RolledBack,
    RunLost,
    SessionOrphaned,
    Signal,
    Started,
    Steered,
    StreamRollback,
    ThreadCreated,
    ThreadRenamed,
    Waiting,
)


class Unknown(msgspec.Struct, frozen=True):
    """A payload of a newer version: its type and its bytes."""

    type: str
    raw: bytes


ChatPayload: TypeAlias = Chat
LLMPayload: TypeAlias = Chunk | Assistant | ToolResult | Compaction
SignalPayload: TypeAlias = (
    ThreadCreated
    | ThreadRenamed
    | StreamRollback
    | SessionOrphaned
    | EntryWritten
    | HouseAgentCreated
    | HouseAgentDeleted
    | HouseRenamed
    | Queued
    | Started
    | Heartbeat
    | Released
    | RunLost
    | Checkpoint
    | Steered
    | FellThrough
    | RolledBack
    | HopLimit
    | NoProgress
    | Waiting
    | Resumed
    | PermissionRequested
    | PermissionGranted
    | PermissionDenied
    | PermissionExpired
    | Delegated
    | DelegationEnded
    | Retrying
    | CancelRequested
    | Completed
    | Failed
    | Cancelled
)
KnownPayload: TypeAlias = ChatPayload | LLMPayload | SignalPayload
Payload: TypeAlias = KnownPayload | Unknown

_decoder: Final = msgspec.json.Decoder(KnownPayload)
_encoder: Final = msgspec.json.Encoder()


class _Tagged(msgspec.Struct):
    type: str


_tag_decoder: Final = msgspec.json.Decoder(_Tagged)


def encode(payload: KnownPayload) -> bytes:
    """Return the payload's JSON, compact, as it stands on the stream."""
    return _encoder.encode(payload)


def decode(raw: bytes) -> Payload:
    """Read a payload's JSON.

    Raises: Invalid, if it is not a JSON object with a `type`, or a known type of a wrong shape.
    """
    try:
        known: KnownPayload = _decoder.decode(raw)
    except msgspec.ValidationError as error:
        kind = _type_of(raw, error)
        if kind in KNOWN_TYPES:
            raise Invalid(f"Payload of type '{kind}' has a wrong shape: {error}.") from error
        return Unknown(kind, raw)
    except msgspec.DecodeError as error:
        raise Invalid(f"Payload is not valid JSON: {error}.") from error
    return known


def _type_of(raw: bytes, error: msgspec.ValidationError) -> str:
    try:
        return _tag_decoder.decode(raw).type
    except msgspec.ValidationError:
        raise Invalid("Payload has no `type`.") from error


def type_of(payload: Payload) -> str:
    """Return the payload's `type` word."""
    if isinstance(payload, Unknown):
        return payload.type
    return str(payload.__struct_config__.tag)


KNOWN_TYPES: Final = frozenset(
    str(struct.__struct_config__.tag)
    for struct in (
        Chat, Chunk, Assistant, ToolResult, Compaction, ThreadCreated, ThreadRenamed,
        StreamRollback, SessionOrphaned, EntryWritten, HouseAgentCreated, HouseAgentDeleted,
        HouseRenamed, Queued, Started, Heartbeat, Released, RunLost, Checkpoint, Steered,
        FellThrough, RolledBack, HopLimit, NoProgress, Waiting, Resumed, PermissionRequested,
        PermissionGranted, PermissionDenied, PermissionExpired, Delegated,
        DelegationEnded, Retrying, CancelRequested, Completed, Failed, Cancelled,
    )
)  # fmt: skip


def is_chat_payload(payload: Payload) -> TypeGuard[ChatPayload]:
    """Tell whether people or bots said this."""
    return isinstance(payload, Chat)


def is_llm_payload(payload: Payload) -> bool:
    """Tell whether an agent's model or tools produced this (`pi.*`)."""
    return type_of(payload).startswith("pi.")


def is_signal_payload(payload: Payload) -> bool:
    """Tell whether this narrates what happened (`signal.*`)."""
    return isinstance(payload, Signal) or type_of(payload).startswith("signal.")


def is_ephemeral(payload: Payload) -> bool:
    """Tell whether the entry may later vanish: chunks and heartbeats, which carry no `seq`."""
    return isinstance(payload, Chunk | Heartbeat)


def is_effect(payload: Payload) -> bool:
    """Tell whether a follower may have acted on this, so that the turn must not be repeated."""
    return is_llm_payload(payload) or isinstance(payload, Steered)
