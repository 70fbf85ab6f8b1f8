"""Rows of records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from sqlalchemy.engine.default import DefaultDialect
from support.history_records import NOON, call, error, fallback

from resilience.failure import ErrorCategory
from resilience.history import Action, ErrorRecord
from resilience.history.schema import rows
from resilience.history.schema.tables import UtcDateTime, metadata
from resilience.records.records import Record


def dialect(name: str) -> DefaultDialect:
    """Of a database, only its name."""
    named = DefaultDialect()
    named.name = name
    return named


@pytest.mark.parametrize("record", [error(), call(), fallback()], ids=lambda record: type(record).__name__)
def test_columns_are_named_like_the_fields(record: Record) -> None:
    """A table has the fields of its record, and the instance that wrote the row; nothing else."""
    row = rows.row(record, "i" * 32)

    assert set(row) == set(rows.TABLES[type(record)].columns.keys())
    assert row["instance_id"] == "i" * 32


def test_enums_become_plain_words() -> None:
    """Drivers convert enums differently, so rows hold plain strings."""
    row = rows.row(error(action=Action.FALLBACK), "i")

    assert (type(row["category"]), row["category"]) == (str, "rate_limit")
    assert (type(row["action"]), row["action"]) == (str, "fallback")


def test_texts_are_cut_to_their_columns() -> None:
    """A text of any length fits its column, so that it cannot fail a batch on PostgreSQL."""
    row = rows.row(error(function="F" * 5000, message="m" * 5000, request_id="r" * 5000), "i")

    assert [len(row[name]) for name in ("function", "message", "request_id")] == [200, 2000, 64]


def test_what_no_database_keeps_is_replaced() -> None:
    """NUL and lone surrogates are replaced; other characters stay."""
    row = rows.row(error(message="a\0b\ud800c é"), "i")

    assert row["message"] == "a\N{REPLACEMENT CHARACTER}b?c é"


@pytest.mark.parametrize(
    "record",
    [error(), call(client_final=None), fallback(succeeded=None)],
    ids=lambda record: type(record).__name__,
)
def test_a_row_reads_back_as_its_record(record: Any) -> None:
    """Writing and reading a record gives an equal one, with its enums."""
    assert record == rows.record(type(record), rows.row(record, "i"))


def test_words_of_newer_code_read_as_unknown() -> None:
    """A category that newer code wrote does not make the history unreadable."""
    found = rows.record(ErrorRecord, {**rows.row(error(), "i"), "category": "solar_flare", "action": "pray"})

    assert found.category is ErrorCategory.UNKNOWN
    assert found.action is Action.RAISE


def test_the_timestamp_of_a_call_is_its_start() -> None:
    """On a timeline a call is at its start, any other record at its time."""
    assert (
        rows.timestamp(call(started_at=NOON))
        == rows.timestamp(error(occurred_at=NOON))
        == rows.timestamp(fallback(occurred_at=NOON))
        == NOON
    )


def test_times_are_kept_in_utc_and_read_in_utc() -> None:
    """SQLite stores UTC without a timezone, PostgreSQL with it; both return aware times."""
    column = UtcDateTime()
    lite, post = dialect("sqlite"), dialect("postgresql")
    east = NOON.astimezone(timezone(timedelta(hours=2)))

    assert column.process_bind_param(east, lite) == NOON.replace(tzinfo=None)
    assert column.process_bind_param(east, post) == NOON
    assert column.process_result_value(NOON.replace(tzinfo=None), lite) == NOON
    read = column.process_result_value(east, post)
    assert read is not None
    assert read.tzinfo is UTC
    assert column.process_bind_param(None, lite) is column.process_result_value(None, lite) is None


def test_a_time_without_zone_is_never_kept() -> None:
    """Its meaning would depend on the machine."""
    with pytest.raises(ValueError, match="no timezone"):
        UtcDateTime().process_bind_param(datetime(2025, 6, 1), dialect("sqlite"))  # noqa: DTZ001 - this is what is refused


def test_every_record_has_a_table_and_every_other_table_a_purpose() -> None:
    """Besides the tables of records there are only counters and the tables of the writer itself."""
    counted = {"error_groups", "rollups", "error_rollups", "latencies", "tenant_rollups", "pruned_events"}
    counted |= {"instances", "policies", "maintenance"}
    assert {table.name for table in rows.TABLES.values()} | counted == set(metadata.tables)
    assert set(get_args(Record)) == set(rows.TABLES)


def test_a_thing_that_is_no_record_has_no_row() -> None:
    """Anything but a record raises, and the writer counts it as dropped."""
    with pytest.raises(KeyError):
        rows.row(SimpleNamespace(), "i")  # type: ignore[arg-type]  # this is what is refused
