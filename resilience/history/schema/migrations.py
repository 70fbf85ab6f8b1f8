"""The revision of a database: the one it has, the one this code needs, and the upgrade from one to the other.

Many processes may start on one empty database at the same time. So an upgrade is one transaction that holds a write lock, and
the revision is read again once the lock is held. One process migrates; the others wait and find nothing left to do. A process
that is killed half way leaves nothing behind, because both databases roll back DDL: the tables, the views and the revision change
together or not at all.

On SQLite the lock is that of `BEGIN IMMEDIATE`. A plain `alembic upgrade` commits every `CREATE TABLE` by itself there, and three
of four such starts fail. On PostgreSQL the lock is an advisory one, which ends with the transaction. A lock on a table would not
do, since there may be no table yet.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from resilience import file_trust, lifecycle
from resilience.errors import HistoryError
from resilience.history.schema import creation, privileges, urls, version_table, view_ddl
from resilience.history.schema.engine import BEGIN, WAIT, open_engine
from resilience.history.schema.version_table import revision

T = TypeVar("T")
_WAIT = 30.0
"""Seconds to wait for the migration of another process."""
_TRY: Final = 0.1
"""Seconds of one attempt to get the lock of an SQLite file. The writer thread writes no log lines meanwhile."""
_ADVISORY_KEY = 0x7265_7369_6C69
"""The key of the advisory lock on PostgreSQL: "resili" in ASCII. Such locks belong to one database of a server."""

_migrating = threading.Lock()
# Alembic keeps its context in a module, so only one thread of a process can migrate at a time, whatever the database.


class NewerHistoryError(HistoryError):
    """The database has a newer schema than this version of the package."""


class OutdatedHistoryError(HistoryError):
    """The database of a server has an older schema than this code needs, and only its operator may upgrade it."""


def head() -> str:
    """Return the revision this code needs: the number of the newest file in `migrations/versions`.

    Revisions are numbered in order, so the newest is found without importing Alembic, which takes 0.2 s. For the same
    reason a database of a newer version is known by its number alone.

    Raises:
        HistoryError: the installed package lacks its migrations.
    """
    return _newest(script_location() / "versions")


@cache
def _newest(versions: Path) -> str:
    """Return the highest number that begins a file name in *versions*: `0003` for `0003_names.py`."""
    return max(file.name.partition("_")[0] for file in versions.glob("[0-9]*_*.py"))


def current(url: str) -> str | None:
    """Return the revision of the database at *url*; None if it has no tables yet. Creates nothing.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database cannot be read.
    """
    parsed = urls.parse(url)
    if not urls.is_there(parsed):
        return None
    with _engine(parsed, "read") as engine:
        return _revision_of(engine)


def upgrade(url: str, pause: Callable[[], None] = lambda: None) -> None:
    """Upgrade the database at *url* to `head()` and to the views of this version. Create it if it does not exist.

    Takes no lock if the database is up to date, so a start does not wait for writers.

    Args:
        url: the database.
        pause: called between two steps, also while the lock of another process is waited for.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database is newer than this code, or cannot be written.
    """
    parsed = urls.parse(url)
    with _engine(parsed, "upgraded") as engine:
        if _when_free(lambda: _is_current(engine), pause):
            return
        with _transaction(engine, pause) as connection:
            if not urls.is_sqlite(parsed):
                privileges.create_schema(connection, parsed)
            version_table.adopt(connection)
            # Read again under the lock: another process may have migrated while this one waited.
            found = revision(connection)
            if found is None and urls.is_sqlite(parsed):
                creation.create(connection, head())
            elif found != head():
                _run("upgrade", connection, head(), pause)
            elif not view_ddl.current(connection):
                view_ddl.drop(connection)
                view_ddl.create(connection)


def prepare(url: sa.URL, pause: Callable[[], None] = lambda: None) -> None:
    """Prepare the database at *url* for writing: upgrade an SQLite file, and check the revision of a server's database.

    The database of a server is never upgraded here. Processes of several versions may use it, its operator chooses the moment of
    a migration, and the role that writes may have no right to change tables.

    Args:
        url: the database, as returned by `urls.parse`.
        pause: as in `upgrade`.

    Raises:
        HistoryError: the database is newer than this code, or cannot be written.
        OutdatedHistoryError: the database of a server is older. The message names the command that upgrades it.
    """
    if urls.is_sqlite(url):
        upgrade(url.render_as_string(hide_password=False), pause)
        return
    with _engine(url, "written") as engine:
        revision = _revision_of(engine)
        _refuse_newer(engine, revision)
    if revision != head():
        state = (
            "has no tables yet" if revision is None else f"has revision {revision}, this code needs {head()}"
        )
        msg = (
            f"the history at {urls.shown(url)} {state}: run `resilience db upgrade` "
            "with RESILIENCE_DATABASE_URL set to it; the database of a server is never upgraded automatically"
        )
        raise OutdatedHistoryError(msg)


def downgrade(url: str, to: str) -> None:
    """Downgrade the database at *url*. The contents of tables and columns that the older schema lacks are lost.

    Args:
        url: the database.
        to: the revision to go back to; `base` removes all tables.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database is newer than this code, or cannot be written.
    """
    with _engine(urls.parse(url), "downgraded") as engine, _transaction(engine) as connection:
        version_table.adopt(connection)
        _run("downgrade", connection, to)


@contextmanager
def opened(url: sa.URL) -> Iterator[sa.Connection]:
    """Yield a connection to *url* inside the transaction in which migrations run; commit at the end.

    For `migrations/env.py`, if Alembic is started from its command line.

    Raises:
        HistoryError: the database is newer than this code, or cannot be written.
    """
    with _engine(url, "migrated") as engine, _transaction(engine) as connection:
        if not urls.is_sqlite(url):
            privileges.create_schema(connection, url)
        version_table.adopt(connection)
        yield connection


@contextmanager
def _transaction(engine: sa.Engine, pause: Callable[[], None] = lambda: None) -> Iterator[sa.Connection]:
    """Yield a connection in a transaction that holds the write lock, on a database that is not newer than this code."""
    with _migrating, ExitStack() as stack:
        if engine.dialect.name == "sqlite":
            _when_free(lambda: _prepare_file(engine), pause)
            begin = engine.execution_options(**{WAIT: _TRY}).begin
            connection = _when_free(lambda: stack.enter_context(begin()), pause)
        else:
            connection = stack.enter_context(engine.begin())
            # A migration may take long, so the limits of a writer do not apply. SET LOCAL ends with the transaction,
            # which matters behind a pooler: another program gets the session next.
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.text("SET LOCAL lock_timeout = '30s'"))
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_KEY)))
        _refuse_newer(engine, revision(connection))
        yield connection


def _when_free(attempt: Callable[[], T], pause: Callable[[], None]) -> T:
    """Call *attempt* until other processes do not block the file, and *pause* after each time. Return its result.

    Raises:
        OperationalError: other processes blocked the file for the whole of `_WAIT`, or something else is wrong.
    """
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            result = attempt()
        except OperationalError as exc:
            if not _is_locked(exc) or time.monotonic() > deadline:
                raise
            pause()
            time.sleep(random.uniform(0.005, 0.02))  # noqa: S311 - no secret
        else:
            pause()
            return result


def _is_locked(exc: OperationalError) -> bool:
    """Return whether another process blocks the SQLite file. Errors of a server have no such code."""
    code = getattr(exc.orig, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def create_file(path: Path) -> None:
    """Create the database file, readable by its owner alone; SQLite would create it with the umask of the process.

    An existing file is not touched, and a new one is never opened under its own name. POSIX releases all locks that a process has on
    a file when it closes any descriptor of it, also those of SQLite connections in other threads
    (https://sqlite.org/howtocorrupt.html, section 2.2). So an empty temporary file is created and linked to the name.

    Args:
        path: the file.

    Raises:
        OSError: the folder or the file cannot be created.
    """
    if path.exists():
        return
    file_trust.make_folder(path.parent)
    file, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(file)
    try:
        os.link(name, path)
    except FileExistsError:
        pass  # another process or thread was first
    except OSError:
        # A file system without hard links. O_EXCL creates the file only if it is new, so no lock of another thread is lost.
        with suppress(FileExistsError):
            os.close(file_trust.open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
    finally:
        Path(name).unlink()


def script_location() -> Path:
    """Return the folder of the migrations: inside the installed package, or at the top of a checkout.

    Raises:
        HistoryError: it is in neither place, so the installation is incomplete.
    """
    package = Path(str(resources.files("resilience")))
    installed, checkout = package / "_migrations", package.parent / "migrations"
    if (installed / "env.py").is_file():
        return installed
    if (checkout / "env.py").is_file() and (package.parent / "alembic.ini").is_file():
        return checkout
    msg = f"no migrations in {package} or beside it: install the baml-resilience package again from a complete wheel"
    raise HistoryError(msg)


@contextmanager
def _engine(url: sa.URL, purpose: str) -> Iterator[sa.Engine]:
    """Yield an engine that waits for the migration of another process; raise its errors as `HistoryError`."""
    engine = open_engine(url, wait=_WAIT)
    try:
        if urls.is_sqlite(url):
            create_file(urls.path(url))
        yield engine
    except (DBAPIError, OSError, privileges.SchemaDeniedError) as exc:
        reason = _reason(exc, url, purpose)
        if isinstance(exc, DBAPIError) and "already exists" in reason and _is_lost(engine):
            reason = version_table.LOST
        msg = f"the history at {urls.shown(url)} cannot be {purpose}: {reason}"
        raise HistoryError(msg) from exc
    finally:
        engine.dispose()


def _reason(exc: Exception, url: sa.URL, purpose: str) -> str:
    """Return why the database cannot be used, with a remedy where the error of the database has a known one."""
    if isinstance(exc, OSError):
        return exc.strerror or type(exc).__name__
    if not isinstance(exc, DBAPIError):
        return str(exc)
    reason = str(exc.orig).partition("\n")[0]
    if privileges.is_denied(exc.orig):
        return f"{reason}: {privileges.remedy(url, purpose)}"
    if "already exists" in reason:
        # The application's own table, or on a server one of the first edition. Ours would not be created twice.
        return f"{reason} and is not ours: {_elsewhere(url)}"
    return reason


def _elsewhere(url: sa.URL) -> str:
    if urls.is_sqlite(url):
        return "give RESILIENCE_DATABASE_URL a file of its own"
    return "give RESILIENCE_DATABASE_SCHEMA a schema of its own, such as resilience"


def _revision_of(engine: sa.Engine) -> str | None:
    with engine.connect().execution_options(**{BEGIN: "BEGIN"}) as connection:
        return revision(connection)


def _is_lost(engine: sa.Engine) -> bool:
    with engine.connect().execution_options(**{BEGIN: "BEGIN"}) as connection:
        return version_table.is_lost(connection)


def _is_current(engine: sa.Engine) -> bool:
    with engine.connect().execution_options(**{BEGIN: "BEGIN", WAIT: _TRY}) as connection:
        return (
            version_table.is_adopted(connection)
            and revision(connection) == head()
            and view_ddl.current(connection)
        )


def _refuse_newer(engine: sa.Engine, revision: str | None) -> None:
    if revision is not None and revision > head():
        msg = (
            f"the history at {urls.shown(engine.url)} has revision {revision}, newer than {head()} of this code: "
            "upgrade the baml-resilience package here, or give RESILIENCE_DATABASE_URL another database"
        )
        raise NewerHistoryError(msg)


def _prepare_file(engine: sa.Engine) -> None:
    """Set what SQLite accepts only outside of a transaction: WAL, and what must precede the first table: vacuum mode, page size.

    A batch of a few rows changes ten pages, the ends of the tables and of their indexes, and each goes to the write-ahead log as
    a whole. Half of SQLite's usual page halves what a process writes that makes a few calls a second. A quarter costs CPU.

    The switch to WAL needs exclusive use of the file. Processes that wait for it inside SQLite hold shared locks meanwhile, and so can
    block each other until the busy timeout ends. So each tries briefly, releases its lock, and tries again after a random pause.

    Raises:
        OperationalError: other processes block the file.
    """
    with engine.connect().execution_options(**{BEGIN: None}) as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=20")
        connection.info.pop(WAIT, None)  # the next transaction sets its own
        connection.exec_driver_sql("PRAGMA page_size=2048")
        connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def _run(
    direction: str, connection: sa.Connection, to: str, pause: Callable[[], None] = lambda: None
) -> None:
    from alembic import command  # noqa: PLC0415 - importing takes 0.2 s, and most processes never migrate
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))  # % interpolates
    config.attributes["connection"] = connection
    config.attributes["pause"] = pause
    getattr(command, direction)(config, to)


def _reset_lock() -> None:
    global _migrating  # noqa: PLW0603 - a lock that another thread held at the fork is never released in the child
    _migrating = threading.Lock()


lifecycle.call_in_child(_reset_lock)
