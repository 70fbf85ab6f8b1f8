"""Events of circuits, groups of errors, rollups, payloads, maintenance; and what calls, errors and fallbacks say more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COUNTS = (
    "calls",
    "attempts",
    "errors",
    "failed_calls",
    "cancelled_calls",
    "rejected_calls",
    "retried_calls",
    "recovered_retry",
    "fallback_calls",
    "recovered_fallback",
    "input_tokens",
    "output_tokens",
)


def upgrade() -> None:
    for table, columns in added().items():
        for column in columns:
            op.add_column(table, column)
    traced = sa.text("trace_id IS NOT NULL")
    for table in ("calls", "errors"):
        op.create_index(
            f"ix_{table}_trace_id", table, ["trace_id"], sqlite_where=traced, postgresql_where=traced
        )
    create_breaker_events()
    create_error_groups()
    create_rollups()
    create_payloads()
    create_maintenance()


def downgrade() -> None:
    for table in ("maintenance", "payloads", "rollups", "error_groups", "breaker_events"):
        op.drop_table(table)
    for table in ("calls", "errors"):
        op.drop_index(f"ix_{table}_trace_id", table_name=table)
    for table, columns in added().items():
        for column in reversed(columns):
            op.drop_column(table, column.name)


def added() -> dict[str, list[sa.Column[object]]]:
    return {
        "calls": [
            sa.Column("recovery", sa.Double(), nullable=True, comment="seconds"),
            sa.Column("fingerprint", sa.CHAR(length=32), nullable=True),
            *tokens(),
            *trace(),
            json("tags"),
            share(),
        ],
        "errors": [
            sa.Column("provider", sa.String(length=200), nullable=True),
            sa.Column("model", sa.String(length=200), nullable=True),
            *tokens(),
            sa.Column("denied", sa.String(length=32), nullable=True),
            sa.Column("breaker_state", sa.String(length=16), nullable=True),
            *trace(),
            share(),
            sa.Column("stack", sa.Text(), nullable=True),
            json("detail"),
            sa.Column("fp_version", sa.String(length=16), server_default="v1", nullable=False),
        ],
        "fallbacks": [
            sa.Column("hop", sa.Integer(), server_default=sa.text("1"), nullable=False),
            sa.Column("fingerprint", sa.CHAR(length=32), nullable=True),
            sa.Column("duration", sa.Double(), nullable=True, comment="seconds"),
        ],
        "instances": [
            sa.Column("sampled_events", sa.Integer(), server_default=sa.text("0"), nullable=False),
            sa.Column("queue_depth", sa.Integer(), server_default=sa.text("0"), nullable=False),
            sa.Column("degraded", sa.Boolean(), server_default=sa.false(), nullable=False),
            sa.Column("tallied", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        ],
    }


def tokens() -> list[sa.Column[object]]:
    return [
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
    ]


def trace() -> list[sa.Column[object]]:
    return [
        sa.Column("trace_id", sa.CHAR(length=32), nullable=True),
        sa.Column("span_id", sa.CHAR(length=16), nullable=True),
    ]


def share() -> sa.Column[object]:
    return sa.Column("sample_rate", sa.Double(), server_default=sa.text("1"), nullable=False)


def json(name: str) -> sa.Column[object]:
    kind = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
    return sa.Column(name, kind, nullable=True)


def create_breaker_events() -> None:
    op.create_table(
        "breaker_events",
        sa.Column("namespace", sa.String(length=100), nullable=False),
        sa.Column("client", sa.String(length=200), nullable=False),
        sa.Column("scope", sa.String(length=32), nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=False),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("wait", sa.Double(), nullable=True, comment="seconds"),
        sa.Column("endless", sa.Boolean(), nullable=False),
        sa.Column("instance_id", sa.CHAR(length=32), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "client", "scope", "epoch", name=op.f("pk_breaker_events")),
    )
    op.create_index(
        op.f("ix_breaker_events_client_scope_occurred_at"),
        "breaker_events",
        ["client", "scope", "occurred_at"],
    )
    op.create_index(op.f("ix_breaker_events_occurred_at"), "breaker_events", ["occurred_at"])


def create_error_groups() -> None:
    op.create_table(
        "error_groups",
        sa.Column("fingerprint", sa.CHAR(length=32), nullable=False),
        sa.Column("fp_version", sa.String(length=16), nullable=False),
        sa.Column("category", sa.String(length=32), nullable=False),
        sa.Column("exception_type", sa.String(length=200), nullable=False),
        sa.Column("title", sa.String(length=300), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="open", nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('open', 'muted', 'resolved')", name=op.f("ck_error_groups_status")),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_error_groups")),
    )
    op.create_index(op.f("ix_error_groups_last_seen_at"), "error_groups", ["last_seen_at"])


def create_rollups() -> None:
    op.create_table(
        "rollups",
        sa.Column("bucket_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grain", sa.Integer(), autoincrement=False, nullable=False, comment="seconds"),
        sa.Column("client", sa.String(length=200), nullable=False),
        sa.Column("function", sa.String(length=200), nullable=False),
        *(sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False) for name in COUNTS),
        sa.Column(
            "duration_sum", sa.Double(), server_default=sa.text("0"), nullable=False, comment="seconds"
        ),
        sa.Column(
            "duration_max", sa.Double(), server_default=sa.text("0"), nullable=False, comment="seconds"
        ),
        sa.CheckConstraint("grain IN (60, 3600)", name=op.f("ck_rollups_grain")),
        sa.PrimaryKeyConstraint("bucket_at", "grain", "client", "function", name=op.f("pk_rollups")),
    )


def create_payloads() -> None:
    op.create_table(
        "payloads",
        sa.Column("event_id", sa.CHAR(length=32), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=True),
        sa.Column("raw_output", sa.Text(), nullable=True),
        sa.Column("prompt_hash", sa.String(length=64), nullable=True),
        sa.Column("output_hash", sa.String(length=64), nullable=True),
        sa.Column("privacy", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_payloads")),
    )
    op.create_index(op.f("ix_payloads_occurred_at"), "payloads", ["occurred_at"])
    op.create_index(op.f("ix_payloads_request_id"), "payloads", ["request_id"])


def create_maintenance() -> None:
    op.create_table(
        "maintenance",
        sa.Column("job", sa.String(length=200), nullable=False),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.CHAR(length=32), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_maintenance")),
    )
