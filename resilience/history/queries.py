"""Reading the fleet's history, awaited."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, OperationalError

from resilience import bounds
from resilience.errors import HistoryError
from resilience.failure import ErrorCategory
from resilience.history import rows, urls
from resilience.history.record import CallOutcome, CallRecord, ErrorRecord, FallbackRecord
from resilience.history.tables import calls, errors, fallbacks
from resilience.history.when import Since, moment

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_R = TypeVar("_R", ErrorRecord, FallbackRecord, CallRecord)
_LATEST: Final = 10
_BUSY: Final = 5.0
"""Seconds a read waits while the file is being set up; later no writer keeps a reader waiting."""


class History:
    """The records of all processes that write to one database, newest first.

    Opens its connections at the first read. A database file that does not exist yet, or has no tables yet, reads as
    empty: nothing has gone wrong so far. What this process recorded is there after `Recorder.flush`. Safe to use in
    several event loops, and in a forked child.

    Args:
        url: the database, as for `Recorder`; None reads as empty.

    Raises:
        ConfigurationError: *url* cannot be used.
    """

    def __init__(self, url: str | None) -> None:
        self._url = None if url is None else urls.parse(url)
        self._engine: AsyncEngine | None = None
        self._pid = os.getpid()

    async def errors(
        self,
        *,
        since: Since = None,
        client: str | None = None,
        function: str | None = None,
        category: ErrorCategory | str | None = None,
        request_id: str | None = None,
        limit: int = 100,
        before: ErrorRecord | None = None,
    ) -> list[ErrorRecord]:
        """The failed attempts and refusals that match everything given, newest first.

        Args:
            since: an aware datetime, a timedelta or seconds before now.
            client: only of this client.
            function: only of this function.
            category: only of this kind.
            request_id: only of this request.
            limit: at most so many.
            before: the last record of the page before this one.

        Raises:
            ValueError: *since* has no timezone, or *limit* is negative.
            HistoryError: the database cannot be read.
        """
        wanted = {"client": client, "function": function, "category": category, "request_id": request_id}
        return await self._page(ErrorRecord, wanted, since, limit, before)

    async def calls(
        self,
        *,
        since: Since = None,
        client: str | None = None,
        function: str | None = None,
        outcome: CallOutcome | str | None = None,
        request_id: str | None = None,
        limit: int = 100,
        before: CallRecord | None = None,
    ) -> list[CallRecord]:
        """The calls that match everything given, newest first; *client* is the one that was to answer. Else as `errors`."""
        wanted = {"client": client, "function": function, "outcome": outcome, "request_id": request_id}
        return await self._page(CallRecord, wanted, since, limit, before)

    async def fallbacks(
        self,
        *,
        since: Since = None,
        from_client: str | None = None,
        to_client: str | None = None,
        function: str | None = None,
        request_id: str | None = None,
        limit: int = 100,
        before: FallbackRecord | None = None,
    ) -> list[FallbackRecord]:
        """The fallbacks that match everything given, newest first. Else as `errors`."""
        wanted = {
            "from_client": from_client,
            "to_client": to_client,
            "function": function,
            "request_id": request_id,
        }
        return await self._page(FallbackRecord, wanted, since, limit, before)

    async def timeline(self, request_id: str) -> list[rows.Record]:
        """Everything kept of one request, oldest first; its calls stand where they began.

        Raises:
            HistoryError: the database cannot be read.
        """
        found: list[rows.Record] = [
            *await self.calls(request_id=request_id, limit=_TIMELINE),
            *await self.errors(request_id=request_id, limit=_TIMELINE),
            *await self.fallbacks(request_id=request_id, limit=_TIMELINE),
        ]
        return sorted(found, key=rows.began)

    async def summary(self, since: Since = None) -> dict[str, Any]:
        """Count what the whole fleet recorded.

        The keys of `Recent.error_summary` and `Recent.fallback_summary`, and `total_calls, by_outcome, call_success_rate`:
        the rate of calls that got an answer, 0.0 to 1.0 of those not cancelled, and 0.0 when there are none.

        Raises:
            ValueError: *since* has no timezone.
            HistoryError: the database cannot be read.
        """
        start = moment("since", since, datetime.now(UTC))
        by_category = await self._counted(errors.c.category, start)
        by_outcome = await self._counted(calls.c.outcome, start)
        by_success = await self._counted(fallbacks.c.succeeded, start)
        answered = sum(by_outcome.get(outcome, 0) for outcome in _ANSWERED)
        return {
            "total_errors": sum(by_category.values()),
            "by_category": by_category,
            "by_client": await self._counted(errors.c.client, start),
            "by_function": await self._counted(errors.c.function, start),
            "recent_errors": await self.errors(since=start, limit=_LATEST),
            "total_fallbacks": sum(by_success.values()),
            "successful_fallbacks": by_success.get(True, 0),
            "success_rate": _rate(by_success.get(True, 0), by_success.get(False, 0)),
            "fallbacks_by_client": await self._counted(fallbacks.c.to_client, start),
            "recent_fallbacks": await self.fallbacks(since=start, limit=_LATEST),
            "total_calls": sum(by_outcome.values()),
            "by_outcome": by_outcome,
            "call_success_rate": _rate(answered, sum(by_outcome.get(outcome, 0) for outcome in _UNANSWERED)),
        }

    async def aclose(self) -> None:
        """Close the connections; a later read opens them again."""
        engine, self._engine = self._engine, None
        if engine is not None and self._pid == os.getpid():
            await engine.dispose()

    # --- how it is asked ----------------------------------------------------------------------------------------

    async def _page(
        self, kind: type[_R], wanted: Mapping[str, str | None], since: Since, limit: int, before: _R | None
    ) -> list[_R]:
        bounds.integer("History", "limit", limit)
        start = moment("since", since, datetime.now(UTC))
        table = rows.TABLES[kind]
        key, time = table.primary_key.columns[0], _time(table)
        query = sa.select(table).order_by(time.desc(), key.desc()).limit(limit)
        for name, value in wanted.items():
            if value is not None:
                query = query.where(table.c[name] == str(value))
        if start is not None:
            query = query.where(time >= start)
        if before is not None:
            query = query.where(
                sa.tuple_(time, key) < sa.tuple_(getattr(before, time.name), getattr(before, key.name))
            )
        return [rows.record(kind, row) for row in await self._read(query)]

    async def _counted(self, column: sa.Column[Any], start: datetime | None) -> dict[Any, int]:
        count = sa.func.count().label("count")
        query = sa.select(column.label("name"), count).group_by(column).order_by(count.desc(), column)
        if start is not None:
            query = query.where(_time(column.table) >= start)
        return {row["name"]: row["count"] for row in await self._read(query)}

    async def _read(self, query: sa.Select[Any]) -> Sequence[Mapping[str, Any]]:
        engine = self._opened()
        if engine is None:
            return []
        try:
            async with engine.connect() as connection:
                found: Sequence[Any] = (await connection.execute(query)).mappings().all()
        except DBAPIError as exc:
            if isinstance(exc, OperationalError) and "no such table" in str(exc.orig):
                return []
            msg = f"the history at {urls.shown(engine.url)} cannot be read: {exc.orig}"
            raise HistoryError(msg) from exc
        return found

    def _opened(self) -> AsyncEngine | None:
        """The engine of this process; None while there is nothing to read."""
        if self._engine is not None and self._pid != os.getpid():
            _inherited.append(
                self._engine
            )  # its threads stayed in the parent: nothing of it may be touched or collected
            self._engine.sync_engine.dispose(close=False)
            self._engine = None
        if self._engine is None and self._url is not None:
            if urls.is_sqlite(self._url) and not urls.path(self._url).exists():
                return None
            self._engine, self._pid = _open(self._url), os.getpid()
        return self._engine


_TIMELINE: Final = 1000
"""The most records of one kind a request's timeline shows."""
_ANSWERED: Final = (CallOutcome.OK, CallOutcome.RECOVERED_RETRY, CallOutcome.RECOVERED_FALLBACK)
_UNANSWERED: Final = (CallOutcome.FAILED, CallOutcome.REJECTED)
_inherited: list[AsyncEngine] = []


def _rate(good: int, bad: int) -> float:
    return good / (good + bad) if good + bad else 0.0


def _time(table: Any) -> sa.Column[datetime]:
    column: sa.Column[datetime] = table.c.started_at if table is calls else table.c.occurred_at
    return column


def _open(url: sa.URL) -> AsyncEngine:
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - 0.3 s of importing, for readers alone

    arguments: dict[str, Any] = {
        "options": "-c timezone=UTC -c statement_timeout=30s -c default_transaction_read_only=on"
    }
    if not urls.is_sqlite(url):
        return create_async_engine(urls.reading(url), pool_size=5, pool_pre_ping=True, connect_args=arguments)
    arguments = {"timeout": _BUSY, "isolation_level": None}
    engine = create_async_engine(urls.reading(url), pool_size=4, max_overflow=0, connect_args=arguments)
    event.listen(engine.sync_engine, "connect", _only_read)
    return engine


def _only_read(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()
