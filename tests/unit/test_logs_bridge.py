"""Events as records of the standard logging, and a library's manners."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from support.history_records import call, error

from resilience.logs import EVENTS_LOGGER, Bridge
from resilience.records.log_events import lines


@pytest.fixture
def logger() -> logging.Logger:
    """A logger nobody listens to."""
    alone = logging.Logger("events")  # noqa: LOG001 - of its own on purpose, no other test sees it
    alone.setLevel(logging.DEBUG)
    return alone


class Kept(logging.Handler):
    """A handler that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_a_line_becomes_a_record_with_its_fields(logger: logging.Logger) -> None:
    """The text is for people, the fields are the record's own; `message`, which logging keeps for itself, is `message_`."""
    kept = Kept()
    logger.addHandler(kept)
    ((stream, line), *_) = lines(error(message="Rate limit 100%"), "i" * 32, 7)
    Bridge(logger).write([(stream, line)])

    (record,) = kept.records
    assert record.getMessage() == "attempt.failed GenerateHypothesis Primary rate_limit Rate limit 100%"
    assert record.levelno == logging.ERROR
    told = dict(line)
    told["message_"] = told.pop("message")
    assert told.items() <= vars(record).items()


def test_a_program_may_have_a_record_factory_that_adds_fields(logger: logging.Logger) -> None:
    """A factory that stamps each record with a request id of its thread neither breaks the bridge nor lies about the call's."""
    kept = Kept()
    logger.addHandler(kept)
    factory = logging.getLogRecordFactory()

    def stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.request_id = "-"
        record.tenant = "blue"
        return record

    logging.setLogRecordFactory(stamped)
    try:
        ((stream, line), *_) = lines(error(), "i" * 32, 7)
        Bridge(logger).write([(stream, line)])
    finally:
        logging.setLogRecordFactory(factory)

    (record,) = kept.records
    assert (line["request_id"], "blue") == (vars(record)["request_id"], vars(record)["tenant"])


def test_levels_are_the_loggers_to_filter(logger: logging.Logger) -> None:
    """A logger at WARNING hears of what went wrong and not of what went well."""
    kept = Kept()
    logger.addHandler(kept)
    logger.setLevel(logging.WARNING)
    Bridge(logger).write([*lines(call(), "i", 7), *lines(error(), "i", 7)])

    assert ["attempt.failed", "attempt.duration"] == [vars(record)["event"] for record in kept.records]


def test_the_bridge_ends_at_a_logger_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """Without another logger events go to `resilience.events`, and from there to whoever listens above."""
    with caplog.at_level(logging.INFO, logger=EVENTS_LOGGER):
        Bridge().write(list(lines(call(), "i", 7)))

    assert [EVENTS_LOGGER] * 2 == [record.name for record in caplog.records]


def test_a_formatter_of_the_programs_own_sees_every_field(logger: logging.Logger) -> None:
    """What JSON formatters do: take all that is not logging's own, and every value is one JSON knows."""
    plain = vars(logging.makeLogRecord({}))

    class Json(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return json.dumps({name: value for name, value in vars(record).items() if name not in plain})

    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(Json())
    logger.addHandler(handler)
    _, line = next(iter(lines(call(), "i", 7)))
    Bridge(logger).write([("operations", line)])

    assert line == json.loads(text.getvalue())


def test_importing_us_configures_nothing() -> None:
    """The root logger has no handler, our loggers propagate, and without a handler nothing is printed."""
    program = """
import logging, resilience
root = logging.getLogger()
assert (root.handlers, root.level) == ([], logging.WARNING), root.handlers
ours = logging.getLogger("resilience")
assert [type(handler) for handler in ours.handlers] == [logging.NullHandler]
assert ours.propagate and ours.level == logging.NOTSET
ours.warning("said to nobody")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
