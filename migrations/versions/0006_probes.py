"""Attempts that were probes of a circuit say so: errors.probe, and calls.probe for probes that ran beside a call.

Both columns have a default that older rows read as, so neither database copies a row.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = ("calls", "errors")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("probe", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "probe")
