"""What a role on PostgreSQL may lack, and the statement with which its administrator grants it.

Three roles are enough, and each needs no more than its own part:

- the role of `resilience db upgrade` owns the schema: `CREATE SCHEMA resilience AUTHORIZATION role`;
- the role of the agents: USAGE on the schema; SELECT, INSERT, UPDATE and DELETE on its tables;
- the role of readers: USAGE on the schema, and SELECT on its tables and views.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.history.schema import postgres_session, urls

_DENIED: Final = "42501"
"""The SQLSTATE of a missing right (PostgreSQL manual, appendix A)."""


def is_denied(exc: BaseException | None) -> bool:
    """Return whether the driver's error *exc* says that the role has no right to do this."""
    return getattr(exc, "sqlstate", None) == _DENIED


def create_schema(connection: sa.Connection, url: sa.URL) -> None:
    """Create the schema of our tables, unless it exists.

    It is looked up first: `CREATE SCHEMA IF NOT EXISTS` needs the right to create one even where there is nothing to create, and a role
    that owns one schema does not have it.

    Raises:
        SchemaDeniedError: the role may not create it. The message has the statement that does.
    """
    schema = postgres_session.schema_of(url)
    if connection.scalar(sa.select(sa.func.to_regnamespace(postgres_session.quoted(schema)))) is not None:
        return
    try:
        connection.exec_driver_sql(f"CREATE SCHEMA {postgres_session.quoted(schema)}")
    except DBAPIError as exc:
        if not is_denied(exc.orig):
            raise
        raise SchemaDeniedError(schema, url) from exc


class SchemaDeniedError(Exception):
    """The schema does not exist, and the role may not create it."""

    def __init__(self, schema: str, url: sa.URL) -> None:
        role, name = _role(url), postgres_session.quoted(schema)
        super().__init__(
            f"its schema {schema} does not exist and {url.username or 'this role'} may not create it: let the owner of the "
            f"database run `CREATE SCHEMA {name} AUTHORIZATION {role}`, or "
            f"`GRANT CREATE ON DATABASE {postgres_session.quoted(url.database or '...')} TO {role}`, "
            "or name a schema of this role in RESILIENCE_DATABASE_SCHEMA"
        )


def remedy(url: sa.URL, purpose: str) -> str:
    """Return the statements that grant what a role needs.

    Args:
        url: the database, with the role.
        purpose: `upgraded` or `downgraded` needs to create, `read` to select, everything else to write.
    """
    if urls.is_sqlite(url):
        return "make the file and its folder readable and writable for this user"
    schema, role = postgres_session.quoted(postgres_session.schema_of(url)), _role(url)
    if purpose in {"upgraded", "downgraded", "migrated"}:
        return f"let the schema's owner upgrade it, or run `GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}`"
    rights = "SELECT" if purpose == "read" else "SELECT, INSERT, UPDATE, DELETE"
    return (
        f"run `GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {role}` "
        "as the schema's owner"
    )


def _role(url: sa.URL) -> str:
    return postgres_session.quoted(url.username) if url.username else "CURRENT_USER"
