"""The version of a database: which one it has, which one this code needs, and the way from one to the other.

Many processes may start on one empty database at the same time. So the write lock is taken before the version is looked at
a second time, and held over the whole upgrade: one process migrates, the others wait and find it done, and a process killed
half way leaves nothing behind. `CREATE TABLE` in a transaction of its own, which is what a plain `alembic upgrade` would
do on SQLite, fails three of four such starts.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from resilience import lifecycle
from resilience.errors import HistoryError
from resilience.history.schema import urls, view_ddl
from resilience.history.schema.engine import BEGIN, open_engine

_WAIT = 30.0
"""Seconds a start waits for another process's migration."""
_ADVISORY_KEY = 0x7265_7369_6C69  # "resili": one key for all databases, it is looked up in each of them
_VERSION = sa.table("alembic_version", sa.column("version_num", sa.String))

_migrating = threading.Lock()  # alembic.context is one per process, whoever is using it


class NewerHistoryError(HistoryError):
    """The database was written by a newer version of this package."""


class OutdatedHistoryError(HistoryError):
    """The database of a server is not what this code needs, and nobody has told us to change it."""


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
    """The revision of the database at *url*; None when it has none yet. Creates nothing.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database cannot be read.
    """
    parsed = urls.parse(url)
    if urls.is_sqlite(parsed) and not urls.path(parsed).exists():
        return None
    with _engine(parsed, "read") as engine:
        return _revision_of(engine)


def upgrade(url: str) -> None:
    """Bring the database at *url* to `head()` and to this code's views, creating it where there is none.

    Takes no lock when it is there already.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database is newer than this code, or cannot be written.
    """
    parsed = urls.parse(url)
    with _engine(parsed, "upgraded") as engine:
        if _is_current(engine):
            return
        with _transaction(engine) as connection:
            if revision(connection) != head():
                _run("upgrade", connection, head())
            elif not view_ddl.current(connection):
                view_ddl.drop(connection)
                view_ddl.create(connection)


def prepare(url: sa.URL) -> None:
    """Make *url* fit for writing: the embedded file is upgraded, the database of a server only looked at.

    A server's tables belong to more than one program's processes, its migrations to a moment people choose, and the role
    that writes there may not be allowed to change them.

    Raises:
        HistoryError: the database is newer than this code, or cannot be written.
        OutdatedHistoryError: a server's database is older; it names the command that upgrades it.
    """
    if urls.is_sqlite(url):
        upgrade(url.render_as_string(hide_password=False))
        return
    with _engine(url, "read") as engine:
        found = _revision_of(engine)
        _refuse_newer(engine, found)
    if found != head():
        state = "has no tables yet" if found is None else f"has revision {found}, this code needs {head()}"
        msg = (
            f"the history at {urls.shown(url)} {state}: run `resilience db upgrade` "
            "with RESILIENCE_DATABASE_URL set to it; a server's database is never upgraded by itself"
        )
        raise OutdatedHistoryError(msg)


def downgrade(url: str, to: str) -> None:
    """Take the database at *url* back to revision *to* (`"base"`: to nothing). What the newer tables held is lost.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database is newer than this code, or cannot be written.
    """
    with _engine(urls.parse(url), "downgraded") as engine, _transaction(engine) as connection:
        _run("downgrade", connection, to)


@contextmanager
def opened(url: sa.URL) -> Iterator[sa.Connection]:
    """A connection to *url* in the one transaction migrations run in, for `migrations/env.py`; commits at the end.

    Raises:
        HistoryError: the database is newer than this code, or cannot be written.
    """
    with _engine(url, "migrated") as engine, _transaction(engine) as connection:
        yield connection


@contextmanager
def _transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that holds the write lock, on a database that is not newer than this code."""
    with _migrating:
        if engine.dialect.name == "sqlite":
            _prepare_file(engine)
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
                connection.execute(sa.text("SET LOCAL lock_timeout = '30s'"))
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_KEY)))
            _refuse_newer(engine, revision(connection))
            yield connection


def revision(connection: sa.Connection) -> str | None:
    """The revision *connection*'s database has, by plain SQL: importing Alembic takes longer than a whole upgrade."""
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    found: str | None = connection.scalar(sa.select(_VERSION.c.version_num))
    return found


def create_file(path: Path) -> None:
    """Create the database file, readable by its owner alone, before SQLite would with the process's umask.

    One that exists is not touched, and a new one is never open under its own name: whoever closes a file lets go of all
    locks its process has on it (https://sqlite.org/howtocorrupt.html, section 2.2), those of SQLite's connections too.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(file)
    try:
        os.link(name, path)
    except FileExistsError:
        pass  # another process or thread was first
    except OSError:  # a file system without hard links
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    finally:
        Path(name).unlink()


def script_location() -> Path:
    """The folder of the migrations: inside the installed package, or at the top of a checkout.

    Raises:
        HistoryError: it is in neither place.
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
    """An engine that waits long enough for another process's migration, and tells its troubles as ours."""
    engine = open_engine(url, wait=_WAIT)
    try:
        if urls.is_sqlite(url):
            create_file(urls.path(url))
        yield engine
    except (DBAPIError, OSError) as exc:
        reason = exc.orig if isinstance(exc, DBAPIError) else exc.strerror
        msg = f"the history at {urls.shown(url)} cannot be {purpose}: {reason}"
        raise HistoryError(msg) from exc
    finally:
        engine.dispose()


def _revision_of(engine: sa.Engine) -> str | None:
    with engine.connect().execution_options(**{BEGIN: "BEGIN"}) as connection:
        return revision(connection)


def _is_current(engine: sa.Engine) -> bool:
    with engine.connect().execution_options(**{BEGIN: "BEGIN"}) as connection:
        return revision(connection) == head() and view_ddl.current(connection)


def _refuse_newer(engine: sa.Engine, found: str | None) -> None:
    if found is not None and found > head():
        msg = (
            f"the history at {urls.shown(engine.url)} has revision {found}, newer than {head()} of this code: "
            "upgrade the baml-resilience package here, or give RESILIENCE_DATABASE_URL another database"
        )
        raise NewerHistoryError(msg)


def _prepare_file(engine: sa.Engine) -> None:
    """What SQLite only takes outside of transactions and, for the vacuum mode, before the first table.

    The switch to WAL needs the file for itself. Processes that wait for it inside SQLite can wait for each other, until
    the busy timeout ends; so each tries briefly, lets go and tries again.
    """
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            with engine.connect().execution_options(**{BEGIN: None}) as connection:
                connection.exec_driver_sql("PRAGMA busy_timeout=20")
                connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                connection.exec_driver_sql(f"PRAGMA busy_timeout={_WAIT * 1000:.0f}")
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.005, 0.02))  # noqa: S311 - no secret
        else:
            return


def _run(direction: str, connection: sa.Connection, to: str) -> None:
    from alembic import command  # noqa: PLC0415 - takes 0.2 s, and most processes never migrate
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.attributes["connection"] = connection
    getattr(command, direction)(config, to)


def _forget() -> None:
    global _migrating  # noqa: PLW0603 - a lock held by another thread at the fork would never be released here
    _migrating = threading.Lock()


lifecycle.call_in_child(_forget)
