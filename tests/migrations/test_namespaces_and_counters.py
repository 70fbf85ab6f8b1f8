"""Migration 0007 brings filled databases of every earlier revision to namespaces and exact counters, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from support.history_places import Place
from support.history_records import call, error
from support.postgres import Postgres, fresh

from resilience.history import Recorder, SyncHistory
from resilience.history.schema import migrations, urls
from resilience.history.schema.db_errors import error_kind
from resilience.history.schema.engine import open_engine
from resilience.history.schema.error_kinds import DatabaseErrorKind

EARLIER = ("0001", "0002", "0003", "0004", "0005", "0006")
NOON = "2025-06-01 12:00:00.000000"
_CALL = {"request_id": "r", "started_at": NOON, "function": "F", "client": "A", "instance_id": "i" * 32}
_ERROR = {
    **_CALL,
    "occurred_at": NOON,
    "call_id": "c" * 32,
    "recoverable": True,
    "exception_type": "E",
    "message": "m",
    "fingerprint": "f" * 32,
    "duration": 0.5,
    "late": False,
}
ROWS: dict[str, list[dict[str, Any]]] = {
    "calls": [
        {**_CALL, "call_id": "1", "duration": 1.0, "client_final": "A", "outcome": "ok", "attempts": 1, "retries": 0,
         "fallbacks": 0, "input_tokens": 10, "output_tokens": 5},
        {**_CALL, "call_id": "2", "duration": 4.0, "client_final": "B", "outcome": "recovered_fallback", "attempts": 2,
         "retries": 1, "fallbacks": 1, "input_tokens": 7, "output_tokens": 3},
        {**_CALL, "call_id": "3", "duration": 2.0, "client_final": None, "outcome": "failed", "attempts": 1, "retries": 0,
         "fallbacks": 0, "input_tokens": None, "output_tokens": None},
    ],
    "errors": [
        {**_ERROR, "event_id": "1", "attempt": 1, "category": "timeout", "action": "retry"},
        {**_ERROR, "event_id": "2", "attempt": 2, "category": "timeout", "action": "fallback"},
        {**_ERROR, "event_id": "3", "attempt": 1, "category": "circuit_open", "action": "raise"},
    ],
    "fallbacks": [
        {**_ERROR, "event_id": str(number), "from_client": "A", "to_client": "B", "reason": reason, "succeeded": True}
        for number, reason in enumerate(("timeout", "circuit_open"))
    ],
    "instances": [
        {**_CALL, "service": "s", "host": "h", "pid": 1, "version": "0", "heartbeat_at": NOON, "dropped_events": 9},
    ],
    "rollups": [
        {"bucket_at": NOON, "grain": 60, "client": "A", "function": "F", "calls": 3, "attempts": 3, "errors": 2,
         "failed_calls": 1, "recovered_fallback": 1, "input_tokens": 17, "output_tokens": 8, "duration_sum": 7.0,
         "duration_max": 4.0},
        {"bucket_at": NOON, "grain": 60, "client": "B", "function": "F", "attempts": 1},
    ],
    "error_groups": [
        {"fingerprint": "f" * 32, "fp_version": "v1", "category": "timeout", "exception_type": "E", "title": "m",
         "first_seen_at": NOON, "last_seen_at": NOON, "count": 3, "note": "known"},
    ],
}  # fmt: skip
"""Rows by table, with columns of every revision: each database gets those that it has."""

Fill = Callable[[str], Place]


@pytest.fixture(params=["sqlite", "postgres"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fill]:
    """Return a function that makes a database of each kind at a revision, with rows."""
    with ExitStack() as stack:

        def fill(revision: str) -> Place:
            if request.param == "sqlite":
                place = Place(f"sqlite:///{tmp_path}/{revision}.db")
            else:
                server: Postgres = request.getfixturevalue("postgres")
                place = Place(stack.enter_context(fresh(server)), server)
            config = Config()
            config.set_main_option("script_location", str(migrations.script_location()))
            config.set_main_option("sqlalchemy.url", place.url)
            command.upgrade(config, revision)
            insert(place)
            return place

        yield fill


def insert(place: Place) -> None:
    engine = open_engine(urls.parse(place.url), wait=10)
    with engine.begin() as connection:
        for name, rows in ROWS.items():
            found = (
                [column["name"] for column in sa.inspect(connection).get_columns(name)]
                if has(connection, name)
                else []
            )
            for row in rows:
                values = {column: row[column] for column in found if column in row}
                if values:
                    marks = ", ".join(f":{column}" for column in values)
                    names = ", ".join(f'"{column}"' for column in values)
                    connection.execute(sa.text(f"INSERT INTO {name} ({names}) VALUES ({marks})"), values)  # noqa: S608 - names of this test
    engine.dispose()


def has(connection: sa.Connection, table: str) -> bool:
    return sa.inspect(connection).has_table(table)


@pytest.mark.parametrize("revision", EARLIER)
def test_every_earlier_revision_keeps_its_rows(filled: Fill, revision: str) -> None:
    """No row is lost on the way from any revision, all belong to the default namespace, and what the rows say is counted."""
    place = filled(revision)
    migrations.upgrade(place.url)

    for table in ("calls", "errors", "fallbacks", "instances"):
        counted = place.asked(f"SELECT namespace, count(*) FROM {table} GROUP BY namespace")  # noqa: S608 - names of this test
        assert counted == [("resilience", len(ROWS[table]))]
    assert place.asked("SELECT dropped_events, ended_at, degraded_seconds FROM instances") == [(9, None, 0.0)]
    assert place.asked(
        "SELECT category, action, denied, count, exhausted FROM error_rollups ORDER BY category, action"
    ) == [
        ("circuit_open", "fallback", "", 1, 0),
        ("circuit_open", "raise", "", 1, 0),
        ("timeout", "fallback", "", 1, 1),
        ("timeout", "retry", "", 1, 0),
    ]
    booked = place.asked(
        "SELECT client, calls, failed_calls, attempts, answered_calls, input_tokens, output_tokens, duration_sum FROM rollups ORDER BY client"
    )
    # The first edition's first revision had no counters.
    assert booked == (
        [] if revision == "0001" else [("A", 3, 1, 3, 1, 10, 5, 1.0), ("B", 0, 0, 1, 1, 7, 3, 4.0)]
    )
    groups = place.asked("SELECT namespace, count, note FROM error_groups")
    assert groups == ([] if revision == "0001" else [("resilience", 3, "known")])


def test_the_new_schema_is_written_and_goes_back(filled: Fill) -> None:
    """A recorder adds to the older counts; a downgrade adds the namespaces up, and a second upgrade has what the older schema keeps."""
    place = filled("0006")
    migrations.upgrade(place.url)
    for namespace in ("resilience", "other"):
        recorder = Recorder(place.url)
        recorder.record(error(namespace=namespace, client="A", function="F", fingerprint="f" * 32))
        recorder.record(call(namespace=namespace, client="A", client_final="A", function="F", tenant="t"))
        assert recorder.flush(60)
        recorder.close(60)
    assert place.asked("SELECT sum(errors), sum(calls) FROM rollups WHERE client = 'A'") == [(4, 5)]
    assert place.asked("SELECT namespace, count FROM error_groups ORDER BY namespace") == [
        ("other", 1),
        ("resilience", 4),
    ]
    migrations.downgrade(place.url, "0006")
    assert place.asked("SELECT sum(errors), sum(calls) FROM rollups WHERE client = 'A'") == [(4, 5)]
    assert place.asked("SELECT count, note FROM error_groups") == [(5, "known")]
    migrations.upgrade(place.url)

    assert place.asked("SELECT count(*) FROM errors") == [(5,)]
    assert SyncHistory(place.url, "resilience").rates(since=None)[0].errors == 4


@pytest.mark.parametrize(("used", "expected"), [(("alpha",), "alpha"), (("alpha", "beta"), "resilience")])
def test_rows_belong_to_the_only_namespace_that_was_used(
    filled: Fill, used: tuple[str, ...], expected: str
) -> None:
    """If jobs and transitions name one namespace, all older rows are its own; new rows have the one that they name."""
    place = filled("0006")
    for name in used:
        place.asked(
            f"INSERT INTO maintenance (job, last_run_at, owner, cursor) VALUES ('transitions:{name}', '{NOON}', 'o', '')"  # noqa: S608 - names of this test
        )
    migrations.upgrade(place.url)
    recorder = Recorder(place.url)
    recorder.record(error(namespace="new"))
    assert recorder.flush(60)
    recorder.close(60)

    assert place.asked("SELECT namespace, count(*) FROM errors GROUP BY namespace ORDER BY 2") == [
        ("new", 1),
        (expected, 3),
    ]
    for table in ("rollups", "error_rollups", "error_groups"):
        assert place.asked(f"SELECT count(*) FROM {table} WHERE namespace = '{expected}'") != [(0,)]  # noqa: S608 - as above


def test_counts_of_an_older_writer_are_refused_and_not_lost(filled: Fill) -> None:
    """What a writer of 0006 sends to counters fails whole, as if the database were away: its rows wait, and go to its log."""
    place = filled("0006")
    migrations.upgrade(place.url)
    engine = open_engine(urls.parse(place.url), wait=10)
    counters = (
        "INSERT INTO rollups (bucket_at, grain, client, function, errors) VALUES (:at, 60, 'A', 'F', 1) "
        "ON CONFLICT (bucket_at, grain, client, function) DO UPDATE SET errors = rollups.errors + excluded.errors"
    )

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE instances SET dropped_events = 0"))
            connection.execute(sa.text(counters), {"at": NOON})

    with pytest.raises(sa.exc.DBAPIError) as refused:
        write()
    engine.dispose()

    assert error_kind(refused.value) is DatabaseErrorKind.AWAY
    assert place.asked("SELECT dropped_events FROM instances") == [(9,)]
