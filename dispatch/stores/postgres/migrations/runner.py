"""Brings a database to the newest schema, and makes the three roles everything runs under.

Not here: making the database itself. The login needs CREATEROLE (or finds the roles made by
an administrator and granted to it) and must own the database; it need not be a superuser.
"""

import threading
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import exc

from dispatch import errors
from dispatch.stores.postgres import engine, refusals

OLDEST: Final = 15
"""`on delete set null (column)` and `security_invoker` came with 15."""
_LOCK: Final = 0x61726265
"""'arbe': advisory lock of one database; whoever comes second finds the work done."""
_PATIENCE: Final = "60s"
"""How long a second migrator waits for the first; longer than any migration of ours."""
_HERE: Final = Path(__file__).parent
_ALEMBIC: Final = threading.Lock()
"""Alembic keeps what it is doing in module globals: one migration at a time per process."""


def upgrade(database_url: str) -> None:
    """Bring the database to the newest schema.

    Promise: one transaction under one advisory lock, so it is done whole or not at all; called
    twice, or by two processes at once, the second changes nothing. Blocks: asyncio callers put
    it on an OS thread.
    Raises: Unavailable when Postgres does not answer, Invalid when it is too old or the login
    may not do this.
    """
    migrator = sa.create_engine(
        engine.driver_url(database_url),
        poolclass=sa.NullPool,
        connect_args={"connect_timeout": 10, "options": f"-c lock_timeout={_PATIENCE}"},
    )
    try:
        with migrator.begin() as connection:
            refuse_old(connection.dialect.server_version_info or (0,))
            connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            _make_roles(connection)
            _run_scripts(connection)
    except exc.SQLAlchemyError as error:
        meaning = refusals.meaning_of(error)
        if isinstance(meaning, errors.Forbidden):
            raise _not_allowed(error) from error
        if meaning is None:
            raise
        raise meaning from error
    finally:
        migrator.dispose()


def refuse_old(version: tuple[int | str, ...]) -> None:
    """Refuse a server on which the schema would not mean what it says.

    Raises: Invalid below Postgres 15.
    """
    if int(version[0]) < OLDEST:
        found = ".".join(str(part) for part in version)
        raise errors.Invalid(
            f"Postgres {found} is too old.",
            next_step=f"Point DATABASE_URL at Postgres {OLDEST} or newer.",
            found=found,
            oldest=OLDEST,
        )


def _make_roles(connection: sa.Connection) -> None:
    """Make the roles that are missing; refuse one that is stronger than it may be."""
    connection.exec_driver_sql(
        (_HERE / "sql" / "roles.sql").read_text(), execution_options={"no_parameters": True}
    )


def _run_scripts(connection: sa.Connection) -> None:
    """Run the revisions that this database has not seen, within the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, "head")


def _not_allowed(error: Exception) -> errors.Invalid:
    return errors.Invalid(
        f"The database cannot be migrated: {refusals.first_line(error)}.",
        next_step="Use a login that owns the database and has CREATEROLE, or let an "
        "administrator make arbe_api, arbe_worker and arbe_definer (NOLOGIN, no BYPASSRLS) "
        "and grant them to it.",
    )
