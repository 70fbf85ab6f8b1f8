"""Calls and errors say whether the call was a stream, and how long its first content took.

Rows that are there already get `streamed = false` from the default, which neither database has to write into each row.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = ("calls", "errors")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("streamed", sa.Boolean(), server_default=sa.false(), nullable=False))
        op.add_column(table, sa.Column("time_to_first_token", sa.Double(), nullable=True, comment="seconds"))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "time_to_first_token")
        op.drop_column(table, "streamed")
