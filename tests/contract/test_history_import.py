"""Log lines become rows, each once, on SQLite and on PostgreSQL."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from support.history_places import Place, migrated_file, migrated_postgres, place
from support.history_records import NOON, call, error, fallback

from resilience.errors import HistoryError
from resilience.history import CallOutcome, Recorder, TransitionRecord, log_import
from resilience.history.log_import import Imported, import_lines
from resilience.history.schema import migrations, urls
from resilience.history.schema.engine import open_engine
from resilience.history.schema.rows import TABLES, record
from resilience.logs import JsonLines
from resilience.records.log_events import SCHEMA
from resilience.records.records import Record

__all__ = ["migrated_file", "migrated_postgres", "place"]

MOVE = TransitionRecord(
    namespace="n",
    client="Primary",
    scope="shared",
    epoch=7,
    occurred_at=NOON,
    from_state="closed",
    to_state="open",
    rule="failure_rate",
    wait=30.0,
)
FULL = (
    error(detail={"tier": "gold"}, stack="frames", trace_id="a" * 32, retry_after=None, backoff=0.5),
    call(outcome=CallOutcome.RECOVERED_RETRY, retries=1, tags={"tenant": "a"}, input_tokens=3, recovery=1.5),
    fallback(succeeded=None, duration=2.0),
    MOVE,
)
COUNTS = "SELECT sum(calls), sum(attempts), sum(errors) FROM rollups"


def logged(folder: Path, *records: Record, url: str | None = None, **options: Any) -> list[Path]:
    """Logs of a process that wrote *records*; without *url* it never reached its database."""
    recorder = Recorder(url, sinks=[JsonLines(folder)], **options)
    for each in records:
        recorder.record(each)
    recorder.flush(20)
    recorder.close(20)
    return [path for path in sorted(folder.iterdir()) if path.suffix == ".jsonl"]


def kept(place: Place, kind: type[Record]) -> list[Any]:
    engine = open_engine(urls.parse(place.url), wait=10)
    with engine.connect() as connection:
        found = connection.execute(sa.select(TABLES[kind])).mappings().all()
    engine.dispose()
    made: Any = record
    return [made(kind, row) for row in found]


def test_lines_become_the_records_they_were(place: Place, tmp_path: Path) -> None:
    """Errors, calls, fallbacks and transitions come back equal in every field, and are counted."""
    paths = logged(tmp_path / "logs", *FULL)

    done = import_lines(place.url, paths)
    assert (done.new, done.known, done.refused) == (4, 0, 0)
    assert [kept(place, type(each)) for each in FULL] == [[each] for each in FULL]
    assert place.asked(COUNTS) == [(1, 2, 1)]
    assert place.asked("SELECT count FROM error_groups") == [(1,)]


def test_a_second_import_changes_nothing(place: Place, tmp_path: Path) -> None:
    """Whole, in part, twice in one command: each line counts once."""
    paths = logged(tmp_path / "logs", *FULL, error())
    import_lines(place.url, [*paths, *paths])

    again = import_lines(place.url, paths)
    assert (again.new, again.known, again.refused) == (0, 5, 0)
    assert place.asked(COUNTS) == [(1, 3, 2)]


def test_only_what_is_missing_is_added(place: Place, tmp_path: Path) -> None:
    """Rows and counts that the process wrote itself stay as they are."""
    paths = logged(tmp_path / "logs", *FULL, url=place.url)
    logged(tmp_path / "logs", lost := error())

    done = import_lines(place.url, paths)
    assert (done.new, done.known) == (1, 4)
    assert lost in kept(place, type(lost))
    assert place.asked(COUNTS) == [(1, 3, 2)]


def test_what_was_counted_without_a_row_gets_its_row_alone(place: Place, tmp_path: Path) -> None:
    """Lines of dropped records bring their rows and no counts, because their process has counted them."""
    place.shut()
    recorder = Recorder(place.url, sinks=[JsonLines(tmp_path / "logs")], max_rows=10, flush_interval=60.0)
    for number in range(30):
        recorder.record(error(fingerprint=f"{number:032d}"))
        if number % 5 == 4:
            recorder.flush(20)
    for _ in range(5):
        recorder.record(call())
    recorder.flush(20)
    place.open()
    assert recorder.flush(20)
    recorder.close(20)
    before = place.asked(COUNTS)
    assert before == [(5, 35, 30)]
    assert (recorder.dropped, recorder.sampled) == (25, 0)

    paths = sorted((tmp_path / "logs").glob("*.jsonl"))
    assert import_lines(place.url, paths).new == 25
    assert place.asked(COUNTS) == before
    assert place.asked("SELECT count(*) FROM errors") == [(30,)]


def test_sampled_lines_are_known(place: Place, tmp_path: Path) -> None:
    """A line of a record that was sampled out brings no row."""
    line = {
        "event": "attempt.failed",
        "dropped_as": "sampled",
        "sequence": 1,
        **_fields(tmp_path, error()),
    }
    path = tmp_path / "errors.jsonl"
    path.write_text(json.dumps(line) + "\n")

    assert import_lines(place.url, [path]) == Imported(known=1)


def test_what_its_process_could_not_count_is_counted(place: Place, tmp_path: Path) -> None:
    """A process that ended while its database was away could not write its counters: the import counts what it dropped."""
    place.shut()
    recorder = Recorder(place.url, sinks=[JsonLines(tmp_path)], max_rows=3)
    for _ in range(9):
        recorder.record(error())
        recorder.flush(20)
    recorder.close(20)
    place.open()
    paths = [tmp_path / "errors.jsonl"]
    assert any('"dropped_as"' in path.read_text() for path in paths)
    import_lines(place.url, paths)

    found = place.asked("SELECT count(*) FROM errors")[0][0]
    assert place.asked("SELECT sum(errors) FROM rollups") == [(found,)]


def first_edition(line: str) -> str:
    """Return a log line as the first edition wrote it: schema 1, with its names of four fields."""
    found: dict[str, Any] = json.loads(line)
    earlier = {"position": "hop", "indefinite": "endless", "dropped_as": "unkept", "sequence": "tallied"}
    return json.dumps({earlier.get(name, name): value for name, value in found.items()} | {"schema": 1})


def test_lines_of_the_first_edition_are_read(place: Place, tmp_path: Path) -> None:
    """Lines of schema 1, with the first edition's field names, become the same records as lines of this version."""
    full = (*FULL[:2], fallback(position=2), replace(MOVE, indefinite=True, wait=None))
    paths = logged(tmp_path / "logs", *full)
    for path in paths:
        path.write_text("".join(first_edition(line) + "\n" for line in path.read_text().splitlines()))
    assert any('"hop": 2' in path.read_text() for path in paths)
    assert any('"endless": true' in path.read_text() for path in paths)

    done = import_lines(place.url, paths)
    assert (done.new, done.known, done.refused) == (4, 0, 0)
    assert [kept(place, type(record)) for record in full] == [[record] for record in full]


def test_first_edition_lines_without_rows_are_counted_once(place: Place, tmp_path: Path) -> None:
    """`unkept` and `tallied` of schema 1 mean what `dropped_as` and `sequence` mean: sampled lines bring no row."""
    recorder = Recorder(place.url, sinks=[JsonLines(tmp_path / "logs")])
    recorder.record(error())
    recorder.flush(20)
    instance_id = recorder.instance_id
    recorder.close(20)
    place.asked(f"UPDATE instances SET counted_through = 1 WHERE instance_id = '{instance_id}'")  # noqa: S608 - an id of ours
    before = place.asked(COUNTS)
    line = _fields(tmp_path, error()) | {"schema": 1, "instance_id": instance_id, "unkept": "dropped"}
    lines = [
        line | {"event_id": "1" * 32, "tallied": 1},  # counted by its process: a row and no count
        line | {"event_id": "2" * 32, "tallied": 2},  # not counted yet: a row and a count
        line | {"event_id": "3" * 32, "tallied": 3, "unkept": "sampled"},  # neither
    ]
    path = tmp_path / "errors.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))

    assert import_lines(place.url, [path]) == Imported(new=2, known=1)
    assert place.asked("SELECT count(*) FROM errors") == [(3,)]
    assert place.asked(COUNTS)[0][2] == before[0][2] + 1


def test_what_a_process_counted_in_another_database_is_counted_here(place: Place, tmp_path: Path) -> None:
    """Of records without rows the counters have those after `counted_from`, up to `counted_through`; an import counts all others."""
    recorder = Recorder(place.url, sinks=[JsonLines(tmp_path / "logs")])
    recorder.record(error())
    recorder.flush(20)
    instance_id = recorder.instance_id
    recorder.close(20)
    place.asked(
        f"UPDATE instances SET counted_from = 1, counted_through = 2 WHERE instance_id = '{instance_id}'"  # noqa: S608 - as above
    )
    line = _fields(tmp_path, error()) | {"instance_id": instance_id, "dropped_as": "dropped"}
    path = tmp_path / "errors.jsonl"
    path.write_text(
        "".join(
            json.dumps(line | {"event_id": f"{number}" * 32, "sequence": number}) + "\n"
            for number in (1, 2, 3)
        )
    )

    assert import_lines(place.url, [path]) == Imported(new=3)
    assert place.asked("SELECT (SELECT count(*) FROM errors), sum(errors) FROM rollups") == [(4, 3)]


def _fields(folder: Path, each: Record) -> dict[str, Any]:
    (path,) = [path for path in logged(folder / "one", each) if path.name == "errors.jsonl"]
    found: dict[str, Any] = json.loads(path.read_text().splitlines()[0])
    return found


def test_bad_lines_are_named_and_cost_themselves_alone(place: Place, tmp_path: Path) -> None:
    """Torn, foreign, of another schema, with a wrong type, without a field, out of range: each is refused with its place."""
    good = _fields(tmp_path, error())
    bad: dict[str, str] = {
        '{"ts": "2025-06': "no whole JSON",
        "[1]": "no log line",
        json.dumps({"level": "info"}): "no log line",
        json.dumps(good | {"schema": 99}): "schema 99",
        json.dumps(good | {"event_id": "1" * 32, "status": "429"}): "status='429' is no int",
        json.dumps(
            good | {"event_id": "2" * 32, "occurred_at": "2025-06-01T12:00:00"}
        ): "occurred_at=.* is no datetime",
        json.dumps(good | {"event_id": "3" * 32, "occurred_at": "noon"}): "occurred_at='noon'",
        json.dumps({name: value for name, value in good.items() if name != "client"}): "it has no client",
        json.dumps(good | {"event_id": "4" * 32, "instance_id": None}): "instance_id",
        json.dumps(good | {"event_id": "5" * 32, "status": 2**70}): "",
        "[" * 100_000: "no whole JSON",
        '{"event": "' + "x" * 2_500_000: "no whole JSON",
    }
    path = tmp_path / "errors.jsonl"
    others = [json.dumps({"event": "call.start", "schema": SCHEMA}), "", json.dumps(good | {"duration": 1})]
    path.write_text("\n".join([*bad, *others]))
    refused: list[tuple[str, str]] = []

    done = import_lines(place.url, [path], lambda where, why: refused.append((where, why)))
    assert done == Imported(new=1, refused=len(bad), other=2)
    assert {where for where, _ in refused} == {f"{path}:{number + 1}" for number in range(len(bad))}
    reasons = dict(refused)
    for number, why in enumerate(bad.values()):
        assert re.search(why, reasons[f"{path}:{number + 1}"])


def test_rotated_and_zipped_segments_are_read(place: Place, tmp_path: Path) -> None:
    """Rotated files are read under any name, and a damaged archive up to the damage."""
    line = json.dumps(_fields(tmp_path, error()))
    lines = [json.dumps(json.loads(line) | {"event_id": f"{number:032d}"}) + "\n" for number in range(300)]
    plain, zipped, torn = (
        tmp_path / "errors.jsonl.1",
        tmp_path / "errors.jsonl.2.gz",
        tmp_path / "errors.jsonl.3.gz",
    )
    plain.write_text("".join(lines[:100]))
    zipped.write_bytes(gzip.compress("".join(lines[100:200]).encode()))
    torn.write_bytes(gzip.compress("".join(lines[200:]).encode())[:-20])
    refused: list[str] = []

    done = import_lines(place.url, [plain, zipped, torn], lambda where, _: refused.append(where))
    assert refused[-1] == str(torn)
    assert done.new >= 200
    assert done.new == place.asked("SELECT count(*) FROM errors")[0][0]


def test_an_import_needs_its_files_and_an_upgraded_database(place: Place, tmp_path: Path) -> None:
    """A missing file is named; a server's database that was not upgraded names the command."""
    with pytest.raises(HistoryError, match=r"nowhere\.jsonl cannot be read"):
        import_lines(place.url, [tmp_path / "nowhere.jsonl"])
    place.shut()
    with pytest.raises(HistoryError, match=r"cannot be|is not used"):
        import_lines(place.url, [])
    place.open()


def test_large_imports_go_in_batches(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a few rows, with known ones between new ones, add up."""
    monkeypatch.setattr(log_import, "_BATCH", 7)
    records = [error(fingerprint=f"{number % 3:032d}") for number in range(40)]
    paths = logged(tmp_path / "logs", *records)
    logged(tmp_path / "rest", *records[10:20], url=place.url)

    assert import_lines(place.url, paths).new == 30
    assert place.asked("SELECT sum(count), count(*) FROM error_groups") == [(40, 3)]


def test_an_empty_server_is_not_filled(postgres_url: str, tmp_path: Path) -> None:
    """The command to upgrade it is in the error, its password is not."""
    with pytest.raises(
        migrations.OutdatedHistoryError, match="has no tables yet: run `resilience db upgrade`"
    ):
        import_lines(postgres_url.replace("postgres:@", "postgres:hunter2@"), [])
