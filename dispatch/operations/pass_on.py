"""Pass an agent's answer on to the agents it names: each answer once, and not without end.

The answer becomes a chat entry by the agent, which gives birth to the dispatches; or, beyond a
limit, a `signal.dispatch.hop_limit`. Both stand under one key, `reply:<dispatch>`, so whoever
passes it on, however often, one of them stands. Who must is told by `streams.replies`.

Not guaranteed: once, if nobody looks at the note for `idempotency_seconds` after the answer was
passed on; the breadth (`max_agent_replies`), where several answers come at the same moment.
"""

from typing import Final, Literal
from uuid import UUID

import msgspec

from dispatch import log
from dispatch.errors import ArbeError, TooBusy, Unavailable
from dispatch.ids import AgentId
from dispatch.models import hops, mentions
from dispatch.models.houses import Agent
from dispatch.models.threads import Listener, Thread, ThreadAccess
from dispatch.operations import answers, post_entry
from dispatch.operations.answers import Answered
from dispatch.operations.post_entry import Chain, Draft
from dispatch.operations.record import Record
from dispatch.payloads.chat import Author
from dispatch.payloads.signals import Completed, HopLimit
from dispatch.stores.postgres import agents, engine, threads
from dispatch.streams import replies
from dispatch.streams import threads as streams
from dispatch.streams.replies import ReplyRef

_log = log.get(__name__)
Verdict = Literal["open", "busy", "nobody", "passed_on", "limit", "refused"]
_LOOK_AGAIN_SECONDS: Final = 5.0


class _Round(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, where, and whom."""

    agent: Agent
    thread: Thread
    access: ThreadAccess
    audience: tuple[Listener, ...]


async def pass_on(record: Record, ref: ReplyRef) -> Verdict:
    """Let a turn's answer wake the agents it names, if the turn completed; then drop its note.

    Promise: twice at once, or again after a death at any step, is as once.
    Raises: Unavailable; the note stays.
    """
    try:
        verdict = await _pass_on(record, ref)
    except TooBusy:
        verdict = "busy"
    except Unavailable:
        raise
    except ArbeError as error:
        fields = {"thread_id": str(ref.thread_id), "dispatch_id": ref.dispatch_id}
        _log.warning("reply.refused", cause=str(error), **fields)
        verdict = "refused"
    if verdict in {"open", "busy"}:
        await replies.note(record.connection, ref, after_seconds=_LOOK_AGAIN_SECONDS)
    else:
        await replies.settle(record.connection, ref)
    return verdict


async def _pass_on(record: Record, ref: ReplyRef) -> Verdict:
    said = await answers.read(record, ref.thread_id, ref.dispatch_id)
    if said is not None and said.story.end is None:
        return "open"
    if said is None or not isinstance(said.story.end, Completed):
        return "nobody"
    draft = _draft(record, said)
    if not mentions.mentioned(draft.text):
        return "nobody"
    asked = await _round(record, ref, AgentId(UUID(said.story.agent_id)), draft)
    if asked is None:
        return "nobody"
    key = f"reply:{ref.dispatch_id}"
    too_far = _limit(record, said, asked)
    if too_far is not None:
        await streams.signal_once(
            record.scripts,
            ref.thread_id,
            too_far,
            key=key,
            idempotency_seconds=record.settings.idempotency_seconds,
        )
        return "limit"
    await post_entry.accept(
        record,
        asked.access,
        draft,
        by=_author(asked.agent),
        key=key,
        chain=Chain(hops=said.hops + 1, begun_by=said.begun_by, repeats=said.entry_id),
    )
    return "passed_on"


def _draft(record: Record, said: Answered) -> Draft:
    """Return the answer as an entry: its words alone, so that each look makes the same one.

    An agent never takes another's place: it waits, whatever the thread says about people.
    """
    raw = said.text.encode("utf-8", "surrogatepass")
    text = raw[: record.settings.max_text_bytes].decode("utf-8", "ignore")
    return Draft(text, when_busy="enqueue")


async def _round(
    record: Record, ref: ReplyRef, agent_id: AgentId, draft: Draft
) -> _Round | None:
    """Return who asks whom; None: nobody. A sub-job's answer is its parent's alone.

    Raises: Gone, NotFound (thread, agent), Unavailable.
    """
    async with engine.as_worker(record.projector) as connection:
        access = await threads.access(
            connection, thread_id=ref.thread_id, defaults=record.settings
        )
        if access.is_sub_job:
            return None
        agent = await agents.get(connection, agent_id=agent_id)
        thread = await threads.get(connection, thread_id=ref.thread_id)
    audience = mentions.audience(
        access.listeners, by=_author(agent), handles=mentions.mentioned(draft.text)
    )
    if not audience:
        return None
    return _Round(agent=agent, thread=thread, access=access, audience=audience)


def _author(agent: Agent) -> Author:
    return Author("agent", str(agent.id), agent.handle)


def _limit(record: Record, said: Answered, asked: _Round) -> HopLimit | None:
    """Return what to tell the thread if this answer wakes nobody any more."""
    settings = record.settings
    most_hops = hops.limit(
        asked.thread.config, asked.agent.config, most=settings.max_agent_hops
    )
    if said.hops >= most_hops:
        return _told(said, asked, reason="hops", limit=most_hops)
    if said.reply_count >= settings.max_agent_replies:
        return _told(said, asked, reason="replies", limit=settings.max_agent_replies)
    return None


def _told(
    said: Answered, asked: _Round, *, reason: Literal["hops", "replies"], limit: int
) -> HopLimit:
    return HopLimit(
        dispatch_id=said.story.dispatch_id,
        entry_id=said.entry_id or said.begun_by,
        mentions=tuple(each.handle for each in asked.audience),
        reason=reason,
        limit=limit,
    )
