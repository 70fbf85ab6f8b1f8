"""`Bridge`: events as records of the standard logging; importing the package configures nothing."""

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
    """A logger without handlers, outside the hierarchy."""
    alone = logging.Logger("events")  # noqa: LOG001 - outside the hierarchy on purpose: no other test sees it
    alone.setLevel(logging.DEBUG)
    return alone


class Collecting(logging.Handler):
    """A handler that collects its records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_a_line_becomes_a_record_with_its_fields(logger: logging.Logger) -> None:
    """The message is short, the fields are attributes of the record; `message`, which logging reserves, is `message_`."""
    handler = Collecting()
    logger.addHandler(handler)
    ((stream, line), *_) = lines(error(message="Rate limit 100%"), "i" * 32, 7)
    Bridge(logger).write([(stream, line)])

    (record,) = handler.records
    assert record.getMessage() == "attempt.failed GenerateHypothesis Primary rate_limit Rate limit 100%"
    assert record.levelno == logging.ERROR
    fields = dict(line)
    fields["message_"] = fields.pop("message")
    assert fields.items() <= vars(record).items()


def test_a_record_factory_may_add_fields(logger: logging.Logger) -> None:
    """A factory that adds fields does not break the bridge, nor does its request id replace the call's."""
    handler = Collecting()
    logger.addHandler(handler)
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

    (record,) = handler.records
    assert (line["request_id"], "blue") == (vars(record)["request_id"], vars(record)["tenant"])


def test_the_logger_filters_by_level(logger: logging.Logger) -> None:
    """A logger at WARNING gets the events of failures only."""
    handler = Collecting()
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    Bridge(logger).write([*lines(call(), "i", 7), *lines(error(), "i", 7)])

    assert ["attempt.failed", "attempt.duration"] == [vars(record)["event"] for record in handler.records]


def test_the_default_logger_is_resilience_events(caplog: pytest.LogCaptureFixture) -> None:
    """Without another logger events go to `resilience.events`, and propagate from there."""
    with caplog.at_level(logging.INFO, logger=EVENTS_LOGGER):
        Bridge().write(list(lines(call(), "i", 7)))

    assert [EVENTS_LOGGER] * 2 == [record.name for record in caplog.records]


def test_a_formatter_sees_every_field(logger: logging.Logger) -> None:
    """A JSON formatter that takes all non-standard attributes gets every field, with values that JSON knows."""
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
resilience.protect  # imports what guards calls
root = logging.getLogger()
assert (root.handlers, root.level) == ([], logging.WARNING), root.handlers
ours = logging.getLogger("resilience")
assert [type(handler) for handler in ours.handlers] == [logging.NullHandler]
assert ours.propagate and ours.level == logging.NOTSET
ours.warning("no handler prints this")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
