"""What keeping every promise needs of the rows: one SQL file per topic.

Revision ID: 0002
"""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SQL = Path(__file__).parents[1] / "sql"
_FILES: tuple[str, ...] = (
    "0002_busy.sql",
    "0002_cancellations.sql",
    "0002_fleet.sql",
    "0002_idempotency.sql",
    "0002_sandboxes.sql",
)


def upgrade() -> None:
    for name in _FILES:
        op.get_bind().exec_driver_sql(
            (_SQL / name).read_text(), execution_options={"no_parameters": True}
        )
