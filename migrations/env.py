"""Alembic's environment: runs migrations on a connection that is passed in, or on one opened for the command line."""

from __future__ import annotations

from collections.abc import Iterable
from logging.config import fileConfig
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context

from resilience.history.schema import migrations, postgres_session, urls, version_table, view_ddl
from resilience.history.schema.columns import Json
from resilience.history.schema.tables import UtcDateTime, describe_for_postgresql, metadata

config = context.config


def render_item(kind: str, item: Any, _autogen: Any) -> str | Literal[False]:
    """Return how a generated migration writes a type: ours as a plain one, because migrations must not import code that changes."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Json):
        return 'sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")'
    return False


def run(**target: Any) -> None:
    """Run the migrations, and the DDL of the views around them, in one transaction.

    One transaction for all of them, and not one for each migration: a process that is killed then leaves the database at the revision
    from which it started. On SQLite and PostgreSQL DDL takes part in transactions.

    Args:
        target: where to run: `connection`, or `url` and `literal_binds` to print SQL.
    """
    connection: sa.Connection | None = target.get("connection")
    on_server = connection is not None and connection.dialect.name == "postgresql"
    if on_server:
        describe_for_postgresql()
    context.configure(
        target_metadata=metadata,
        # A name of our own: `alembic_version` belongs to the application whose database this is.
        version_table=version_table.NAME,
        version_table_schema=postgres_session.schema_of_connection(connection)
        if on_server and connection is not None
        else None,
        render_as_batch=True,
        transactional_ddl=True,
        transaction_per_migration=False,
        compare_type=True,
        compare_server_default=True,
        render_item=render_item,
        on_version_apply=lambda **_: config.attributes.get("pause", lambda: None)(),
        **target,
    )
    with context.begin_transaction():
        migrate(connection)


def migrate(connection: sa.Connection | None) -> None:
    """Drop the views, change the tables, and create the views again if the tables are those of this version.

    SQLite cannot rebuild a table that a view reads, and PostgreSQL cannot drop a column that one reads. After a downgrade there are
    no views, since those of this version do not fit the older tables.

    Args:
        connection: the database; None to print SQL (`alembic upgrade --sql`).
    """
    if connection is None:
        print_sql(schema_statements())
        print_sql(view_ddl.drop_statements())
        context.run_migrations()
        if context.get_revision_argument() == migrations.head():
            print_sql(view_ddl.create_statements(context.get_context().dialect.name))
        return
    view_ddl.drop(connection)
    context.run_migrations()
    if version_table.revision(connection) == migrations.head():
        view_ddl.create(connection)


def schema_statements() -> Iterable[str]:
    """Yield the SQL that creates the schema of a server's tables and looks up names in it; for `--sql`."""
    url = urls.parse(database_url())
    if not urls.is_sqlite(url):
        schema = postgres_session.quoted(postgres_session.schema_of(url))
        yield f"CREATE SCHEMA IF NOT EXISTS {schema}"
        yield f"SET LOCAL search_path = {schema}"


def print_sql(statements: Iterable[str]) -> None:
    """Print SQL that is not part of a migration, in the format that Alembic uses for migrations."""
    for statement in statements:
        context.static_output(f"{statement};\n\n")


def database_url() -> str:
    """Return the URL of the database: `-x url=...`, `sqlalchemy.url` of the configuration, or the project's settings."""
    url = context.get_x_argument(as_dictionary=True).get("url") or config.get_main_option("sqlalchemy.url")
    if url:
        return str(url)
    from resilience.config.settings import Settings  # noqa: PLC0415 - only the command line needs it

    return str(Settings().complete().database_url)


def run_from_command_line() -> None:
    """Run the migrations on a connection like that of `migrations.upgrade`, or print their SQL (`--sql`)."""
    if config.config_file_name is not None:
        fileConfig(config.config_file_name, disable_existing_loggers=False)
    url = urls.parse(database_url())
    if context.is_offline_mode():
        run(url=urls.writing(url), literal_binds=True)
        return
    with migrations.opened(url) as connection:
        run(connection=connection)


connection: sa.Connection | None = config.attributes.get("connection")
if connection is None:
    run_from_command_line()
else:
    run(connection=connection)
