"""The first tables: calls, errors, fallbacks and instances."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_calls()
    create_errors()
    create_fallbacks()
    create_instances()


def downgrade() -> None:
    op.drop_table("instances")
    op.drop_table("fallbacks")
    op.drop_table("errors")
    op.drop_table("calls")


def create_calls() -> None:
    op.create_table(
        "calls",
        sa.Column("call_id", sa.CHAR(length=32), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration", sa.Double(), nullable=False, comment="seconds"),
        sa.Column("function", sa.String(length=200), nullable=False),
        sa.Column("client", sa.String(length=200), nullable=False),
        sa.Column("client_final", sa.String(length=200), nullable=True),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("fallbacks", sa.Integer(), nullable=False),
        sa.Column("instance_id", sa.CHAR(length=32), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('ok', 'recovered_retry', 'recovered_fallback', 'failed', 'rejected', 'cancelled')",
            name=op.f("ck_calls_outcome"),
        ),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_calls")),
    )
    op.create_index(op.f("ix_calls_client_started_at"), "calls", ["client", "started_at"])
    op.create_index(op.f("ix_calls_request_id"), "calls", ["request_id"])
    op.create_index(op.f("ix_calls_started_at"), "calls", ["started_at"])
    unclean = sa.text("outcome != 'ok'")
    op.create_index(
        "ix_calls_unclean", "calls", ["started_at"], sqlite_where=unclean, postgresql_where=unclean
    )


def create_errors() -> None:
    op.create_table(
        "errors",
        sa.Column("event_id", sa.CHAR(length=32), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("call_id", sa.CHAR(length=32), nullable=False),
        sa.Column("function", sa.String(length=200), nullable=False),
        sa.Column("client", sa.String(length=200), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("category", sa.String(length=32), nullable=False),
        sa.Column("recoverable", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("provider_code", sa.String(length=200), nullable=True),
        sa.Column("provider_request_id", sa.String(length=200), nullable=True),
        sa.Column("exception_type", sa.String(length=200), nullable=False),
        sa.Column("message", sa.String(length=2000), nullable=False),
        sa.Column("fingerprint", sa.CHAR(length=32), nullable=False),
        sa.Column("retry_after", sa.Double(), nullable=True, comment="seconds"),
        sa.Column("backoff", sa.Double(), nullable=True, comment="seconds"),
        sa.Column("duration", sa.Double(), nullable=False, comment="seconds"),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("instance_id", sa.CHAR(length=32), nullable=False),
        sa.CheckConstraint("action IN ('retry', 'fallback', 'raise')", name=op.f("ck_errors_action")),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_errors")),
    )
    op.create_index(op.f("ix_errors_call_id"), "errors", ["call_id"])
    op.create_index(op.f("ix_errors_client_occurred_at"), "errors", ["client", "occurred_at"])
    op.create_index(op.f("ix_errors_fingerprint_occurred_at"), "errors", ["fingerprint", "occurred_at"])
    op.create_index(op.f("ix_errors_occurred_at"), "errors", ["occurred_at"])
    op.create_index(op.f("ix_errors_request_id"), "errors", ["request_id"])


def create_fallbacks() -> None:
    op.create_table(
        "fallbacks",
        sa.Column("event_id", sa.CHAR(length=32), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("call_id", sa.CHAR(length=32), nullable=False),
        sa.Column("function", sa.String(length=200), nullable=False),
        sa.Column("from_client", sa.String(length=200), nullable=False),
        sa.Column("to_client", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=True),
        sa.Column("instance_id", sa.CHAR(length=32), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_fallbacks")),
    )
    op.create_index(op.f("ix_fallbacks_call_id"), "fallbacks", ["call_id"])
    op.create_index(op.f("ix_fallbacks_occurred_at"), "fallbacks", ["occurred_at"])
    op.create_index(op.f("ix_fallbacks_request_id"), "fallbacks", ["request_id"])


def create_instances() -> None:
    op.create_table(
        "instances",
        sa.Column("instance_id", sa.CHAR(length=32), nullable=False),
        sa.Column("service", sa.String(length=200), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dropped_events", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_instances")),
    )
    op.create_index(op.f("ix_instances_heartbeat_at"), "instances", ["heartbeat_at"])
