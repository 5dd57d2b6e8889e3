"""What Postgres says of itself: the settings that promises rest on. No table is read."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatch.models.diagnosis.servers import PostgresSeen

_SETTINGS: Final = sa.text("""
    select current_setting('server_version') as version,
        current_setting('fsync') = 'on' as fsync,
        current_setting('synchronous_commit') as synchronous_commit,
        pg_is_in_recovery() or current_setting('transaction_read_only') = 'on' as is_read_only
""")


async def read_server(conn: AsyncConnection) -> PostgresSeen:
    """Return version and settings; needs no right on any table."""
    row = (await conn.execute(_SETTINGS)).mappings().one()
    return PostgresSeen(answer="up", **row)
