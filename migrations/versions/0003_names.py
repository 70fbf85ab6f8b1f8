"""Columns and an index get the names that the field uses: position, indefinite, counted_through, ix_calls_not_ok.

A renamed column keeps its values, its type and its default on both databases, so no row is copied and nothing is lost.
`migrations/env.py` drops the views before this runs and creates them afterwards, so no view keeps an old name.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RENAMED_COLUMNS = (
    ("fallbacks", "hop", "position"),
    ("breaker_events", "endless", "indefinite"),
    ("instances", "tallied", "counted_through"),
)
"""Table, old name, new name."""


def upgrade() -> None:
    for table, old, new in RENAMED_COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    rename_partial_index("ix_calls_unclean", "ix_calls_not_ok")


def downgrade() -> None:
    rename_partial_index("ix_calls_not_ok", "ix_calls_unclean")
    for table, old, new in RENAMED_COLUMNS:
        op.alter_column(table, new, new_column_name=old)


def rename_partial_index(old: str, new: str) -> None:
    """Rename the index of calls that were not answered at the first attempt.

    PostgreSQL renames an index in an instant, whatever its size. SQLite has no such statement and builds it again.
    """
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER INDEX {old} RENAME TO {new}")
        return
    op.drop_index(old, table_name="calls")
    op.create_index(new, "calls", ["started_at"], sqlite_where=sa.text("outcome != 'ok'"))
