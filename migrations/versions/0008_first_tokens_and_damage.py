"""`latencies` gets the kind `first_token`, and `instances` counts what a process read and did not believe.

The new columns have a default that older rows read as, so no row of `instances` is rewritten. The kinds are a CHECK constraint. PostgreSQL
replaces it in place; SQLite has no such statement, and the rows of `latencies` are copied. They are counts by minute and hour.
A writer of revision 0007 that is connected already goes on: its kinds stay allowed, and it leaves the new columns at 0.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

DAMAGE = ("damaged_circuits", "damaged_transitions", "unreadable_lines")
KEY = ("bucket_at", "grain", "namespace", "client", "kind", "bucket")
OLD = ("attempt_ok", "attempt_failed", "call")
NEW = (*OLD, "first_token")


def upgrade() -> None:
    allow_kinds(NEW)
    for name in DAMAGE:
        op.add_column(
            "instances", sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)
        )


def downgrade() -> None:
    for name in reversed(DAMAGE):
        op.drop_column("instances", name)
    op.execute("DELETE FROM latencies WHERE kind = 'first_token'")
    allow_kinds(OLD)


def allow_kinds(kinds: tuple[str, ...]) -> None:
    check = f"kind IN ({', '.join(map(repr, kinds))})"
    if op.get_context().dialect.name != "sqlite":
        op.drop_constraint("ck_latencies_kind", "latencies")
        op.create_check_constraint(op.f("ck_latencies_kind"), "latencies", check)
        return
    op.rename_table("latencies", "latencies_0007")
    create_latencies(check)
    names = ", ".join(f'"{name}"' for name in (*KEY, "count", "seconds"))
    op.execute(f"INSERT INTO latencies ({names}) SELECT {names} FROM latencies_0007")  # noqa: S608 - names of this file
    op.drop_table("latencies_0007")


def create_latencies(check: str) -> None:
    op.create_table(
        "latencies",
        sa.Column("bucket_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grain", sa.Integer(), autoincrement=False, nullable=False, comment="seconds"),
        # As 0007 made it: a default that is the only namespace of older rows belongs to the tables of rows.
        sa.Column("namespace", sa.String(length=100), server_default="resilience", nullable=False),
        sa.Column("client", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("seconds", sa.Double(), server_default=sa.text("0"), nullable=False, comment="seconds"),
        sa.PrimaryKeyConstraint(*KEY, name=op.f("pk_latencies")),
        sa.CheckConstraint("grain IN (0, 60, 3600)", name=op.f("ck_latencies_grain")),
        sa.CheckConstraint(check, name=op.f("ck_latencies_kind")),
    )
