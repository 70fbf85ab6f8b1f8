"""The warnings that a newcomer must see."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support.programs import run_program

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


def test_a_process_that_may_write_nothing_says_so_once_for_each_part(tmp_path: Path) -> None:
    """Circuits, history and logs below a file that is no folder: one line each on standard error, with the remedy, and the call answers."""
    (tmp_path / "taken").touch()
    program = """
        import asyncio
        from resilience import BAMLErrorHandler, RetryPolicy, Settings

        async def answer():
            return "an answer"

        async def main():
            settings = Settings(
                store_url="sqlite:///taken/circuits.db", database_url="sqlite:///taken/history.db", log_dir="taken/logs"
            )
            for _ in range(2):
                async with BAMLErrorHandler(settings=settings) as handler:
                    print(await handler.call_with_retry(answer, "A", "F"))

        asyncio.run(main())
    """
    done = run_program(program, {}, tmp_path)
    printed = [line for line in done.stderr.splitlines() if line.startswith("resilience: ")]

    assert done.stdout.split("\n") == ["an answer", "an answer", ""], done.stderr
    for beginning in ("the store of circuits is away", "the history at", "log lines are being lost"):
        assert 1 == sum(line.startswith(f"resilience: {beginning}") for line in printed), printed
    assert any("or set RESILIENCE_LOG_DIR" in line for line in printed)
