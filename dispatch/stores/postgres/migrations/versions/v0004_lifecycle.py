"""What chats and their lifecycle need of the rows: every `0004_*.sql`, one file per topic, by name.

Revision ID: 0004
"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    for file in sorted(_SQL.glob("0004_*.sql")):
        op.get_bind().exec_driver_sql(
            file.read_text(), execution_options={"no_parameters": True}
        )
