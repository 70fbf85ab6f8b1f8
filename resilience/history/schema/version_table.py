"""The table that holds the revision of the schema: `resilience_version`, a name of our own.

An application that has its own Alembic keeps its revision in `alembic_version`. Two programs that share that table in one database
break each other: each takes the other's revision for its own. So ours has another name, on both databases.

The first edition of this package used `alembic_version`. Its SQLite files are adopted: if a file has that table with one of the
first edition's revisions, and the tables of the first edition as well, the revision moves to our table. The row of an application in
the same table stays. Tables on a PostgreSQL server are not adopted, since they may be in the application's own schema `public`;
`resilience doctor` names them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from resilience.history.schema import postgres_session

NAME: Final = "resilience_version"

_METADATA: Final = sa.MetaData()
# The table as Alembic creates it.
_VERSION: Final = sa.Table(
    NAME,
    _METADATA,
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name=f"{NAME}_pkc"),
)
_FORMER: Final = sa.Table("alembic_version", _METADATA, sa.Column("version_num", sa.String(32)))

_OUR_NUMBER: Final = re.compile(r"\d{4}")
"""The form of our revisions. Alembic gives those of applications twelve hexadecimal digits, unless they choose otherwise."""
LOST: Final = (
    "the tables of a history are there, but the row with their revision is missing: put back a copy of the file, "
    "or move it away; `resilience history import` then brings in the log lines"
)
"""Why a file of which `is_lost` is true is not used, with the remedy."""
_FIRST_TABLES: Final = {
    "calls": {"call_id", "request_id", "client_final", "outcome"},
    "errors": {"event_id", "call_id", "fingerprint", "exception_type"},
    "instances": {"instance_id", "heartbeat_at", "dropped_events"},
}
"""Tables of every revision of the first edition, with columns by which they differ from tables of the same name of other programs."""


def revision(connection: sa.Connection) -> str | None:
    """Return the revision of the database; None without tables of ours.

    By plain SQL, because importing Alembic takes longer than a check and most processes never migrate.
    """
    if _exists(connection, NAME):
        stored: str | None = connection.scalar(sa.select(_VERSION.c.version_num))
        return stored
    return former_revision(connection)


def is_adopted(connection: sa.Connection) -> bool:
    """Return whether the revision is in our own table."""
    return _exists(connection, NAME)


def former_revision(connection: sa.Connection) -> str | None:
    """Return the revision of an SQLite file of the first edition, which `alembic_version` holds; None for any other database."""
    if connection.dialect.name != "sqlite" or not _exists(connection, _FORMER.name):
        return None
    if not _has_our_tables(connection):
        return None
    held = connection.scalars(sa.select(_FORMER.c.version_num)).all()
    return next((number for number in held if _OUR_NUMBER.fullmatch(number)), None)


def is_lost(connection: sa.Connection) -> bool:
    """Return whether an SQLite file has our tables and no revision: another program has deleted it, or copied a part of the tables."""
    return (
        connection.dialect.name == "sqlite" and revision(connection) is None and _has_our_tables(connection)
    )


def _has_our_tables(connection: sa.Connection) -> bool:
    return all(columns <= _columns(connection, table) for table, columns in _FIRST_TABLES.items())


def adopt(connection: sa.Connection) -> None:
    """Move the revision of a file of the first edition to our own table. Do nothing on any other database."""
    found = former_revision(connection)
    if found is None or is_adopted(connection):
        return
    _VERSION.create(connection)
    connection.execute(sa.insert(_VERSION).values(version_num=found))
    connection.execute(sa.delete(_FORMER).where(_FORMER.c.version_num == found))
    # A row that is left belongs to an application, and so does the table then.
    if not connection.scalars(sa.select(_FORMER.c.version_num)).all():
        _FORMER.drop(connection)


def stamp(connection: sa.Connection, revision: str) -> None:
    """Note that the database has *revision*. It has none yet."""
    _VERSION.create(connection, checkfirst=True)
    connection.execute(sa.insert(_VERSION).values(version_num=revision))


def first_edition_schemas(connection: sa.Connection) -> Sequence[str]:
    """Return the schemas of a PostgreSQL database that have tables of the first edition. They are not read."""
    found: Sequence[str] = connection.scalars(
        _FIRST_EDITION_SCHEMAS, {"ours": postgres_session.schema_of_connection(connection)}
    ).all()
    return found


_FIRST_EDITION_SCHEMAS: Final = sa.text(
    """
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'client_final' AND NOT a.attisdropped
WHERE c.relname = 'calls' AND c.relkind = 'r'
AND EXISTS (SELECT FROM pg_class v WHERE v.relnamespace = n.oid AND v.relname = 'alembic_version')
AND NOT EXISTS (SELECT FROM pg_class v WHERE v.relnamespace = n.oid AND v.relname = 'resilience_version')
AND n.nspname <> :ours
ORDER BY n.nspname
"""
)


def _exists(connection: sa.Connection, table: str) -> bool:
    if connection.dialect.name == "sqlite":
        return bool(_columns(connection, table))
    # to_regclass reads no other schema than the one that is named, and is null instead of an error without it.
    name = f"{postgres_session.quoted(postgres_session.schema_of_connection(connection))}.{table}"
    return connection.scalar(sa.select(sa.func.to_regclass(name))) is not None


def _columns(connection: sa.Connection, table: str) -> set[str]:
    """Return the names of the columns of an SQLite table; none if it does not exist."""
    return {name for _, name, *_ in connection.exec_driver_sql(f"PRAGMA table_info({table})")}
