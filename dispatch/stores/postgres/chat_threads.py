"""What an ARC chat leaves on the row of its thread once it is closed."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.ids import ThreadId

_RETAIN: Final = sa.text("""
    with kept as (
        select thread.id, coalesce(
            case when jsonb_typeof(thread.config -> 'chatRetentionSeconds') = 'number'
                then (thread.config ->> 'chatRetentionSeconds')::float8 end,
            case when jsonb_typeof(agent.config -> 'chatRetentionSeconds') = 'number'
                then (agent.config ->> 'chatRetentionSeconds')::float8 end,
            :default_seconds
        ) as seconds
        from threads thread left join agents agent on agent.id = thread.parent_agent_id
        where thread.id = :thread_id
    )
    update threads row set expires_at = now() + make_interval(secs => least(kept.seconds, 3e9))
    from kept where row.id = kept.id and kept.seconds > 0 and row.expires_at is null
""")


async def retain(conn: AsyncConnection, *, thread_id: ThreadId, default_seconds: float) -> bool:
    """Let the thread expire as its own, its agent's or the server's word says; tell if it will.

    Promise: one that expires anyway keeps its time.
    """
    done = await conn.execute(
        _RETAIN, {"thread_id": thread_id, "default_seconds": default_seconds}
    )
    return bool(done.rowcount)
