"""Namespaces on every table, counters of latencies, errors and tenants, the end and the settings of processes.

Tables of single rows only get columns, with defaults that older rows read as: no row is rewritten, so the time does not depend on their
number. `rollups` and `error_groups` get a longer key. PostgreSQL changes the key in place; SQLite has no such statement, and their
rows are copied. They are sums by minute and hour, and few beside the rows that they count. Everything happens in the transaction of
`migrations/env.py`.

The namespace of older rows is the only one that used this database, as its transitions and its jobs tell. If several did, which row belongs
to which is not known, and all get the default.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

DEFAULT = "resilience"
ROWS = ("calls", "errors", "fallbacks", "payloads", "instances")
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
DURATIONS = ("duration_sum", "duration_max")
TENANT_COUNTS = (
    "calls",
    "answered_calls",
    "failed_calls",
    "rejected_calls",
    "cancelled_calls",
    "input_tokens",
    "output_tokens",
)
GROUP = (
    "fingerprint",
    "fp_version",
    "category",
    "exception_type",
    "title",
    "first_seen_at",
    "last_seen_at",
    "count",
    "status",
    "note",
)


def upgrade() -> None:
    old = namespace_of_older_rows()
    for table in ROWS:
        add_namespace(table, old)
    for table, columns in added().items():
        for column in columns:
            op.add_column(table, column)
    op.create_index("ix_calls_client_final_started_at", "calls", ["client_final", "started_at"])
    of_tenant = sa.text("tenant IS NOT NULL")
    op.create_index(
        "ix_calls_tenant_started_at",
        "calls",
        ["tenant", "started_at"],
        sqlite_where=of_tenant,
        postgresql_where=of_tenant,
    )
    if is_sqlite():
        copy_keyed_tables(old)
    else:
        change_keys(old)
    create_counters()
    if not op.get_context().as_sql:
        book_at_the_client_that_answered(old)
        count_errors(old)


def downgrade() -> None:
    op.execute("DELETE FROM breaker_events WHERE rule = 'cool_down'")
    for table in ("policies", "pruned_events", "tenant_rollups", "latencies", "error_rollups"):
        op.drop_table(table)
    if is_sqlite():
        copy_keyed_tables_back()
    else:
        change_keys_back()
    for name in ("ix_calls_tenant_started_at", "ix_calls_client_final_started_at"):
        op.drop_index(name, table_name="calls")
    for table, columns in added().items():
        for column in reversed(columns):
            op.drop_column(table, column.name)
    for table in ROWS:
        op.drop_column(table, "namespace")


def is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def namespace_of_older_rows() -> str:
    """Return the only namespace that used this database, or the default.

    It becomes the default of the new column. So older rows read it, without being written.
    """
    if op.get_context().as_sql:
        return DEFAULT
    connection = op.get_bind()
    found = set(connection.scalars(sa.text("SELECT DISTINCT namespace FROM breaker_events")))
    # A process claims the job that copies the transitions of its namespace, also before there are any.
    jobs = connection.scalars(sa.text("SELECT job FROM maintenance WHERE job LIKE 'transitions:%'"))
    found |= {job.partition(":")[2] for job in jobs}
    return found.pop() if len(found) == 1 else DEFAULT


def add_namespace(table: str, old: str) -> None:
    """Add the column, as which older rows read *old*. SQLite reads it from the default, so there the default stays *old*."""
    op.add_column(table, namespace(old))
    if old != DEFAULT and not is_sqlite():
        op.alter_column(table, "namespace", server_default=DEFAULT)


def namespace(default: str = DEFAULT) -> sa.Column[object]:
    return sa.Column("namespace", sa.String(length=100), server_default=default, nullable=False)


def added() -> dict[str, list[sa.Column[object]]]:
    return {
        "calls": [
            sa.Column("tenant", sa.String(length=100), nullable=True),
            sa.Column("answer_duration", sa.Double(), nullable=True, comment="seconds"),
            sa.Column("failed_input_tokens", sa.Integer(), nullable=True),
            sa.Column("failed_output_tokens", sa.Integer(), nullable=True),
        ],
        "instances": [
            sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
            sa.Column("degraded_since", sa.DateTime(timezone=True), nullable=True),
            seconds("degraded_seconds"),
            sa.Column("policy_id", sa.CHAR(length=32), nullable=True),
        ],
    }


def total(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)


def seconds(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Double(), server_default=sa.text("0"), nullable=False, comment="seconds")


def label(name: str, length: int = 200) -> sa.Column[object]:
    return sa.Column(name, sa.String(length=length), nullable=False)


def bucket(table: str, *labels: sa.Column[object]) -> list[sa.schema.SchemaItem]:
    """Return the columns of a counter's key, its key and the check of its grain."""
    keys = ("bucket_at", "grain", "namespace", *(column.name for column in labels))
    return [
        sa.Column("bucket_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grain", sa.Integer(), autoincrement=False, nullable=False, comment="seconds"),
        namespace(),
        *labels,
        sa.PrimaryKeyConstraint(*keys, name=op.f(f"pk_{table}")),
        sa.CheckConstraint("grain IN (0, 60, 3600)", name=op.f(f"ck_{table}_grain")),
    ]


# --- tables with a longer key ---------------------------------------------------------------------------------------


def create_rollups() -> None:
    op.create_table(
        "rollups",
        *bucket("rollups", label("client"), label("function")),
        *(total(name) for name in (*COUNTS[:10], "answered_calls", *COUNTS[10:])),
        *(seconds(name) for name in DURATIONS),
    )


def create_error_groups() -> None:
    op.create_table(
        "error_groups",
        namespace(),
        *error_group_columns(),
        sa.PrimaryKeyConstraint("namespace", "fingerprint", name=op.f("pk_error_groups")),
    )
    op.create_index(op.f("ix_error_groups_last_seen_at"), "error_groups", ["last_seen_at"])


def error_group_columns() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("fingerprint", sa.CHAR(length=32), nullable=False),
        sa.Column("fp_version", sa.String(length=16), nullable=False),
        sa.Column("category", sa.String(length=32), nullable=False),
        sa.Column("exception_type", sa.String(length=200), nullable=False),
        sa.Column("title", sa.String(length=300), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        total("count"),
        sa.Column("status", sa.String(length=16), server_default="open", nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('open', 'muted', 'resolved')", name=op.f("ck_error_groups_status")),
    ]


def copy_keyed_tables(old: str) -> None:
    """Copy both tables to new ones of the same name, one statement each, which SQLite runs without a round trip for each row."""
    op.rename_table("rollups", "rollups_0006")
    create_rollups()
    names = ", ".join(("bucket_at", "grain", "client", "function", *COUNTS, *DURATIONS))
    copy("rollups", f"namespace, {names}", f"{quoted(old)}, {names}")
    op.drop_index("ix_error_groups_last_seen_at", table_name="error_groups")
    op.rename_table("error_groups", "error_groups_0006")
    create_error_groups()
    names = ", ".join(f'"{name}"' for name in GROUP)
    copy("error_groups", f"namespace, {names}", f"{quoted(old)}, {names}")


def copy(table: str, names: str, values: str, grouped: str = "") -> None:
    """Fill *table* from the table that had its name, and drop that."""
    # Colons are escaped: sa.text, which op.execute makes of it, takes them for parameters.
    text = f"INSERT INTO {table} ({names}) SELECT {values} FROM {table}_0006 {grouped}"  # noqa: S608 - names of this file
    op.execute(text.replace(":", r"\:"))
    op.drop_table(f"{table}_0006")


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def change_keys(old: str) -> None:
    """Lengthen both keys in place: PostgreSQL builds an index and copies no row."""
    for table in ("rollups", "error_groups"):
        add_namespace(table, old)
        op.drop_constraint(f"pk_{table}", table)
    op.create_primary_key("pk_rollups", "rollups", ["bucket_at", "grain", "namespace", "client", "function"])
    op.create_primary_key("pk_error_groups", "error_groups", ["namespace", "fingerprint"])
    op.add_column("rollups", total("answered_calls"))
    op.drop_constraint("ck_rollups_grain", "rollups")
    op.create_check_constraint(op.f("ck_rollups_grain"), "rollups", "grain IN (0, 60, 3600)")


def copy_keyed_tables_back() -> None:
    op.execute("DELETE FROM rollups WHERE grain = 0")
    op.rename_table("rollups", "rollups_0006")
    op.create_table(
        "rollups",
        sa.Column("bucket_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grain", sa.Integer(), autoincrement=False, nullable=False, comment="seconds"),
        label("client"),
        label("function"),
        *map(total, COUNTS),
        *map(seconds, DURATIONS),
        sa.CheckConstraint("grain IN (60, 3600)", name=op.f("ck_rollups_grain")),
        sa.PrimaryKeyConstraint("bucket_at", "grain", "client", "function", name=op.f("pk_rollups")),
    )
    keys = "bucket_at, grain, client, function"
    sums = ", ".join(f"SUM({name})" for name in (*COUNTS, "duration_sum"))
    names = ", ".join((keys, *COUNTS, *DURATIONS))
    copy("rollups", names, f"{keys}, {sums}, MAX(duration_max)", f"GROUP BY {keys}")
    op.drop_index("ix_error_groups_last_seen_at", table_name="error_groups")
    op.rename_table("error_groups", "error_groups_0006")
    columns = error_group_columns()
    op.create_table(
        "error_groups",
        *columns,
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_error_groups")),
    )
    op.create_index(op.f("ix_error_groups_last_seen_at"), "error_groups", ["last_seen_at"])
    sums_of = {"first_seen_at": "MIN", "count": "SUM", "fingerprint": ""}
    values = ", ".join(f'{sums_of.get(name, "MAX")}("{name}")' for name in GROUP)
    copy("error_groups", ", ".join(f'"{name}"' for name in GROUP), values, "GROUP BY fingerprint")


def change_keys_back() -> None:
    """Shorten both keys. Rows that differ in the namespace alone are added up, so the tables are filled again."""
    op.drop_constraint("pk_rollups", "rollups")
    op.drop_constraint("ck_rollups_grain", "rollups")
    op.drop_constraint("pk_error_groups", "error_groups")
    op.drop_constraint("ck_error_groups_status", "error_groups")
    copy_keyed_tables_back()


# --- new tables -----------------------------------------------------------------------------------------------------


def create_counters() -> None:
    op.create_table(
        "error_rollups",
        *bucket(
            "error_rollups",
            label("client"),
            label("function"),
            label("category", 32),
            label("action", 32),
            label("denied", 32),
        ),
        total("count"),
        total("exhausted"),
    )
    op.create_table(
        "latencies",
        *bucket(
            "latencies",
            label("client"),
            label("kind", 16),
            sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        ),
        total("count"),
        seconds("seconds"),
        sa.CheckConstraint(
            "kind IN ('attempt_ok', 'attempt_failed', 'call')", name=op.f("ck_latencies_kind")
        ),
    )
    op.create_table(
        "tenant_rollups",
        *bucket("tenant_rollups", label("tenant", 100), label("client")),
        *map(total, TENANT_COUNTS),
        *map(seconds, DURATIONS),
    )
    op.create_table(
        "pruned_events",
        namespace(),
        label("kind", 16),
        label("client"),
        label("target"),
        label("reason", 500),
        label("result", 16),
        total("count"),
        sa.PrimaryKeyConstraint(
            "namespace", "kind", "client", "target", "reason", "result", name=op.f("pk_pruned_events")
        ),
        sa.CheckConstraint("kind IN ('fallback', 'transition')", name=op.f("ck_pruned_events_kind")),
    )
    json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
    op.create_table(
        "policies",
        sa.Column("policy_id", sa.CHAR(length=32), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settings", json, nullable=True),
        sa.PrimaryKeyConstraint("policy_id", name=op.f("pk_policies")),
    )


# --- values of older rows -------------------------------------------------------------------------------------------
# Both databases run these statements. SQLite keeps times as text of one length, and has no type for them.
MINUTE = {
    "sqlite": "SUBSTR({time}, 1, 17) || '00.000000'",
    "postgresql": "DATE_TRUNC('minute', {time}, 'UTC')",
}
HOUR = {
    "sqlite": "SUBSTR({time}, 1, 14) || '00:00.000000'",
    "postgresql": "DATE_TRUNC('hour', {time}, 'UTC')",
}
ENDED = {
    "sqlite": "STRFTIME('%Y-%m-%d %H:%M:%S', SUBSTR(started_at, 1, 19), (CAST((CAST(SUBSTR(started_at, 21, 6) AS INTEGER)"
    " + CAST(ROUND(duration * 1000000) AS INTEGER)) / 1000000 AS TEXT)) || ' seconds')",
    "postgresql": "started_at + duration * INTERVAL '1 second'",
}
NOT_NEGATIVE = {"sqlite": "MAX", "postgresql": "GREATEST"}


def spelled(spellings: dict[str, str]) -> str:
    return spellings[op.get_context().dialect.name]


# Calls that another client answered were booked at their primary client whole, and calls without an answer gave their durations too.
# Their rows say where to book them. Such rows are never sampled. Older counts, whose rows are pruned, stay as they are.
MOVED = """
CREATE TABLE moved_0007 AS
SELECT bucket_at, CASE WHEN EXISTS (
    SELECT 1 FROM rollups WHERE rollups.bucket_at = ended.bucket_at AND rollups.grain = 60
      AND rollups.client = ended.client AND rollups.function = ended.function) THEN 60 ELSE 3600 END AS grain,
  hour_at, client, function, client_final, COUNT(*) AS moved, SUM(duration) AS seconds, MAX(duration) AS longest,
  COALESCE(SUM(input_tokens), 0) AS input_tokens, COALESCE(SUM(output_tokens), 0) AS output_tokens
FROM (
  SELECT {minute} AS bucket_at, {hour} AS hour_at, client, function, client_final, duration, input_tokens, output_tokens
  FROM (
    SELECT {ended} AS ended_at, client, function, duration, client_final, input_tokens, output_tokens
    FROM calls WHERE outcome != 'ok' AND NOT probe AND (client_final IS NULL OR client_final <> client)) AS calls_ended
) AS ended
GROUP BY bucket_at, hour_at, client, function, client_final
"""
MOVED_TO_HOURS = "UPDATE moved_0007 SET bucket_at = hour_at WHERE grain = 3600"
ANSWERED = "UPDATE rollups SET answered_calls = {not_negative}(0, calls - failed_calls - cancelled_calls - rejected_calls)"
TAKEN = """
UPDATE rollups SET
  answered_calls = {not_negative}(0, answered_calls - taken.answered),
  duration_sum = {not_negative}(0, duration_sum - taken.seconds),
  input_tokens = {not_negative}(0, rollups.input_tokens - taken.input_tokens),
  output_tokens = {not_negative}(0, rollups.output_tokens - taken.output_tokens)
FROM (
  SELECT bucket_at, grain, client, function, SUM(seconds) AS seconds,
    SUM(CASE WHEN client_final IS NULL THEN 0 ELSE moved END) AS answered,
    SUM(CASE WHEN client_final IS NULL THEN 0 ELSE input_tokens END) AS input_tokens,
    SUM(CASE WHEN client_final IS NULL THEN 0 ELSE output_tokens END) AS output_tokens
  FROM moved_0007 GROUP BY bucket_at, grain, client, function) AS taken
WHERE rollups.bucket_at = taken.bucket_at AND rollups.grain = taken.grain AND rollups.client = taken.client
  AND rollups.function = taken.function
"""
# Only what was taken from a row is given: counts of a row that is not there any more have no place to come from.
GIVEN = """
INSERT INTO rollups (bucket_at, grain, namespace, client, function, answered_calls, duration_sum, duration_max, input_tokens,
  output_tokens)
SELECT bucket_at, grain, {namespace}, client_final, function, SUM(moved), SUM(seconds), MAX(longest), SUM(input_tokens),
  SUM(output_tokens)
FROM moved_0007 WHERE client_final IS NOT NULL AND EXISTS (
  SELECT 1 FROM rollups WHERE rollups.bucket_at = moved_0007.bucket_at AND rollups.grain = moved_0007.grain
    AND rollups.client = moved_0007.client AND rollups.function = moved_0007.function)
GROUP BY bucket_at, grain, client_final, function
ON CONFLICT (bucket_at, grain, namespace, client, function) DO UPDATE SET
  answered_calls = rollups.answered_calls + excluded.answered_calls,
  duration_sum = rollups.duration_sum + excluded.duration_sum,
  duration_max = {not_negative}(rollups.duration_max, excluded.duration_max),
  input_tokens = rollups.input_tokens + excluded.input_tokens,
  output_tokens = rollups.output_tokens + excluded.output_tokens
"""
# By the hour: one row of the new table for the errors of an hour is enough, and the metrics that read it sum it up.
ERRORS = """
INSERT INTO error_rollups (bucket_at, grain, namespace, client, function, category, action, denied, "count", exhausted)
SELECT bucket_at, 3600, {namespace}, client, function, category, action, denied, ROUND(SUM(weight)), ROUND(SUM(last_tries))
FROM (
  SELECT {hour} AS bucket_at, client, function, category, action, COALESCE(denied, '') AS denied,
    1 / COALESCE(NULLIF(sample_rate, 0), 1) AS weight,
    CASE WHEN recoverable AND attempt > 1 AND action <> 'retry' AND denied IS NULL AND category <> 'circuit_open'
      THEN 1 / COALESCE(NULLIF(sample_rate, 0), 1) ELSE 0 END AS last_tries
  FROM errors
  UNION ALL
  SELECT {hour}, from_client, function, reason, 'fallback', '', 1, 0 FROM fallbacks WHERE reason = 'circuit_open'
) AS failures
GROUP BY bucket_at, client, function, category, action, denied
"""


def book_at_the_client_that_answered(old: str) -> None:
    """Book tokens and durations of the roll-ups at the client that answered, as far as the rows of calls say which one it was."""
    minute, hour = (spelled(unit).format(time="ended_at") for unit in (MINUTE, HOUR))
    run(MOVED, ended=spelled(ENDED), minute=minute, hour=hour)
    run(MOVED_TO_HOURS)
    run(ANSWERED)
    run(TAKEN)
    run(GIVEN, namespace=quoted(old))
    op.drop_table("moved_0007")


def count_errors(old: str) -> None:
    """Count the errors and refusals that have rows, so that metrics of errors do not begin at zero again."""
    run(ERRORS, hour=spelled(HOUR).format(time="occurred_at"), namespace=quoted(old))


def run(statement: str, **parts: str) -> None:
    # Not sa.text, which takes colons for parameters.
    op.get_bind().exec_driver_sql(statement.format(not_negative=spelled(NOT_NEGATIVE), **parts))
