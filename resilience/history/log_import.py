"""From log lines back to rows: what a killed process had no time to write is in its logs."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from resilience.errors import HistoryError
from resilience.history.log_lines import Entry, RefusedError, entry
from resilience.history.schema import migrations, rows, tables, urls
from resilience.history.schema.db_errors import DatabaseErrorKind, complaint, reason, trouble
from resilience.history.schema.engine import open_engine
from resilience.history.store import batches, counters
from resilience.records.records import Record

_BATCH: Final = 500
_WAIT: Final = 30.0
"""Seconds for the lock of others: nobody waits for an import."""
_GZIP: Final = b"\x1f\x8b"


@dataclass(slots=True)
class Imported:
    """What became of the lines.

    Attributes:
        new: they are rows now.
        known: their rows were there, or one of ten stands for them and the counters have them.
        refused: they could not be made rows.
        other: lines that never have rows of their own.
    """

    new: int = 0
    known: int = 0
    refused: int = 0
    other: int = 0


def import_lines(
    url: str, paths: Iterable[Path], refuse: Callable[[str, str], None] = lambda _where, _why: None
) -> Imported:
    """Make rows of the lines in *paths*, plain or gzipped, that have none yet, and count what nobody counted.

    As often as one likes: a line that has its row changes nothing. Import the logs of processes that have ended; of one
    that lives, lines may come twice into the counters that are on their way there already.

    Args:
        url: the database, as for `Recorder`.
        paths: log files, also rotated ones.
        refuse: told `file:line` and the reason of each line that cannot be a row.

    Raises:
        ConfigurationError: *url* cannot be used.
        HistoryError: the database cannot be written, or a file cannot be read.
    """
    parsed = urls.parse(url)
    migrations.prepare(parsed)
    engine = open_engine(parsed, wait=_WAIT)
    work = _Import(engine, refuse)
    try:
        entries = (found for path in paths for found in work.entries(path))
        while batch := list(islice(entries, _BATCH)):
            work.store(batch)
    except DBAPIError as exc:
        raise HistoryError(complaint(exc, urls.shown(parsed))) from exc
    finally:
        engine.dispose()
    return work.done


class _Import:
    def __init__(self, engine: sa.Engine, refuse: Callable[[str, str], None]) -> None:
        self.done = Imported()
        self._engine = engine
        self._refuse = refuse

    def entries(self, path: Path) -> Iterator[Entry]:
        """The records of one file, as far as it can be read."""
        for number, line in enumerate(self._lines(path), start=1):
            where = f"{path}:{number}"
            try:
                found = entry(line, where)
            except RefusedError as exc:
                self._refused(where, str(exc))
                continue
            if found is None:
                self.done.other += 1
            elif found.dropped_as == "sampled":
                self.done.known += 1
            else:
                yield found

    def store(self, batch: Sequence[Entry]) -> None:
        """Write *batch*; a line that no database keeps is refused alone."""
        try:
            self._write(batch)
        except Exception as exc:
            if trouble(exc) is not DatabaseErrorKind.POISON:
                raise
            if len(batch) == 1:
                self._refused(batch[0].where, reason(exc))
                return
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self.store(half)

    def _write(self, batch: Sequence[Entry]) -> None:
        by_record = {id(found.record): found for found in batch}
        pairs = [batches.paired(found.record, found.instance_id) for found in batch]
        new = 0

        def finish(connection: sa.Connection, kept: Sequence[Record]) -> None:
            nonlocal new
            told = _counted_through(connection, {found.instance_id for found in batch if found.sequence})
            mine = (by_record[id(record)] for record in kept)
            counters.counted(
                found.record for found in mine if not 0 < found.sequence <= told.get(found.instance_id, 0)
            ).write(connection)
            new = len(kept)

        batches.write(self._engine, pairs, finish, exact=rows.TABLES)
        self.done.new += new
        self.done.known += len(batch) - new

    def _lines(self, path: Path) -> Iterator[bytes]:
        try:
            with path.open("rb") as plain:
                zipped = plain.read(2) == _GZIP
                plain.seek(0)
                yield from gzip.GzipFile(fileobj=plain) if zipped else plain
        except (
            EOFError,
            zlib.error,
            gzip.BadGzipFile,
        ) as exc:  # its end is missing: what came before is good
            self._refused(str(path), f"the archive is damaged ({exc})")
        except OSError as exc:
            msg = f"{path} cannot be read: {exc.strerror}"
            raise HistoryError(msg) from exc

    def _refused(self, where: str, why: str) -> None:
        self.done.refused += 1
        self._refuse(where, why)


def _counted_through(connection: sa.Connection, instances: Iterable[str]) -> dict[str, int]:
    """Return, by process, the sequence number up to which its records without rows are in the counters."""
    wanted = tuple(instances)
    if not wanted:
        return {}
    columns = tables.instances.c
    found = connection.execute(
        sa.select(columns.instance_id, columns.counted_through).where(columns.instance_id.in_(wanted))
    )
    return {instance_id: through for instance_id, through in found}  # noqa: C416 - a Row is no tuple to a type checker
