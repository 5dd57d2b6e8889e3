"""The whole record: tables, definer functions, row level security and rights.

Revision ID: 0001
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    for name in ("0001_tables.sql", "0001_functions.sql", "0001_rights.sql"):
        op.get_bind().exec_driver_sql(
            (_SQL / name).read_text(), execution_options={"no_parameters": True}
        )
