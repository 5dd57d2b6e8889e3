"""Accept an entry: the one way work begins.

The entry is accepted when the script answers. The hint after it may be lost: the lane stands in
the due index, and a sweep rings again.
"""

import asyncio
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from dispatch.config import Settings
from dispatch.errors import Conflict, Gone, Invalid, NotFound, TooLarge
from dispatch.ids import EntryId, ThreadId
from dispatch.models import mentions
from dispatch.models.houses import Caller, WhenBusy
from dispatch.models.threads import Listener, ThreadAccess, ThreadStatus
from dispatch.operations import authorize, cascade, labels, open_stream
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author, Chat, Delegator
from dispatch.streams import threads as streams
from dispatch.streams.threads import Accepted, Lane, Terms
from dispatch.transport import Hint


class Draft(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a poster sends. `mentions`: agent handles, with or without `@`."""

    text: str
    mentions: tuple[str, ...] = ()
    parts: tuple[dict[str, Any], ...] = ()
    when_busy: WhenBusy | None = None
    """What becomes of it where the agent is busy; None: as the thread or its house says."""
    if_status: tuple[ThreadStatus, ...] = ()
    """Only while the thread's status is one of these; empty: whatever it is."""


async def post_entry(
    record: Record,
    who: Caller,
    thread_id: ThreadId,
    draft: Draft,
    *,
    key: str,
    trace_id: str | None = None,
) -> Accepted:
    """Append a member's entry to a thread and wake the agents it concerns.

    Promise: one script on the stream; the same `key` on the same thread answers the same entry.
    `docs/mentions.md` tells whom it wakes; `muted` in the answer, whom it named in vain.
    Raises: NotFound, Gone, Invalid (text, mention), TooBusy, Unavailable; Conflict (`busy`,
        `status_mismatch`, `key_reused`, `stream_full`, `rolled_over`).
    """
    by = Author("member", str(who.member_id), who.name)
    access = await authorize.thread(record, who, thread_id)
    if access.is_expired or _names_unknown(draft, access):
        access = await authorize.thread(record, who, thread_id, fresh=True)
    await require_taking(record, access, key=key)
    return await accept(record, access, draft, by=by, key=key, trace_id=trace_id)


async def require_taking(record: Record, access: ThreadAccess, *, key: str) -> None:
    """Return if the thread takes entries, or took this one before it went on in another.

    Raises: Conflict (`rolled_over`, naming that thread).
    """
    if access.next_thread_id is None or await streams.knows_key(
        record.connection, access.thread_id, key
    ):
        return
    raise Conflict(
        "rolled_over",
        f"Thread {access.thread_id} is archived and goes on in {access.next_thread_id}.",
        next_step=f"Post there, or take it up again with `arbe thread restore "
        f"{access.thread_id}`.",
        nextThreadId=str(access.next_thread_id),
    )


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """How agents' answers led to an entry; see `Chat`."""

    hops: int = 0
    begun_by: EntryId | None = None
    repeats: EntryId | None = None
    delegated_by: Delegator | None = None


_NO_CHAIN: Final = Chain()


async def accept(
    record: Record,
    access: ThreadAccess,
    draft: Draft,
    *,
    by: Author,
    key: str,
    chain: Chain = _NO_CHAIN,
    trace_id: str | None = None,
    only: Listener | None = None,
) -> Accepted:
    """Append an entry to a thread the caller was shown to have access to; ring the hints.

    Args: only: whom it wakes, whomever its text names; None: as `docs/mentions.md` tells.
    Raises: as `post_entry`; Gone, also when the thread's time is over.
    """
    if access.is_expired:
        raise Gone(str(access.thread_id), expired=True)
    check(draft, record.settings)
    handles = _handles(draft, access, by=by) if only is None else (only.handle,)
    audience = mentions.audience(access.listeners, by=by, handles=handles)
    if only is not None:
        audience = (only,)
    muted = mentions.muted(access.listeners, handles=handles)
    if len(audience) > record.settings.max_dispatches_per_entry:
        raise Invalid(
            f"This entry would wake {len(audience)} agents.",
            next_step="Mention fewer, or raise ARBE_MAX_DISPATCHES_PER_ENTRY.",
        )
    chat = Chat(
        by=by,
        text=draft.text,
        mentions=handles,
        parts=draft.parts,
        client_key=key,
        hops=chain.hops,
        begun_by=chain.begun_by,
        repeats=chain.repeats,
        trace_id=trace_id,
        delegated_by=chain.delegated_by,
    )
    accepted = await _accept_or_open(
        record, access, chat, key=key, draft=draft, audience=audience
    )
    queues = {listener.agent_id: listener.queue for listener in audience}
    hints = [
        Hint(access.thread_id, agent_id, queues[agent_id])
        for _, agent_id in accepted.dispatches
        if agent_id in queues
    ]
    if hints:
        # Soon, not now: the answer leaves first.
        asyncio.get_running_loop().call_soon(record.transport.ring, hints)
    if (draft.when_busy or access.when_busy) in cascade.INTERRUPTING and audience:
        await cascade.end_interrupted(
            record, access, accepted.entry_id, by=by, lane_count=len(audience)
        )
    return replace(accepted, muted=tuple((each.agent_id, each.handle) for each in muted))


async def _accept_or_open(
    record: Record,
    access: ThreadAccess,
    chat: Chat,
    *,
    key: str,
    draft: Draft,
    audience: tuple[Listener, ...],
) -> Accepted:
    lanes = tuple(Lane(listener.agent_id, listener.policy) for listener in audience)
    body = identity(draft, by=chat.by)
    terms = Terms(
        when_busy=draft.when_busy or access.when_busy,
        if_status=draft.if_status,
        is_sub_job=access.is_sub_job,
    )

    async def accept_once() -> Accepted:
        return await streams.accept(
            record.scripts,
            access.thread_id,
            chat,
            key=key,
            body=body,
            lanes=lanes,
            settings=record.settings,
            terms=terms,
        )

    try:
        return await accept_once()
    except NotFound:
        # The row is there (we have access), so its stream was not opened yet, or was lost.
        await open_stream.open_stream(record, access.thread_id)
        return await accept_once()


def identity(draft: Draft, *, by: Author) -> bytes:
    """Return what must be the same under the same key.

    A draft without the newer fields is what it was before they came: a repeat may meet a
    server that is newer than its first try.
    """
    said: dict[str, Any] = {
        "text": draft.text,
        "mentions": draft.mentions,
        "parts": draft.parts,
    }
    if draft.when_busy is not None:
        said["whenBusy"] = draft.when_busy
    if draft.if_status:
        said["ifStatus"] = draft.if_status
    return msgspec.json.encode((by.id, said))


def check(draft: Draft, settings: Settings) -> None:
    """Return if the draft could stand on a stream.

    Raises: TooLarge, Invalid.
    """
    size = len(draft.text.encode("utf-8", "surrogatepass"))
    if size > settings.max_text_bytes:
        raise TooLarge(
            "The text",
            limit_bytes=settings.max_text_bytes,
            setting="ARBE_MAX_TEXT_BYTES",
        )
    labels.free_json(draft.parts, what="parts")
    if not draft.text.strip() and not draft.parts:
        raise Invalid("An entry needs a `text`.", next_step="Send a text that is not blank.")
    if "\0" in draft.text or (not draft.text.isprintable() and _has_surrogate(draft.text)):
        raise Invalid("The text holds characters that are not text (NUL or lone surrogates).")


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _handles(draft: Draft, access: ThreadAccess, *, by: Author) -> tuple[str, ...]:
    """Return whom the entry names, but for its author.

    Raises: NotFound, for one of the `mentions` field that is not there; in a text it is text.
    """
    explicit = tuple(handle.removeprefix("@") for handle in draft.mentions)
    known = {each.handle for each in access.listeners if str(each.agent_id) != by.id}
    for handle in explicit:
        if handle not in known:
            raise NotFound(
                "agent", f"@{handle}", next_step="See who is there with `arbe agent list`."
            )
    in_text = tuple(handle for handle in mentions.mentioned(draft.text) if handle in known)
    return tuple(dict.fromkeys(explicit + in_text))


def _names_unknown(draft: Draft, access: ThreadAccess) -> bool:
    known = {listener.handle for listener in access.listeners}
    named = {*(handle.removeprefix("@") for handle in draft.mentions)}
    return not known.issuperset(named | set(mentions.mentioned(draft.text)))
