"""Bring the database to the newest schema, from where no store may be imported."""

from dispatch.config import Settings
from dispatch.errors import Invalid
from dispatch.stores.postgres.migrations import runner


def upgrade(settings: Settings) -> None:
    """Migrate the database that `DATABASE_URL` names. Again is harmless. Blocks.

    Raises: Invalid (no URL, too old a server, a login without the rights), Unavailable.
    """
    database_url = settings.database_url.get_secret_value()
    if not database_url:
        raise Invalid(
            "DATABASE_URL is not set.",
            next_step="Set it to the Postgres to migrate; `arbe up` migrates its own.",
        )
    runner.upgrade(database_url)
