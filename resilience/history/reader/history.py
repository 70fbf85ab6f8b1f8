"""Reading the fleet's history: `History` awaited, `SyncHistory` for programs that do not await."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.errors import HistoryError
from resilience.history.reader import aggregates, connections, queries
from resilience.history.reader.adhoc_sql import LIMIT, TIMEOUT, AdhocQuery
from resilience.history.reader.queries import Found, Query
from resilience.history.reader.results import ResultSet
from resilience.history.schema import urls

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _awaited(
    ask: Callable[_P, Query[_T]],
) -> Callable[Concatenate[History, _P], Coroutine[Any, Any, _T]]:
    @functools.wraps(ask)
    async def asked(self: History, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._ask(ask(*args, **kwargs))

    return _as_method(asked, ask)


def _blocking(ask: Callable[_P, Query[_T]]) -> Callable[Concatenate[SyncHistory, _P], _T]:
    @functools.wraps(ask)
    def asked(self: SyncHistory, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self._ask(ask(*args, **kwargs))

    return _as_method(asked, ask)


_F = TypeVar("_F", bound=Callable[..., Any])


def _as_method(asked: _F, ask: Callable[..., Any]) -> _F:
    """Show the question's own parameters to `help` and to editors, after `self`."""
    own = inspect.signature(ask)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    shown = own.replace(
        parameters=[this, *own.parameters.values()], return_annotation=inspect.Signature.empty
    )
    asked.__signature__ = shown  # type: ignore[attr-defined]  # every function may have one
    return asked


class History:
    """The records of all processes that write to one database, newest first.

    Opens its connections at the first read. A database file that does not exist yet, or has no tables yet, reads as
    empty: nothing has gone wrong so far. What this process recorded is there after `Recorder.flush`. Safe to use in
    several event loops, and in a forked child. Each read is one short statement; a cancelled one frees its caller at once.

    Args:
        url: the database, as for `Recorder`; None reads as empty.

    Raises:
        ConfigurationError: *url* cannot be used.
    """

    def __init__(self, url: str | None) -> None:
        self._url = None if url is None else urls.parse(url)
        self._engine: AsyncEngine | None = None
        self._pid = os.getpid()
        self._left: set[asyncio.Task[Any]] = set()

    errors = _awaited(queries.errors)
    error = _awaited(queries.error)
    calls = _awaited(queries.calls)
    fallbacks = _awaited(queries.fallbacks)
    timeline = _awaited(queries.timeline)
    summary = _awaited(queries.summary)
    rates = _awaited(aggregates.rates)
    groups = _awaited(aggregates.groups)
    outages = _awaited(aggregates.outages)
    mttr = _awaited(aggregates.mttr)
    retry_success = _awaited(aggregates.retry_success)
    fallback_success = _awaited(aggregates.fallback_success)
    recovery = _awaited(aggregates.recovery)

    async def sql(
        self,
        text: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - the database keeps it too, and says so
        limit: int = LIMIT,
    ) -> ResultSet:
        """Ask in SQL; as `SyncHistory.sql`, and a cancelled query is ended."""
        query = _query(self._url, text, params, timeout, limit)
        running = asyncio.get_running_loop().run_in_executor(None, query.run)
        try:
            return await running
        except asyncio.CancelledError:
            query.cancel()
            raise

    @property
    def sync(self) -> SyncHistory:
        """The same history for code that does not await; it has nothing to close."""
        return SyncHistory(None if self._url is None else self._url.render_as_string(hide_password=False))

    async def aclose(self) -> None:
        """Close the connections; a later read opens them again."""
        engine, self._engine = self._engine, None
        if engine is not None and self._pid == os.getpid():
            await asyncio.gather(*self._left, return_exceptions=True)
            await engine.dispose()

    # --- how it is asked ----------------------------------------------------------------------------------------

    async def _ask(self, question: Query[_T]) -> _T:
        engine = self._opened()
        if engine is None:
            return _nothing(question)
        held = _Held()
        read = asyncio.ensure_future(_read(engine, question, held))
        try:
            return await asyncio.shield(
                read
            )  # a driver's own way of being cancelled waits for the statement's end
        except asyncio.CancelledError:
            self._leave(read, held)
            raise

    def _leave(self, read: asyncio.Task[Any], held: _Held) -> None:
        """End what nobody waits for any more, behind its caller's back."""
        held.left = True
        if held.driver is None:
            read.cancel()
        for task in (read, asyncio.ensure_future(held.stop())):
            self._left.add(task)
            task.add_done_callback(self._left.discard)
            task.add_done_callback(_heard)

    def _opened(self) -> AsyncEngine | None:
        """The engine of this process; None while there is nothing to read."""
        if self._engine is not None and self._pid != os.getpid():
            _inherited.append(
                self._engine
            )  # its threads stayed in the parent: nothing of it may be touched or collected
            self._engine.sync_engine.dispose(close=False)
            self._engine = None
        if self._engine is None and self._url is not None and connections.is_there(self._url):
            self._engine, self._pid = connections.open_awaited(self._url), os.getpid()
            self._left = set()
        return self._engine


class SyncHistory:
    """What `History` answers, for scripts: the same names and arguments, blocking, and nothing to close.

    Args:
        url: the database, as for `Recorder`; None reads as empty.

    Raises:
        ConfigurationError: *url* cannot be used.
    """

    def __init__(self, url: str | None) -> None:
        self._url = None if url is None else urls.parse(url)
        self._engine: sa.Engine | None = (
            None  # holds no connection between two questions: no harm in a forked child
        )

    errors = _blocking(queries.errors)
    error = _blocking(queries.error)
    calls = _blocking(queries.calls)
    fallbacks = _blocking(queries.fallbacks)
    timeline = _blocking(queries.timeline)
    summary = _blocking(queries.summary)
    rates = _blocking(aggregates.rates)
    groups = _blocking(aggregates.groups)
    outages = _blocking(aggregates.outages)
    mttr = _blocking(aggregates.mttr)
    retry_success = _blocking(aggregates.retry_success)
    fallback_success = _blocking(aggregates.fallback_success)
    recovery = _blocking(aggregates.recovery)

    def sql(
        self,
        text: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = TIMEOUT,
        limit: int = LIMIT,
    ) -> ResultSet:
        """Ask in SQL: one SELECT, WITH, VALUES or EXPLAIN over the tables and views, which can only read.

        Args:
            text: the query; `:name` stands for a parameter, on both databases.
            params: the parameters.
            timeout: seconds it may take.
            limit: rows it gives at most; `ResultSet.cut` says whether there were more.

        Raises:
            ValueError: *timeout* or *limit* is out of range, or a parameter is a time without a timezone.
            HistoryError: the query is wrong, would change something or took too long, or the database cannot be read.
        """
        return _query(self._url, text, params, timeout, limit).run()

    def _ask(self, question: Query[_T]) -> _T:
        if self._url is None or not connections.is_there(self._url):
            return _nothing(question)
        engine = self._engine = self._engine or connections.open_blocking(self._url)
        try:
            with engine.connect() as connection:
                statements = question.statements(engine.dialect.name)
                found: Sequence[Any] = [connection.execute(each).mappings().all() for each in statements]
        except DBAPIError as exc:
            return _nothing_or(connections.interpret(exc, engine.url), question, exc)
        return question.answer(found)


class _Held:
    """The connection a read is using, so that it can be stopped from outside."""

    __slots__ = ("driver", "left")

    def __init__(self) -> None:
        self.driver: Any = None
        self.left = False

    async def stop(self) -> None:
        """End the statement that is running: `interrupt` is aiosqlite's word, `cancel_safe` psycopg's."""
        if self.driver is not None:
            await (getattr(self.driver, "interrupt", None) or self.driver.cancel_safe)()


async def _read(engine: AsyncEngine, question: Query[_T], held: _Held) -> _T:
    found: list[Found] = []
    try:
        async with engine.connect() as connection:
            held.driver = (await connection.get_raw_connection()).driver_connection
            for each in question.statements(engine.dialect.name):
                if held.left:
                    break
                found.append((await connection.execute(each)).mappings().all())
            held.driver = None
    except DBAPIError as exc:
        held.driver = None
        return _nothing_or(await asyncio.to_thread(connections.interpret, exc, engine.url), question, exc)
    return question.answer(found)


def _nothing_or(error: HistoryError | None, question: Query[_T], exc: DBAPIError) -> _T:
    if error is None:
        return _nothing(question)
    raise error from exc


def _nothing(question: Query[_T]) -> _T:
    """The answer where there is no history yet."""
    return question.answer([[] for _ in question.statements("sqlite")])


def _query(
    url: sa.URL | None, text: str, params: Mapping[str, Any] | None, timeout: float, limit: int
) -> AdhocQuery:
    if url is None:
        msg = "there is no history to ask: this handler keeps none (RESILIENCE_PRIVACY=off)"
        raise HistoryError(msg)
    return AdhocQuery(url, text, params, timeout=timeout, limit=limit)


def _heard(task: asyncio.Task[Any]) -> None:
    """Take the result of a task nobody waits for, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()


_inherited: list[AsyncEngine] = []
