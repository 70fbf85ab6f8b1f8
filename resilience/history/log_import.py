"""Import of log files: what a killed process had no time to write to SQL is still in its log.

Reading a line gives back the record it was written from. Lines of the first edition, schema 1, are read as well.

An import may be repeated, in whole or in part, and nothing is counted twice. Two rules achieve that. A record that gets its
row here is counted in the transaction that inserts the row, so a row that is there already changes nothing. A record that its
process had counted without a row, because the queue was full or because the process ended, brings its row and no count. Its line
carries a number, and `instances` says which numbers of its process the counters have: after `counted_from` up to `counted_through`
for the `sequence` of lines with `dropped_as`, after `rows_counted_from` up to `rows_counted_through` for the `row_sequence` of all
others.

Lines of writers before namespaces have no field `namespace`. They get that of the import, and the tokens of their failed attempts are
counted with the call, whose line has their sum.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.errors import HistoryError
from resilience.history.schema import migrations, rows, urls
from resilience.history.schema.columns import Json, UtcDateTime
from resilience.history.schema.db_errors import describe_error, error_kind, error_reason
from resilience.history.schema.engine import open_engine
from resilience.history.schema.error_kinds import DatabaseErrorKind
from resilience.history.store import batches, counters, instances
from resilience.records import log_events
from resilience.records.records import (
    NAMESPACE,
    CallRecord,
    ErrorRecord,
    FallbackRecord,
    Record,
    TransitionRecord,
)

_BATCH: Final = 500
"""Lines of one transaction."""
_LOCK_TIMEOUT: Final = 30.0
"""Seconds to wait for a lock of another process; longer than a writer waits, because an import is not urgent."""
_GZIP: Final = b"\x1f\x8b"
_LONGEST_LINE: Final = 1_000_000
"""Bytes of the longest line that is read; those of this package are far shorter."""

_KINDS: Final[Mapping[str, type[Record]]] = {
    log_events.CALL_END.name: CallRecord,
    log_events.ATTEMPT_FAILED.name: ErrorRecord,
    log_events.FALLBACK_TAKEN.name: FallbackRecord,
    log_events.BREAKER_STATE.name: TransitionRecord,
}
"""The events whose lines have all columns of a row."""
_FIRST_SCHEMA: Final = 1
_RENAMED_SINCE: Final = {
    "hop": "position",
    "endless": "indefinite",
    "unkept": "dropped_as",
    "tallied": "sequence",
}
"""Fields of schema 1 by the name they have now. Log files outlive an upgrade, so both are read."""


@dataclass(slots=True)
class Imported:
    """What became of the lines.

    Attributes:
        new: lines that are rows now.
        known: lines that need no row: theirs exists, or they were sampled out and are in the counters.
        refused: lines that cannot be rows.
        other: lines of events that have no rows of their own.
    """

    new: int = 0
    known: int = 0
    refused: int = 0
    other: int = 0


def import_lines(
    url: str,
    paths: Iterable[Path],
    refuse: Callable[[str, str], None] = lambda _where, _why: None,
    namespace: str = NAMESPACE,
) -> Imported:
    """Insert rows for the log lines in *paths* that have none yet, and count records that are not counted yet.

    Import the logs of processes that have ended. A process that is alive may have counts in memory that are not written yet,
    and then its lines are counted twice.

    Args:
        url: the database, as for `Recorder`.
        paths: log files, plain or gzipped, also rotated ones.
        refuse: called with `file:line` and the reason for each line that cannot be a row.
        namespace: the namespace of lines that name none.

    Returns:
        How many lines became rows, had one, were refused, or never have one.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database cannot be written, or a file cannot be read.
    """
    parsed = urls.parse(url)
    migrations.prepare(parsed)
    engine = open_engine(parsed, wait=_LOCK_TIMEOUT)
    work = _Import(engine.begin, refuse, namespace)
    try:
        entries = (entry for path in paths for entry in work.entries(path))
        while batch := list(islice(entries, _BATCH)):
            work.store(batch)
    except DBAPIError as exc:
        raise HistoryError(describe_error(exc, urls.shown(parsed))) from exc
    finally:
        engine.dispose()
    return work.done


def import_some(
    begin: batches.Begin, lines: Iterable[tuple[str, bytes]], done: Imported, namespace: str = NAMESPACE
) -> Iterator[None]:
    """Insert rows for *lines* as `import_lines` does, and yield after each batch: for a caller that has other work too.

    Args:
        begin: returns a transaction of the database, which has the tables of this version.
        lines: `file:line` and the line.
        done: what became of the lines; updated.
        namespace: the namespace of lines that name none.

    Raises:
        Exception: the database cannot be written. What was yielded before is stored.
    """
    work = _Import(begin, lambda _where, _why: None, namespace, done)
    entries = work.read(lines)
    while batch := list(islice(entries, _BATCH)):
        work.store(batch)
        yield


def unzipped(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a log file, plain or gzipped. Of a line that is too long to be one of ours the beginning is yielded.

    A file of another program may be one line of any length, and a small archive may hold one.
    """
    # By content and not by name: rotation tools give archives any name.
    zipped = file.read(2) == _GZIP
    file.seek(0)
    lines: Any = gzip.GzipFile(fileobj=file) if zipped else file
    is_rest = False
    while part := lines.readline(_LONGEST_LINE):
        if not is_rest:
            yield part
        is_rest = not part.endswith(b"\n")


# --- a line ---------------------------------------------------------------------------------------------------------


class RefusedError(ValueError):
    """A line that cannot be read as a record. The message is the reason."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A record that was read from a log.

    Attributes:
        record: the record.
        instance_id: the process that wrote the line.
        where: `file:line`.
        dropped_as: why its process wrote no row (`sampled`, `dropped`); empty if it was going to write one.
        sequence: its number among the records of its process that were counted without a row; 0 for none of them.
        row_sequence: its number among the records of its process that were to get a row; 0 for none of them.
        is_older: whether its writer knew no namespaces.
    """

    record: Record
    instance_id: str
    where: str
    dropped_as: str = ""
    sequence: int = 0
    row_sequence: int = 0
    is_older: bool = False

    @property
    def counts(self) -> Record:
        """The record as it is counted: the tokens of an older error are in the sum of its call."""
        # Only what is counted changes. The row keeps the tokens that the line has.
        if self.is_older and isinstance(self.record, ErrorRecord):
            return replace(self.record, input_tokens=None, output_tokens=None)
        return self.record

    def is_counted(self, counted: instances.Counted) -> bool:
        """Return whether its process has counted it here, by the numbers of `instances`."""
        return (
            counted.after < self.sequence <= counted.through
            or counted.rows_after < self.row_sequence <= counted.rows_through
        )


def read_entry(line: bytes, where: str, namespace: str = NAMESPACE) -> LogEntry | None:
    """Return the record of a log line; None for a blank line and for events without rows of their own.

    Args:
        line: the line, as it is in the file.
        where: `file:line`.
        namespace: the namespace of a line that names none.

    Raises:
        RefusedError: it is not a log line of this package, or has a value that its column cannot hold.
    """
    if not line.strip():
        return None
    values = _parse(line)
    kind = _KINDS.get(values["event"])
    if kind is None:
        return None
    return LogEntry(
        _record(kind, {"namespace": namespace, **values}),
        _checked("instance_id", values.get("instance_id"), str),
        where,
        str(values.get("dropped_as", "")),
        _checked("sequence", values.get("sequence", 0), int),
        _checked("row_sequence", values.get("row_sequence", 0), int),
        is_older="namespace" not in values,
    )


def _parse(line: bytes) -> dict[str, Any]:
    """Return the fields of a line, by the names of this version."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as exc:  # also a list of 100 000 levels
        msg = "no whole JSON"
        raise RefusedError(msg) from exc
    if not isinstance(values, dict) or not isinstance(values.get("event"), str):
        msg = "no log line of this package"
        raise RefusedError(msg)
    schema = values.get("schema")
    if schema not in {_FIRST_SCHEMA, log_events.SCHEMA}:
        msg = f"schema {schema!r}, this version reads {_FIRST_SCHEMA} and {log_events.SCHEMA}"
        raise RefusedError(msg)
    if schema == _FIRST_SCHEMA:
        values = {_RENAMED_SINCE.get(name, name): value for name, value in values.items()}
    return values


def _record(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Return the record that a line was written from. The line leaves out what is None."""
    columns = rows.TABLES[kind].columns
    complete = {field.name: _value(field, values, columns[field.name]) for field in fields(kind)}
    record: Record = rows.record(kind, complete)  # type: ignore[type-var]  # one of the kinds, not known which
    return record


def _value(field: Field[Any], values: Mapping[str, Any], column: sa.Column[Any]) -> Any:
    value = values.get(field.name)
    if value is not None:
        return _checked(field.name, value, _python_type(column))
    if field.default is not MISSING:
        return field.default
    if column.nullable:
        return None
    msg = f"it has no {field.name}"
    raise RefusedError(msg)


def _python_type(column: sa.Column[Any]) -> type:
    if isinstance(column.type, Json):
        return dict
    return datetime if isinstance(column.type, UtcDateTime) else column.type.python_type


def _checked(name: str, value: Any, kind: type) -> Any:
    """Return *value* as a column of type *kind* takes it.

    SQLite would store a value of any type in any column, and readers would fail on it later.
    """
    converted = value
    if kind is datetime and isinstance(value, str):
        converted = _timestamp(value)
    if kind is float and type(value) is int:
        converted = float(value)
    if type(converted) is not kind:
        msg = f"{name}={str(value)[:40]!r} is no {kind.__name__}"
        raise RefusedError(msg)
    return converted


def _timestamp(text: str) -> datetime | None:
    try:
        timestamp = datetime.fromisoformat(text)
    except ValueError:
        return None
    return timestamp if timestamp.tzinfo is not None else None


# --- an import ------------------------------------------------------------------------------------------------------


class _Import:
    def __init__(
        self,
        begin: batches.Begin,
        refuse: Callable[[str, str], None],
        namespace: str,
        done: Imported | None = None,
    ) -> None:
        self._namespace = namespace
        self.done = Imported() if done is None else done
        self._begin = begin
        self._refuse = refuse

    def entries(self, path: Path) -> Iterator[LogEntry]:
        """Yield the records of one file, as far as it can be read."""
        return self.read((f"{path}:{number}", line) for number, line in enumerate(self._lines(path), start=1))

    def read(self, lines: Iterable[tuple[str, bytes]]) -> Iterator[LogEntry]:
        """Yield the records of *lines*."""
        for where, line in lines:
            try:
                entry = read_entry(line, where, self._namespace)
            except RefusedError as exc:
                self._refused(where, str(exc))
                continue
            if entry is None:
                self.done.other += 1
            elif entry.dropped_as == "sampled":
                # Sampled out: the rows of its kind that were kept carry a sample rate that already accounts for it.
                self.done.known += 1
            else:
                yield entry

    def store(self, batch: Sequence[LogEntry]) -> None:
        """Write *batch*. If a record cannot be stored, halve the batch until that record alone is refused."""
        try:
            self._write(batch)
        except Exception as exc:
            if error_kind(exc) is not DatabaseErrorKind.POISON:
                raise
            if len(batch) == 1:
                self._refused(batch[0].where, error_reason(exc))
                return
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self.store(half)

    def _write(self, batch: Sequence[LogEntry]) -> None:
        # Records are not hashable, because they may hold dicts; their identity finds the entry of each.
        by_record = {id(entry.record): entry for entry in batch}
        pairs = [batches.paired(entry.record, entry.instance_id) for entry in batch]
        new = 0

        def count(connection: sa.Connection, inserted: Sequence[Record]) -> None:
            nonlocal new
            counted = instances.counted(connection, {entry.instance_id for entry in batch})
            entries = [by_record[id(record)] for record in inserted]
            uncounted = [
                entry.counts
                for entry in entries
                if not entry.is_counted(counted.get(entry.instance_id, instances.Counted()))
            ]
            counters.counted(uncounted).write(connection)
            new = len(inserted)

        batches.write(self._begin, pairs, count, exact=rows.TABLES)
        self.done.new += new
        self.done.known += len(batch) - new

    def _lines(self, path: Path) -> Iterator[bytes]:
        try:
            with path.open("rb") as plain:
                yield from unzipped(plain)
        except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
            # The end is missing or damaged. The lines before it have been read.
            self._refused(str(path), f"the archive is damaged ({exc})")
        except OSError as exc:
            msg = f"{path} cannot be read: {exc.strerror}"
            raise HistoryError(msg) from exc

    def _refused(self, where: str, why: str) -> None:
        self.done.refused += 1
        self._refuse(where, why)
