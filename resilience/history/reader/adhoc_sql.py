"""Run a user's own SQL: one SELECT that cannot change anything, cannot read anything else, and has a time limit.

SQLite: the file is opened read-only, `PRAGMA query_only` refuses writes to any database, and an authorizer allows reading
alone: no ATTACH (which could read other files), no PRAGMA, no transaction, no function that reaches files, memory or code. A progress
handler ends the query at its time limit. The handler is not called within one function or one sort, so the command line runs
the query in a process that it can kill, see `killable.py`.

PostgreSQL: a transaction that is read-only, which no statement can change once a query has run, and a statement timeout. The
query goes through the extended protocol, which refuses a second statement, so the text cannot switch either off first. A
superuser may still read files inside a SELECT (`pg_read_file`): give the readers of the history a role that may only SELECT. A
superuser is warned.

In both, the rows of a result may have 64 MB together: each is read by itself, and the query ends with the first one beyond.

Each query has a connection of its own, closed at its end, so that no idle reader holds up a checkpoint.
"""

from __future__ import annotations

import difflib
import logging
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience import notices, validation
from resilience.errors import HistoryError
from resilience.history.reader.results import ResultSet
from resilience.history.schema import migrations, postgres_session, tables, urls
from resilience.history.schema.db_errors import missing_object
from resilience.history.schema.sqlite_driver import module as sqlite3
from resilience.history.schema.views import VIEWS

LIMIT: Final = 1000
"""Default maximum number of rows."""
TIMEOUT: Final = 5.0
"""Default time limit in seconds."""
TABLES: Final = tuple(table.name for table in tables.metadata.sorted_tables)
"""The tables that a query may name, beside the views."""
_CLOSE: Final = 0.8
"""How alike a verb must be to be a slip: SELEC is, and DELETE, which is half of SELECT, is none."""
_NO_TABLE: Final = re.compile(r"""(?:no such table: |relation ")([\w.]+)""")
_MAX_LIMIT: Final = 1_000_000
_MAX_TIMEOUT: Final = 3600.0
_VERBS: Final = frozenset({"SELECT", "WITH", "VALUES", "EXPLAIN"})
_VERB: Final = re.compile(r"\A(?:[\s(]|--[^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z]*)", re.DOTALL)
"""The first word, behind comments and parentheses."""
_STEPS: Final = 1000
"""Instructions of SQLite's virtual machine between two looks at the clock. One may build a value of megabytes, so they are few."""
_MAX_VALUE_BYTES: Final = 10_000_000
"""The longest text, blob or row. A payload at `full` may have some megabytes."""
_MAX_COLUMNS: Final = 250
"""Columns of a result: each may have a value of that length. No table has half as many."""
_MAX_RESULT_BYTES: Final = 64 * 1024 * 1024
"""Memory that the rows of a result may take together."""
_DENIED_FUNCTIONS: Final = frozenset(
    {
        *("load_extension", "readfile", "writefile", "edit", "fsdir", "lsdir", "eval", "zipfile"),
        # The first gives the address of a function in memory, or takes one to call.
        *("fts3_tokenizer", "sqlite_log", "rtreecheck", "sqlar_uncompress"),
        # They make large values of nothing, which no question about the history needs.
        *("zeroblob", "randomblob"),
    }
)
_DENIED_TABLES: Final = frozenset({"sqlite_dbpage", "dbstat", "fsdir", "lsdir", "sqlite_stmt", "bytecode"})
"""Virtual tables of some builds. The pages of the file hold rows that were deleted."""
_ALLOWED_ACTIONS: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_MAX_PATTERN_BYTES: Final = 1000
"""The longest pattern of LIKE and GLOB: their time grows with the product of pattern and text."""
_SUPERUSER: Final = (
    "the role of this query is a superuser of PostgreSQL, which can read files of the server inside a SELECT: "
    "give people a role that may only SELECT (docs/operate.md)"
)
_log = logging.getLogger("resilience")
_PARAMETER: Final = re.compile(
    r"""'(?:[^']|'')*+(?:'|\Z)|"(?:[^"]|"")*+(?:"|\Z)|--[^\n]*|/\*.*?(?:\*/|\Z)|::|%|:(?P<name>[A-Za-z_]\w*)""",
    re.DOTALL,
)
"""A parameter, or a piece of SQL in which a colon or a percent sign is none: a string, a comment, a cast.

A string or a comment without an end reaches to the end of the text: a search for its end from each of many beginnings would take
the square of the time.
"""


class AdhocQuery:
    """One query, to be run once.

    Args:
        url: the database.
        text: one SELECT, WITH, VALUES or EXPLAIN statement; `:name` marks a parameter, in both databases.
        params: values of the parameters; an aware datetime is converted to the form in which the tables keep times.
        timeout: seconds until the database ends the query.
        limit: maximum number of rows.

    Raises:
        ValueError: *timeout* or *limit* is out of range, or a parameter is a time without a timezone.
        HistoryError: *text* begins with another word.
    """

    def __init__(
        self, url: sa.URL, text: str, params: Mapping[str, Any] | None, *, timeout: float, limit: int
    ) -> None:
        validation.number("History.sql", "timeout", timeout, high=_MAX_TIMEOUT, above=True)
        validation.integer("History.sql", "limit", limit, low=1, high=_MAX_LIMIT)
        _check_verb(text)
        self._url = url
        self._text = text
        self._params = {
            name: _bind_value(name, value, urls.is_sqlite(url)) for name, value in (params or {}).items()
        }
        self._timeout = timeout
        self._limit = limit
        self._cancelled = threading.Event()
        self._interrupt = self._cancelled.set

    def run(self) -> ResultSet:
        """Run the query and return its rows. Blocks.

        Raises:
            HistoryError: the query has an error, would change something or took too long, or the database cannot be read.
        """
        with self._translated_errors():
            return self._run_sqlite() if urls.is_sqlite(self._url) else self._run_postgresql()

    def cancel(self) -> None:
        """End the query; called from another thread than the one that runs it."""
        self._cancelled.set()
        self._interrupt()

    # --- SQLite -------------------------------------------------------------------------------------------------

    def _run_sqlite(self) -> ResultSet:
        path = urls.path(self._url)
        if not urls.is_there(self._url):
            raise HistoryError(_no_history(path))
        deadline = time.monotonic() + self._timeout
        with closing(
            sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro", uri=True, timeout=self._timeout, isolation_level=None
            )
        ) as connection:
            self._check_cancelled()
            # Another program may have written a text that is no UTF-8. It must not hide all other rows.
            connection.text_factory = lambda text: text.decode(errors="backslashreplace")
            # Order matters: the authorizer below refuses every further PRAGMA, also ours.
            connection.execute("PRAGMA query_only=ON")
            if hasattr(connection, "setlimit"):  # pysqlite3 0.6 has none
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
                connection.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, _MAX_COLUMNS)
                connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _MAX_PATTERN_BYTES)
            connection.set_authorizer(_authorize)
            connection.set_progress_handler(
                lambda: self._cancelled.is_set() or time.monotonic() > deadline, _STEPS
            )
            with closing(connection.execute(self._text, self._params)) as cursor:
                rows = self._rows(cursor)
                return self._result([column[0] for column in cursor.description or ()], rows)

    # --- PostgreSQL ---------------------------------------------------------------------------------------------

    def _run_postgresql(self) -> ResultSet:
        settings = {
            "transaction_read_only": "on",
            "statement_timeout": str(max(1, round(self._timeout * 1000))),
        }
        arguments = postgres_session.connect_arguments(
            self._url, application_name="resilience sql", connect_timeout=10
        )
        engine = sa.create_engine(urls.writing(self._url), poolclass=sa.NullPool, connect_args=arguments)
        with closing(engine.raw_connection()) as pooled:
            driver: Any = pooled.driver_connection
            self._interrupt = driver.cancel
            if driver.info.parameter_status("is_superuser") == "on":
                notices.warn(_log, "superuser", _SUPERUSER)
            self._check_cancelled()  # a cancel that came before there was a driver to interrupt
            # In the transaction of the query, which psycopg begins with this statement. The limits come last: a time limit in
            # the URL is that of the agents.
            given = {**postgres_session.transaction_settings(self._url, {}), **settings}
            driver.execute(*postgres_session.set_statement(given))
            text = _PARAMETER.sub(self._placeholder, self._text) if self._params else self._text
            # `stream` reads row by row, and closing it cancels the query: rows beyond the limit are not collected.
            with driver.cursor() as cursor, closing(cursor.stream(text, self._params or None)) as stream:
                rows = self._rows(stream)
                columns = [column.name for column in cursor.description or ()]
            if not rows:
                # A stream without rows has no description. The statement that just ran, which has no name, still does.
                statement = driver.pgconn.describe_prepared(b"")
                columns = [statement.fname(number).decode() for number in range(statement.nfields)]
            return self._result(columns, rows)

    @staticmethod
    def _placeholder(match: re.Match[str]) -> str:
        """Return psycopg's form of a parameter, or a piece of SQL with its percent signs escaped."""
        return f"%({match['name']})s" if match["name"] else match[0].replace("%", "%%")

    # --- both ---------------------------------------------------------------------------------------------------

    def _result(self, columns: Sequence[str], rows: tuple[tuple[Any, ...], ...]) -> ResultSet:
        # One row more than the limit was read, to know whether there are more.
        return ResultSet(columns=tuple(columns), rows=rows[: self._limit], truncated=len(rows) > self._limit)

    def _rows(self, found: Iterable[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
        """Read one row more than the limit, one by one.

        Raises:
            HistoryError: together they take more memory than a result may.
        """
        rows, size = [], 0
        for row in islice(found, self._limit + 1):
            size += sum(map(sys.getsizeof, row))
            if size > _MAX_RESULT_BYTES:
                msg = (
                    f"the rows of the query have more than {_MAX_RESULT_BYTES // 1024**2} MB: "
                    "select fewer columns, or fewer rows with LIMIT"
                )
                raise HistoryError(msg)
            rows.append(tuple(row))
        return tuple(rows)

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            msg = "the query was cancelled"
            raise HistoryError(msg)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise errors of the drivers as `HistoryError`; others pass unchanged."""
        try:
            yield
        except Exception as exc:
            driver_error = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
            is_sqlite = isinstance(driver_error, (sqlite3.Error, sqlite3.Warning))
            if not is_sqlite and not hasattr(driver_error, "sqlstate"):  # psycopg's errors have one
                raise
            raise HistoryError(self._message(driver_error)) from exc

    def _message(self, exc: BaseException) -> str:
        code = getattr(exc, "sqlite_errorcode", None) or getattr(exc, "sqlstate", None)
        if code in {sqlite3.SQLITE_INTERRUPT, "57014"}:  # query_canceled: also by a statement timeout
            return (
                f"the query was stopped after {self._timeout:g} s: ask for less (WHERE occurred_at >= ...), "
                "or give it a longer timeout"
            )
        # 25006 is read_only_sql_transaction; 25001 refuses to make a transaction writable that has begun to read.
        # SQLite has a general code for a function that the authorizer refuses.
        refused = code in {sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY, "25006", "25001"}
        if refused or (urls.is_sqlite(self._url) and str(exc).startswith("not authorized")):
            return f"the query was refused: it may only read ({exc})"
        revision = self._revision_if_missing(exc)
        if revision is None and missing_object(exc) is not None and urls.is_sqlite(self._url):
            # The first process is just creating the tables, which takes it some tenths of a second.
            return _no_history(urls.path(self._url))
        hint = self._revision_hint(exc, revision) or _name_hint(exc)
        return f"the query to {urls.shown(self._url)} failed: {str(exc).strip()}{hint}"

    def _revision_if_missing(self, exc: BaseException) -> str | None:
        """Return the revision of the database, if *exc* says that something is missing in it."""
        if missing_object(exc) is None:
            return None
        return migrations.current(self._url.render_as_string(hide_password=False))

    @staticmethod
    def _revision_hint(exc: BaseException, revision: str | None) -> str:
        """Return the remedy for a query that names a table of a newer or older schema; empty for other errors."""
        if missing_object(exc) is None or revision == migrations.head():
            return ""
        return f" (the database has revision {revision}, this code has {migrations.head()}: run `resilience db upgrade`)"


def _name_hint(exc: BaseException) -> str:
    """Return what the history has, for a query that names a table which it does not have; empty for other errors."""
    match = _NO_TABLE.search(str(exc))
    if missing_object(exc) != "table" or match is None:
        return ""
    known = [*TABLES, *(view.name for view in VIEWS)]
    near = difflib.get_close_matches(match[1].rpartition(".")[2], known, 1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"; {guess}there are {', '.join(known)}"


def _no_history(path: Path) -> str:
    return f"there is no history at {path} yet: it is made when the first call is recorded"


def _check_verb(text: str) -> None:
    # Only for a clear message: what protects the data is the authorizer, and the read-only transaction.
    match = _VERB.match(text)
    verb = match[1].upper() if match else ""
    if verb not in _VERBS:
        near = difflib.get_close_matches(verb, _VERBS, 1, _CLOSE)
        if near:
            msg = f"{verb!r} begins no query: did you mean {near[0]}?"
            raise HistoryError(msg)
        msg = f"a query begins with {', '.join(sorted(_VERBS))}, not with {verb or text[:20]!r}: the history is only read here"
        raise HistoryError(msg)


def _authorize(action: int, table: str | None, name: str | None, *_: object) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (name or "").lower() in _DENIED_FUNCTIONS:
        return int(sqlite3.SQLITE_DENY)
    if action == sqlite3.SQLITE_READ and (table or "").lower() in _DENIED_TABLES:
        return int(sqlite3.SQLITE_DENY)
    # SQLite reports the set-up of a table-valued function such as `json_each` as an update of `sqlite_master`. A real update
    # of it is refused by SQLite itself, and by `query_only`.
    allowed = action in _ALLOWED_ACTIONS or (action == sqlite3.SQLITE_UPDATE and table == "sqlite_master")
    return int(sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY)


def _bind_value(name: str, value: Any, is_sqlite: bool) -> Any:  # noqa: FBT001 - one of two databases
    """Return a parameter in the form that the driver takes. SQLite has no times: the tables keep UTC as text."""
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        msg = f"params[{name!r}]={value!r} has no timezone: give datetime.now(UTC)"
        raise ValueError(msg)
    utc = value.astimezone(UTC)
    return utc.replace(tzinfo=None).isoformat(" ", "microseconds") if is_sqlite else utc
