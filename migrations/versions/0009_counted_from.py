"""`instances` says from which number on the counters of this database have the records of a process.

A process goes on when its history file is replaced, and its numbers go on too. The counters of the new file have only what it wrote there,
but rows of before may come from its log. The new columns have a default that older rows read as, so no row is rewritten. A writer of
revision 0008 that is connected already leaves them at 0.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = ("counted_from", "rows_counted_from")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column(
            "instances", sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)
        )


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("instances", name)
