"""Talk to an agent without picking a place first: its direct thread is found or made."""

import msgspec

from dispatch.ids import AgentId, ThreadId
from dispatch.models.houses import Caller
from dispatch.operations import create_thread, narrate, post_entry
from dispatch.operations.post_entry import Draft
from dispatch.operations.record import Record
from dispatch.streams.threads import Accepted


class PostedToAgent(msgspec.Struct, frozen=True, kw_only=True):
    """Where the entry stands."""

    thread_id: ThreadId
    accepted: Accepted


async def post_to_agent(
    record: Record, who: Caller, agent_id: AgentId, draft: Draft, *, key: str
) -> PostedToAgent:
    """Post an entry to the direct thread with an agent, made now if there is none.

    Promise: repeated with the same key it answers the same entry of the same thread.
    Raises: NotFound (the agent), and as `post_entry`.
    """
    post_entry.check(draft, record.settings)
    await narrate.ready(record)
    thread = await create_thread.find_or_make_dm(record, who, agent_id)
    accepted = await post_entry.post_entry(record, who, thread.id, draft, key=key)
    return PostedToAgent(thread_id=thread.id, accepted=accepted)
