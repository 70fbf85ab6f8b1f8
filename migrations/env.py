"""How Alembic reaches the history: on a connection it is given, or from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from logging.config import fileConfig
from typing import Any, Literal

import sqlalchemy as sa
from alembic import context

from resilience.history.schema import migrations, urls, view_ddl
from resilience.history.schema.tables import UtcDateTime, metadata

config = context.config


def render_item(kind: str, item: Any, _autogen: Any) -> str | Literal[False]:
    """Write our own type as the plain one under it: a migration must not import code that will change."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run(**target: Any) -> None:
    """Run the migrations in the one transaction that is already open, and make the views anew around them.

    A view would keep SQLite from changing the tables it reads.
    """
    context.configure(
        target_metadata=metadata,
        render_as_batch=True,
        transactional_ddl=True,
        transaction_per_migration=False,
        compare_type=True,
        compare_server_default=True,
        render_item=render_item,
        **target,
    )
    with context.begin_transaction():
        migrate(target.get("connection"))


def migrate(connection: sa.Connection | None) -> None:
    """Views away, tables changed, views made again where the tables are the ones they read."""
    if connection is None:  # SQL to read (`--sql`)
        tell(view_ddl.dropping())
        context.run_migrations()
        if context.get_revision_argument() == migrations.head():
            tell(view_ddl.statements(context.get_context().dialect.name))
        return
    view_ddl.drop(connection)
    context.run_migrations()
    if migrations.revision(connection) == migrations.head():
        view_ddl.create(connection)


def tell(statements: Iterable[str]) -> None:
    """Print SQL that is no migration."""
    for statement in statements:
        context.static_output(f"{statement};\n\n")


def database_url() -> str:
    """The database the command line means."""
    given = context.get_x_argument(as_dictionary=True).get("url") or config.get_main_option("sqlalchemy.url")
    if given:
        return str(given)
    from resilience.config.settings import Settings  # noqa: PLC0415 - a process that upgrades its own history never needs it

    return str(Settings().complete().database_url)


def run_from_command_line() -> None:
    """Open the database as `schema.upgrade` does, or print SQL (`--sql`)."""
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
