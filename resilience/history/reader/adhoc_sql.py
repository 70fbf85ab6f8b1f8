"""Queries of people: one SELECT that can change nothing, read nothing else, and take no longer than it may.

SQLite is opened read-only, and an authorizer lets nothing through but reading: no ATTACH, no PRAGMA, no transaction. PostgreSQL
gets a read-only transaction, a statement timeout, and the query in the extended protocol, which refuses a second statement; what
its superuser may do inside a SELECT (`pg_read_file`) is the role's business: give the history's readers one that may only SELECT.
Each query has a connection of its own, closed at its end: none keeps a checkpoint waiting.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience import validation
from resilience.errors import HistoryError
from resilience.history.reader import connections
from resilience.history.reader.results import ResultSet
from resilience.history.schema import migrations, urls
from resilience.history.schema.engine import noticing
from resilience.history.schema.sqlite_driver import module as sqlite3

LIMIT: Final = 1000
"""Rows a query gives when it is not told."""
TIMEOUT: Final = 5.0
"""Seconds a query may take when it is not told."""
_MOST: Final = 1_000_000
_LONGEST: Final = 3600.0
_VERBS: Final = frozenset({"SELECT", "WITH", "VALUES", "EXPLAIN"})
_VERB: Final = re.compile(r"(?:[\s(]|--[^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z]*)", re.DOTALL)
_STEPS: Final = 20_000
"""Instructions of SQLite's machine between two looks at the clock: about a millisecond."""
_LARGEST_VALUE: Final = 10_000_000
"""Bytes: one call of a function looks at no clock, so it must not be able to make gigabytes."""
_READING: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_PARAMETER: Final = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|::|%|:(?P<name>[A-Za-z_]\w*)""", re.DOTALL
)


class AdhocQuery:
    """One query, to be run once.

    Args:
        url: the database.
        text: one SELECT, WITH, VALUES or EXPLAIN; `:name` stands for a parameter, on both databases.
        params: the parameters; an aware datetime is compared as the tables keep it.
        timeout: seconds it may take.
        limit: rows it gives at most.

    Raises:
        ValueError: *timeout* or *limit* is out of range, or a parameter is a time without a timezone.
        HistoryError: *text* begins with anything else.
    """

    def __init__(
        self, url: sa.URL, text: str, params: Mapping[str, Any] | None, *, timeout: float, limit: int
    ) -> None:
        validation.number("History.sql", "timeout", timeout, high=_LONGEST, above=True)
        validation.integer("History.sql", "limit", limit, low=1, high=_MOST)
        _refuse_other(text)
        self._url = url
        self._text = text
        self._params = {
            name: _bound(name, value, urls.is_sqlite(url)) for name, value in (params or {}).items()
        }
        self._timeout = timeout
        self._limit = limit
        self._cancelled = threading.Event()
        self._stop = self._cancelled.set

    def run(self) -> ResultSet:
        """Ask, and wait for the answer.

        Raises:
            HistoryError: the query is wrong, would change something or took too long, or the database cannot be read.
        """
        with self._told():
            return self._sqlite() if urls.is_sqlite(self._url) else self._postgresql()

    def cancel(self) -> None:
        """End the query from another thread, at once."""
        self._cancelled.set()
        self._stop()

    # --- SQLite -------------------------------------------------------------------------------------------------

    def _sqlite(self) -> ResultSet:
        path = urls.path(self._url)
        if not path.exists():
            msg = f"there is no history at {path} yet: it is made when the first call is recorded"
            raise HistoryError(msg)
        deadline = time.monotonic() + self._timeout
        with closing(
            sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro", uri=True, timeout=self._timeout, isolation_level=None
            )
        ) as connection:
            self._go_on()
            connection.execute("PRAGMA query_only=ON")
            if hasattr(connection, "setlimit"):  # pysqlite3 0.6 has none
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
            connection.set_authorizer(_only_reading)
            connection.set_progress_handler(
                lambda: self._cancelled.is_set() or time.monotonic() > deadline, _STEPS
            )
            with closing(connection.execute(self._text, self._params)) as cursor:
                found = tuple(islice(cursor, self._limit + 1))
                return self._sheet([column[0] for column in cursor.description or ()], found)

    # --- PostgreSQL ---------------------------------------------------------------------------------------------

    def _postgresql(self) -> ResultSet:
        options = (
            "-c timezone=UTC -c default_transaction_read_only=on "
            f"-c statement_timeout={max(1, round(self._timeout * 1000))}"
        )
        arguments = {
            **noticing(self._url),
            "options": options,
            "application_name": "resilience sql",
            "connect_timeout": 10,
        }
        engine = sa.create_engine(urls.writing(self._url), poolclass=sa.NullPool, connect_args=arguments)
        with closing(engine.raw_connection()) as pooled:
            driver: Any = pooled.driver_connection
            self._stop = driver.cancel
            self._go_on()
            text = _PARAMETER.sub(self._placeholder, self._text) if self._params else self._text
            with driver.cursor() as cursor, closing(cursor.stream(text, self._params or None)) as rows:
                found = tuple(islice(rows, self._limit + 1))
                columns = [column.name for column in cursor.description or ()]
            if not found:  # a stream without rows does not say of what; the statement that ran does
                told = driver.pgconn.describe_prepared(b"")
                columns = [told.fname(number).decode() for number in range(told.nfields)]
            return self._sheet(columns, found)

    @staticmethod
    def _placeholder(found: re.Match[str]) -> str:
        """Psycopg's spelling of one parameter, or a piece of SQL in which psycopg must see none."""
        return f"%({found['name']})s" if found["name"] else found[0].replace("%", "%%")

    # --- both ---------------------------------------------------------------------------------------------------

    def _sheet(self, columns: Sequence[str], found: tuple[tuple[Any, ...], ...]) -> ResultSet:
        return ResultSet(columns=tuple(columns), rows=found[: self._limit], cut=len(found) > self._limit)

    def _go_on(self) -> None:
        if self._cancelled.is_set():
            msg = "the query was cancelled"
            raise HistoryError(msg)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever the drivers raise as an error of ours."""
        try:
            yield
        except Exception as exc:
            orig = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
            if not isinstance(orig, (sqlite3.Error, sqlite3.Warning)) and not hasattr(orig, "sqlstate"):
                raise
            raise HistoryError(self._reason(orig)) from exc

    def _reason(self, exc: BaseException) -> str:
        code = getattr(exc, "sqlite_errorcode", None) or getattr(exc, "sqlstate", None)
        if code in {sqlite3.SQLITE_INTERRUPT, "57014"}:
            return (
                f"the query was stopped after {self._timeout:g} s: ask for less (WHERE occurred_at >= ...), "
                "or give it a longer timeout"
            )
        if code in {sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY, "25006"}:
            return f"the query was refused: it may only read ({exc})"
        return f"the query to {urls.shown(self._url)} failed: {str(exc).strip()}{self._behind(exc)}"

    def _behind(self, exc: BaseException) -> str:
        """What to do when the query names something that only a newer, or an older, database has."""
        if not connections.is_missing(exc):
            return ""
        found = migrations.current(self._url.render_as_string(hide_password=False))
        if found == migrations.head():
            return ""
        return f" (the database has revision {found}, this code has {migrations.head()}: run `resilience db upgrade`)"


def _refuse_other(text: str) -> None:
    found = _VERB.match(text)
    verb = found[1].upper() if found else ""
    if verb not in _VERBS:
        msg = f"a query begins with {', '.join(sorted(_VERBS))}, not with {verb or text[:20]!r}: the history is only read here"
        raise HistoryError(msg)


def _only_reading(action: int, table: str | None, *_: object) -> int:
    """SQLite calls what `json_each` does first an update of `sqlite_master`; a real one it refuses by itself."""
    allowed = action in _READING or (action == sqlite3.SQLITE_UPDATE and table == "sqlite_master")
    return int(sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY)


def _bound(name: str, value: Any, is_sqlite: bool) -> Any:  # noqa: FBT001 - one of two databases
    """A parameter as the driver takes it; SQLite has no times, only their text."""
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        msg = f"params[{name!r}]={value!r} has no timezone: give datetime.now(UTC)"
        raise ValueError(msg)
    utc = value.astimezone(UTC)
    return utc.replace(tzinfo=None).isoformat(" ", "microseconds") if is_sqlite else utc
