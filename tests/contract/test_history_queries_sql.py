"""Ad-hoc SQL reads, ends in time and changes nothing, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.history_places import Place, migrated_file, migrated_postgres
from support.history_table_rows import HOUR, keep
from support.postgres import fresh

from resilience.errors import HistoryError
from resilience.history import History, SyncHistory
from resilience.history.reader import killable
from resilience.history.reader.adhoc_sql import AdhocQuery
from resilience.history.reader.results import ResultSet
from resilience.history.schema import urls
from resilience.history.schema.sqlite_driver import module as sqlite3

__all__ = ["migrated_file", "migrated_postgres"]

ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c"


DROP = "it's; DROP"
KEPT = [(DROP,), (DROP,), ("A",)]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One database of each kind, shared by all tests: their claim is that nothing changes it."""
    rows = (
        {"detail": {"tier": "gold"}},
        {"client": DROP},
        {"client": DROP, "occurred_at": HOUR - timedelta(hours=1)},
    )
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("adhoc") / "resilience.db"
        shutil.copy(request.getfixturevalue("migrated_file"), path)
        keep(f"sqlite:///{path}", "errors", *rows)
        yield Place(f"sqlite:///{path}")
        return
    server = request.getfixturevalue("postgres")
    with fresh(server, request.getfixturevalue("migrated_postgres")) as url:
        keep(url, "errors", *rows)
        yield Place(url, server)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("SELECT 1 AS x, 'a' AS y", ((1, "a"),)),
        ("  -- a note\n/* and\n another */ select 1 AS x, 'a' AS y", ((1, "a"),)),
        ("VALUES (1, 'a')", ((1, "a"),)),
        ("WITH w AS (SELECT 1 AS x) SELECT x, 'a' FROM w", ((1, "a"),)),
        ("SELECT '50%', ':x' || '%s'", (("50%", ":x%s"),)),
        ("SELECT client FROM errors WHERE 1 = 0", ()),
    ],
)
def test_reading_statements_run(place: Place, text: str, rows: tuple[Any, ...]) -> None:
    """SELECT, VALUES and WITH run, after comments, and with percent signs and colons in their strings."""
    assert rows == SyncHistory(place.url).sql(text).rows


def test_columns_are_named_even_without_rows(place: Place) -> None:
    """A result without rows still has its column names."""
    found = SyncHistory(place.url).sql("SELECT client, status AS code FROM errors WHERE status = 1")

    assert found == ResultSet(columns=("client", "code"), rows=(), truncated=False)


def test_explain_is_allowed(place: Place) -> None:
    """EXPLAIN counts as reading."""
    assert SyncHistory(place.url).sql("EXPLAIN SELECT * FROM errors").rows


def test_parameters_are_bound_in_both_databases(place: Place) -> None:
    """`:name` works beside casts and strings that look like one; a time is compared as it is stored."""
    text = """
        SELECT client, CAST(:n AS INTEGER), ':client %' AS "a:client", 7 % 4 -- :client
        FROM errors WHERE client = :client AND occurred_at >= :since /* :n */
    """
    found = SyncHistory(place.url).sql(text, {"client": DROP, "since": HOUR, "n": 3})

    assert found.rows == ((DROP, 3, ":client %", 3),)
    assert found.columns[2] == "a:client"


def test_a_time_without_timezone_is_refused(place: Place) -> None:
    """A naive datetime as a parameter is a ValueError that names it."""
    with pytest.raises(ValueError, match=r"params\['since'\].*has no timezone"):
        SyncHistory(place.url).sql("SELECT :since", {"since": datetime(2025, 1, 1)})  # noqa: DTZ001 - this is what is refused


@pytest.mark.parametrize("limit", [1, 3])
def test_an_endless_result_is_truncated(place: Place, limit: int) -> None:
    """There are at most *limit* rows, and `truncated` is set; exactly *limit* rows are not truncated."""
    found = SyncHistory(place.url).sql(ENDLESS, limit=limit)

    assert found == ResultSet(columns=("n",), rows=tuple((n,) for n in range(1, limit + 1)), truncated=True)
    assert not SyncHistory(place.url).sql("VALUES (1), (2), (3)", limit=3).truncated


WRITES = [
    "INSERT INTO maintenance VALUES ('x', '2025-01-01', 'y', 'z')",
    "UPDATE errors SET client = 'x'",
    "DELETE FROM errors",
    "DROP TABLE errors",
    "CREATE TABLE mine (x INTEGER)",
    "PRAGMA query_only = OFF",
    "PRAGMA user_version = 7",
    "ATTACH DATABASE '{file}' AS other",
    "VACUUM INTO '{file}'",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "COPY errors TO '{file}'",
    "COPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "SET default_transaction_read_only = off",
    "DO $$ BEGIN DELETE FROM errors; END $$",
    "TRUNCATE errors",
    "",
    "-- nothing",
    "/* not closed",
]
SMUGGLED = [
    "SELECT 1; DELETE FROM errors",
    "SELECT 1; COMMIT; DELETE FROM errors; SELECT 1",
    "SELECT 1 /* ; */; DROP TABLE errors",
    "EXPLAIN DELETE FROM errors; DELETE FROM errors",
    "WITH x AS (SELECT 1) DELETE FROM errors",
    "WITH x AS (DELETE FROM errors RETURNING *) SELECT * FROM x",
    "EXPLAIN ANALYZE DELETE FROM errors",
    "SELECT * INTO mine FROM errors",
    "SELECT client FROM errors FOR UPDATE",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT lo_create(0)",
    "SELECT * FROM pragma_wal_checkpoint('TRUNCATE')",
    "SELECT load_extension('{file}')",
    "SELECT writefile('{file}', 'x')",
]


@pytest.mark.parametrize("text", [*WRITES, *SMUGGLED])
def test_nothing_can_be_changed(place: Place, text: str, tmp_path: Path) -> None:
    """Statements that write are refused, alone or behind a SELECT; rows, tables and files are unchanged."""
    file = tmp_path / "made"

    with pytest.raises(HistoryError):
        SyncHistory(place.url).sql(text.replace("{file}", str(file)))
    assert sorted(KEPT) == sorted(place.asked("SELECT client FROM errors"))
    assert [(0,)] == place.asked("SELECT COUNT(*) FROM maintenance")
    assert not file.exists()
    with pytest.raises(HistoryError):
        SyncHistory(place.url).sql("SELECT * FROM mine")


@pytest.mark.parametrize("text", SMUGGLED + WRITES)
def test_the_database_itself_refuses(
    place: Place, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check of the first word nothing can be changed either: that check only improves the message."""
    monkeypatch.setattr("resilience.history.reader.adhoc_sql._check_verb", lambda _: None)
    if "{file}" in text and "COPY" in text:
        text = text.replace("'{file}'", "STDOUT").replace(
            "PROGRAM 'touch {file}'", "STDOUT"
        )  # the test's role is a superuser, which may write files
    file = tmp_path / "made"

    with contextlib.suppress(HistoryError):
        SyncHistory(place.url).sql(text.replace("{file}", str(file)))
    assert sorted(KEPT) == sorted(place.asked("SELECT client FROM errors"))
    assert [(0,)] == place.asked("SELECT COUNT(*) FROM maintenance")
    assert not file.exists()
    with pytest.raises(HistoryError):
        SyncHistory(place.url).sql("SELECT * FROM mine")


async def test_a_slow_query_is_ended(place: Place) -> None:
    """The database ends the query at its time limit, for both classes; the error has a remedy."""
    slow = f"SELECT COUNT(*) FROM ({ENDLESS}) AS c"  # noqa: S608 - a constant
    history = History(place.url)

    with pytest.raises(
        HistoryError, match=r"stopped after 0\.1 s: ask for less .* or give it a longer timeout"
    ):
        await history.sql(slow, timeout=0.1)
    with pytest.raises(HistoryError, match=r"stopped after 0\.1 s"):
        history.sync.sql(slow, timeout=0.1)


def test_a_query_cancelled_before_its_start_does_not_run(place: Place) -> None:
    """A query may be cancelled before its connection exists."""
    unbounded = f"SELECT COUNT(*) FROM ({ENDLESS}) AS c"  # noqa: S608 - a constant
    query = AdhocQuery(urls.parse(place.url), unbounded, None, timeout=60, limit=1)
    query.cancel()

    with pytest.raises(HistoryError, match="cancelled"):
        query.run()


def test_no_value_can_fill_the_memory(tmp_path: Path) -> None:
    """SQLite refuses to build a value or a row of columns above a limit; all rows together have one of 64 MB."""
    history = SyncHistory(f"sqlite:///{tmp_path}/resilience.db")
    (tmp_path / "resilience.db").write_bytes(b"")
    megabyte = "replace(printf('%1000d', 1), ' ', printf('%1000d', 1))"
    many = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x, {} FROM c"

    if hasattr(sqlite3.Connection, "setlimit"):  # pysqlite3 0.6 has none
        with pytest.raises(HistoryError, match="too big"):
            history.sql(f"SELECT {' || '.join([megabyte] * 11)}")
        with pytest.raises(HistoryError, match="too many columns"):
            history.sql(f"SELECT {', '.join(['1'] * 251)}")
    with pytest.raises(HistoryError, match="more than 64 MB: select fewer columns"):
        history.sql(many.format(megabyte), limit=1000)
    assert history.sql(many.format(1), limit=1000).truncated


@pytest.mark.parametrize(
    "text",
    [
        *("SELECT load_extension('x')", "SELECT fts3_tokenizer('simple')", "SELECT hex(ZeroBlob(9))"),
        *("SELECT randomblob(9)", "SELECT writefile('x', 'y')", "SELECT * FROM sqlite_dbpage", "SELECT * FROM dbstat"),
        *("ATTACH 'x' AS y", "SELECT * FROM pragma_database_list", "PRAGMA hard_heap_limit=1"),
    ],
)  # fmt: skip
def test_sqlite_has_no_dangerous_function(tmp_path: Path, text: str) -> None:
    """Functions that reach files, code, memory or pages are refused, or are not in the build."""
    (tmp_path / "resilience.db").write_bytes(b"")

    with pytest.raises(HistoryError, match=r"refused|no such function|no history|begins with"):
        SyncHistory(f"sqlite:///{tmp_path}/resilience.db").sql(text)


def test_a_superuser_is_warned(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """On PostgreSQL a superuser can read files inside a SELECT; SQLite has no roles."""
    SyncHistory(place.url).sql("SELECT 1")

    assert place.url.startswith("postgresql") == ("superuser of PostgreSQL" in caplog.text)


NUMBERS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 2000)"


class TestKillable:
    """The queries of the command line."""

    def test_rows_come_back(self, place: Place) -> None:
        """The result is the same as in this process, errors too."""
        text = "SELECT client, occurred_at, NULL AS empty FROM errors"
        expected = SyncHistory(place.url).sql(text, limit=2)

        assert expected == killable.sql(place.url, text, None, timeout=60, limit=2)
        with pytest.raises(HistoryError, match="only read"):
            killable.sql(place.url, "DELETE FROM errors", None, timeout=60, limit=1)
        with pytest.raises(ValueError, match=r"History\.sql\.limit="):
            killable.sql(place.url, text, None, timeout=60, limit=0)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            # One comparison that takes minutes, in which SQLite looks at no clock.
            ("SELECT instr(printf('%09000000d', 0), printf('%04500000d', 0) || 1)", r"stopped after 0\.1 s"),
            # A sort that holds gigabytes.
            (
                NUMBERS + " SELECT x FROM c ORDER BY printf('%04000000d', x)",  # noqa: S608 - a constant
                r"needs more than 256 MB|stopped after",
            ),
        ],
    )
    def test_what_sqlite_does_not_end_is_killed(self, tmp_path: Path, text: str, words: str) -> None:
        """Time and memory are bounded although the function or the sort never looks at the clock."""
        (tmp_path / "resilience.db").write_bytes(b"")

        with pytest.raises(HistoryError, match=words):
            killable.sql(f"sqlite:///{tmp_path}/resilience.db", text, None, timeout=0.1, limit=10)


def test_json_can_be_queried(place: Place) -> None:
    """The same operator reads JSON columns in both databases; SQLite's `json_each` is allowed."""
    assert SyncHistory(place.url).sql("SELECT detail ->> 'tier' FROM errors WHERE client = 'A'").rows == (
        ("gold",),
    )
    if place.server is None:
        assert SyncHistory(place.url).sql("SELECT value FROM errors, json_each(detail)").rows == (("gold",),)


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("SELECT nothing FROM errors", {}),
        ("SELECT * FROM nowhere", {}),
        ("SELECT FROM WHERE", {}),
        ("SELECT :a", {}),
        ("SELECT :a", {"b": 1}),
        ("SELECT :a", {"a": object()}),
    ],
)
def test_errors_of_drivers_become_history_errors(place: Place, text: str, params: dict[str, Any]) -> None:
    """Every error of a driver is a HistoryError, without the password, and without advice to upgrade a current database."""
    with pytest.raises(HistoryError, match="failed: ") as caught:
        SyncHistory(place.url).sql(text, params)
    assert "db upgrade" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"timeout": 0}, {"timeout": 1e9}, {"timeout": "5"}, {"limit": 0}, {"limit": 10**9}]
)
def test_wrong_bounds_are_refused(arguments: dict[str, Any]) -> None:
    """The error names field, value and range."""
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"History\.sql\.{name}="):
        SyncHistory("sqlite:////nowhere/x.db").sql("SELECT 1", **arguments)


def test_a_missing_history_is_an_error_for_sql_and_empty_for_queries(tmp_path: Path) -> None:
    """`sql` reports a missing file and a handler without history; typed queries read as empty; nothing is created."""
    with pytest.raises(HistoryError, match=r"no history at .*nowhere\.db yet"):
        SyncHistory(f"sqlite:///{tmp_path}/nowhere.db").sql("SELECT 1")
    with pytest.raises(HistoryError, match="keeps none"):
        asyncio.run(History(None).sql("SELECT 1"))
    assert History(None).sync.errors() == []
    assert SyncHistory(f"sqlite:///{tmp_path}/nowhere.db").rates() == []
    assert not list(tmp_path.iterdir())


def test_times_come_in_utc(place: Place) -> None:
    """PostgreSQL returns aware times in UTC, whatever its own timezone is; SQLite returns text in UTC."""
    ((found,),) = SyncHistory(place.url).sql("SELECT occurred_at FROM errors WHERE client = 'A'").rows
    expected = (
        HOUR.replace(tzinfo=None).isoformat(" ", "microseconds")
        if place.server is None
        else HOUR.isoformat(" ")
    )

    assert str(found) == expected
    assert HOUR.tzinfo is UTC
