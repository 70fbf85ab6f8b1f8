"""`instances` gets the number up to which the records of a process are counted, whether or not their rows are there.

A process that ends writes its counters before its rows. Without this number an import of its log lines would count a row that
was not written once more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("rows_counted_through", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
    op.add_column("instances", column)


def downgrade() -> None:
    op.drop_column("instances", "rows_counted_through")
