"""The warnings that a newcomer must see."""

from __future__ import annotations

import logging

import pytest

from resilience import notices


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """A logger of a library in a program that does not configure logging."""
    monkeypatch.setattr(notices, "_printed", set())
    logger = logging.Logger("library")  # noqa: LOG001 - not a child of the root, which has handlers of pytest
    logger.addHandler(logging.NullHandler())
    return logger


def test_without_logging_a_warning_is_printed_once(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once for each kind, however often it is repeated."""
    for kind in ("history", "history", "store"):
        notices.warn(logger, kind, f"no {kind}: do this")

    assert capsys.readouterr().err == "resilience: no history: do this\nresilience: no store: do this\n"


def test_with_logging_nothing_is_printed(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Any handler of the application is enough, also one of the root logger."""
    logger.parent = logging.Logger("application")  # noqa: LOG001 - as above
    logger.parent.addHandler(caplog.handler)
    notices.warn(logger, "history", "no history: do this")

    assert capsys.readouterr().err == ""
    assert caplog.messages == ["no history: do this"]


def test_a_closed_standard_error_harms_nothing(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon may have closed it."""
    monkeypatch.setattr("sys.stderr", None)

    notices.warn(logger, "history", "no history: do this")
