"""Read the fleet's history: `History` for asyncio, `SyncHistory` for programs without an event loop."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.errors import HistoryError
from resilience.history.reader import aggregates, connections, queries
from resilience.history.reader.adhoc_sql import LIMIT, TIMEOUT, AdhocQuery
from resilience.history.reader.queries import Query, Rows
from resilience.history.reader.results import ResultSet
from resilience.history.schema import urls
from resilience.history.schema.tolerant_types import without_gaps

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_P = ParamSpec("_P")
_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_FLUSH_SECONDS: Final = 1.0
"""Longest wait of a reader for the rows of its own process. While the database is locked or away it reads without them."""


# Each method of the two classes is made from a function of `queries` or `aggregates`, so that signature, documentation and
# SQL exist once. A type checker sees the function's own parameters through ParamSpec.


def _async_method(
    make_query: Callable[_P, Query[_T]],
) -> Callable[Concatenate[History, _P], Coroutine[Any, Any, _T]]:
    @functools.wraps(make_query)
    async def method(self: History, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._run(make_query(*args, **_in_namespace(self.namespace, kwargs)))

    return _with_signature(method, make_query)


def _blocking_method(make_query: Callable[_P, Query[_T]]) -> Callable[Concatenate[SyncHistory, _P], _T]:
    @functools.wraps(make_query)
    def method(self: SyncHistory, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self._run(make_query(*args, **_in_namespace(self.namespace, kwargs)))

    return _with_signature(method, make_query)


def _in_namespace(namespace: str | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return *keywords* with the namespace of a history, unless the caller named one, or None for all."""
    # Every query has this parameter, so a history needs no list of those that can be filtered; a test calls each of them.
    return {"namespace": namespace, **keywords}


def _with_signature(method: _F, make_query: Callable[..., Any]) -> _F:
    """Give *method* the parameters of *make_query* after `self`, for `help` and for editors."""
    signature = inspect.signature(make_query)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    # The return annotation is left out: `Query[...]` is what the function returns, and not what the method does.
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]  # functions accept any attribute
        parameters=[this, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
    return method


class PendingRows(Protocol):
    """Rows of this process that are not in the database yet: a recorder."""

    @property
    def queue_depth(self) -> int:
        """Number of records that are not written yet."""

    def flush(self, timeout: float = 2.0) -> bool:
        """Write them. Return whether that succeeded within *timeout* seconds."""

    async def aflush(self, timeout: float = 2.0) -> bool:  # noqa: ASYNC109 - as in `Recorder`
        """Write them without blocking the event loop."""


class History:
    """The records of all processes that write to one database.

    Connections to a server are opened at the first read and stay open; those to a file are closed after each read. A database file
    that does not exist yet, or has no tables yet, reads as empty: no process has recorded anything so far. What this process
    recorded through *recorder* is written before each read.

    Safe in several event loops and in a forked child. Each read is a few short statements. Cancelling a read releases its
    caller at once and ends the statement in the background.

    Args:
        url: the database, as for `Recorder`; None reads as empty.
        namespace: the namespace whose rows every query reads, unless it names another one; None for all.
        recorder: what writes to it in this process; None if nothing does.

    Attributes:
        namespace: as given.

    Raises:
        ConfigurationError: *url* cannot be used.
    """

    def __init__(
        self, url: str | None, namespace: str | None = None, recorder: PendingRows | None = None
    ) -> None:
        self.namespace = namespace
        self._url = None if url is None else urls.parse(url)
        self._recorder = recorder
        self._engine: AsyncEngine | None = None
        self._pid = os.getpid()
        self._running = 0
        self._abandoned: set[asyncio.Task[Any]] = set()

    errors = _async_method(queries.errors)
    error = _async_method(queries.error)
    calls = _async_method(queries.calls)
    fallbacks = _async_method(queries.fallbacks)
    timeline = _async_method(queries.timeline)
    summary = _async_method(queries.summary)
    rates = _async_method(aggregates.rates)
    groups = _async_method(aggregates.groups)
    outages = _async_method(aggregates.outages)
    mttr = _async_method(aggregates.mttr)
    retry_success = _async_method(aggregates.retry_success)
    fallback_success = _async_method(aggregates.fallback_success)
    recovery = _async_method(aggregates.recovery)
    latency = _async_method(aggregates.latency)
    tenants = _async_method(aggregates.tenants)

    async def sql(
        self,
        text: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - a limit of the database, not of the coroutine
        limit: int = LIMIT,
    ) -> ResultSet:
        """Run a user's own SQL query in a thread; see `SyncHistory.sql`. A cancelled query is ended in the database too."""
        query = _adhoc_query(self._url, text, params, timeout, limit)
        await self._write_pending()
        result = asyncio.get_running_loop().run_in_executor(None, query.run)
        try:
            return await result
        except asyncio.CancelledError:
            query.cancel()
            raise

    @property
    def sync(self) -> SyncHistory:
        """The same history for blocking code. It has nothing to close."""
        url = None if self._url is None else self._url.render_as_string(hide_password=False)
        return SyncHistory(url, self.namespace, self._recorder)

    async def aclose(self) -> None:
        """Close the connections. A later read opens them again."""
        engine, self._engine = self._engine, None
        if engine is not None and self._pid == os.getpid():
            await asyncio.gather(*self._abandoned, return_exceptions=True)
            await engine.dispose()

    # --- running a query ----------------------------------------------------------------------------------------

    async def _write_pending(self) -> None:
        if self._recorder is not None and self._recorder.queue_depth:
            await self._recorder.aflush(_FLUSH_SECONDS)

    async def _run(self, query: Query[_T]) -> _T:
        await self._write_pending()
        url, engine = self._url, self._open()
        if url is None or engine is None:
            return _empty_result(query)
        handle = _StatementHandle()
        read = asyncio.ensure_future(self._read(engine, url, query, handle))
        try:
            # Shielded: when it is cancelled itself, the driver's coroutine waits until the statement has ended.
            return await asyncio.shield(read)
        except asyncio.CancelledError:
            self._abandon(read, handle)
            raise

    async def _read(self, engine: AsyncEngine, url: sa.URL, query: Query[_T], handle: _StatementHandle) -> _T:
        """Run *query*, and close the connections to a file when no other read runs.

        Each connection of aiosqlite has a thread. One that a program leaves behind warns in `python -X dev`, and opening a file again
        costs a few milliseconds. A connection to a server costs more, and stays open.
        """
        self._running += 1
        try:
            return await _read(engine, url, query, handle)
        finally:
            self._running -= 1
            if not self._running and urls.is_sqlite(url):
                await engine.dispose()

    def _abandon(self, read: asyncio.Task[Any], handle: _StatementHandle) -> None:
        """End a read whose caller was cancelled, in the background."""
        handle.abandoned = True
        if handle.driver is None:
            read.cancel()
        for task in (read, asyncio.ensure_future(handle.stop())):
            # The set keeps the tasks alive: the event loop refers to a task only weakly. `aclose` waits for them.
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)
            task.add_done_callback(_consume_exception)

    def _open(self) -> AsyncEngine | None:
        """Return the engine of this process; None if there is no history to read yet."""
        if self._engine is not None and self._pid != os.getpid():
            # The threads of its connections stayed in the parent, and its sockets are shared with the parent. Nothing of it
            # may be used, closed or garbage-collected here, so the child keeps a reference until it ends.
            _inherited_engines.append(self._engine)
            self._engine.sync_engine.dispose(close=False)
            self._engine = None
        if self._engine is None and self._url is not None and urls.is_there(self._url):
            self._engine, self._pid = connections.open_async(self._url), os.getpid()
            self._abandoned = set()
        return self._engine


class SyncHistory:
    """The methods of `History` as blocking functions, for scripts and threads. It has nothing to close.

    Args:
        url: the database, as for `Recorder`; None reads as empty.
        namespace: the namespace whose rows every query reads, unless it names another one; None for all.
        recorder: as for `History`.

    Attributes:
        namespace: as given.

    Raises:
        ConfigurationError: *url* cannot be used.
    """

    def __init__(
        self, url: str | None, namespace: str | None = None, recorder: PendingRows | None = None
    ) -> None:
        self.namespace = namespace
        self._url = None if url is None else urls.parse(url)
        self._recorder = recorder
        # Safe to inherit in a forked child: between two reads the engine holds no connection.
        self._engine: sa.Engine | None = None

    errors = _blocking_method(queries.errors)
    error = _blocking_method(queries.error)
    calls = _blocking_method(queries.calls)
    fallbacks = _blocking_method(queries.fallbacks)
    timeline = _blocking_method(queries.timeline)
    summary = _blocking_method(queries.summary)
    rates = _blocking_method(aggregates.rates)
    groups = _blocking_method(aggregates.groups)
    outages = _blocking_method(aggregates.outages)
    mttr = _blocking_method(aggregates.mttr)
    retry_success = _blocking_method(aggregates.retry_success)
    fallback_success = _blocking_method(aggregates.fallback_success)
    recovery = _blocking_method(aggregates.recovery)
    latency = _blocking_method(aggregates.latency)
    tenants = _blocking_method(aggregates.tenants)

    def sql(
        self,
        text: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = TIMEOUT,
        limit: int = LIMIT,
    ) -> ResultSet:
        """Run a user's own SQL query over the tables and views, of all namespaces. It can only read.

        Args:
            text: one SELECT, WITH, VALUES or EXPLAIN statement; `:name` marks a parameter, in both databases.
            params: values of the parameters; an aware datetime compares correctly with the columns of times.
            timeout: seconds until the database ends the query, up to 3600.
            limit: maximum number of rows, up to a million; `ResultSet.truncated` tells whether there were more.

        Raises:
            ValueError: *timeout* or *limit* is out of range, or a parameter is a time without a timezone.
            HistoryError: the query has an error, would change something or took too long, or the database cannot be read.
        """
        query = _adhoc_query(self._url, text, params, timeout, limit)
        self._write_pending()
        return query.run()

    def _write_pending(self) -> None:
        if self._recorder is not None and self._recorder.queue_depth:
            self._recorder.flush(_FLUSH_SECONDS)

    def _run(self, query: Query[_T]) -> _T:
        self._write_pending()
        if self._url is None or not urls.is_there(self._url):
            return _empty_result(query)
        engine = self._engine = self._engine or connections.open_blocking(self._url)
        try:
            with engine.connect() as connection:
                statements = query.build(engine.dialect.name)
                results: Sequence[Any] = [
                    without_gaps(
                        statement, connection.execute(statement).mappings().all(), engine.dialect.name
                    )
                    for statement in statements
                ]
        except DBAPIError as exc:
            return _empty_result_or_raise(connections.interpret(exc, self._url), query, exc)
        return query.convert(results)


def read(url: str | None, query: Query[_T]) -> _T:
    """Run a query that is no method of `SyncHistory`, and block until its rows are here.

    Args:
        url: the database, as for `SyncHistory`.
        query: what to read.

    Raises:
        HistoryError: the database cannot be read.
        ConfigurationError: *url* cannot be used.
    """
    return SyncHistory(url)._run(query)  # noqa: SLF001 - the same module


class _StatementHandle:
    """The driver connection of a running read, so that another task can end its statement.

    Attributes:
        driver: the connection of aiosqlite or psycopg while statements run; None before and after.
        abandoned: whether the caller was cancelled; no further statement is started then.
    """

    __slots__ = ("abandoned", "driver")

    def __init__(self) -> None:
        self.driver: Any = None
        self.abandoned = False

    async def stop(self) -> None:
        """End the running statement, if there is one."""
        if self.driver is not None:
            # aiosqlite has `interrupt`, psycopg has `cancel_safe`.
            await (getattr(self.driver, "interrupt", None) or self.driver.cancel_safe)()


async def _read(engine: AsyncEngine, url: sa.URL, query: Query[_T], handle: _StatementHandle) -> _T:
    results: list[Rows] = []
    try:
        async with engine.connect() as connection:
            handle.driver = (await connection.get_raw_connection()).driver_connection
            for statement in query.build(engine.dialect.name):
                if handle.abandoned:
                    break
                rows = (await connection.execute(statement)).mappings().all()
                results.append(without_gaps(statement, rows, engine.dialect.name))
            # From here the connection goes back to the pool: a late `stop` must not hit another read's statement.
            handle.driver = None
    except DBAPIError as exc:
        handle.driver = None
        # In a thread: it opens a blocking connection to see which revision the database has.
        error = await asyncio.to_thread(connections.interpret, exc, url)
        return _empty_result_or_raise(error, query, exc)
    return query.convert(results)


def _empty_result_or_raise(error: HistoryError | None, query: Query[_T], cause: DBAPIError) -> _T:
    if error is None:
        return _empty_result(query)
    raise error from cause


def _empty_result(query: Query[_T]) -> _T:
    """Return the result for a history without rows."""
    return query.convert([[] for _ in query.build("sqlite")])


def _adhoc_query(
    url: sa.URL | None, text: str, params: Mapping[str, Any] | None, timeout: float, limit: int
) -> AdhocQuery:
    if url is None:
        msg = "there is no history to ask: this handler keeps none (RESILIENCE_PRIVACY=off)"
        raise HistoryError(msg)
    return AdhocQuery(url, text, params, timeout=timeout, limit=limit)


def _consume_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception of an abandoned task, since asyncio logs exceptions that were never retrieved."""
    if not task.cancelled():
        task.exception()


_inherited_engines: list[AsyncEngine] = []
