"""`resilience status`: one screen of a real store and history, its JSON and its exit codes."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from support.history_records import call, error, fallback
from typer.testing import CliRunner, Result

from resilience.breaker import Operation, open_store
from resilience.breaker.messages import Order, StepRequest
from resilience.cli import app
from resilience.failure import ErrorCategory
from resilience.history import CallOutcome, Recorder, TransitionRecord


def transition(at: datetime, from_state: str, to_state: str) -> TransitionRecord:
    return TransitionRecord(
        namespace="resilience",
        client="Primary",
        scope="shared",
        epoch=round(at.timestamp() * 1000),
        occurred_at=at,
        from_state=from_state,
        to_state=to_state,
        rule="consecutive_failures",
        reason="timeout",
        failures=5,
    )


def outage() -> tuple[Any, ...]:
    """The records of an outage that ended five minutes ago, in which every caller got an answer.

    Made when a test needs them: a long run collects its tests much earlier than it runs them.
    """
    now = datetime.now(UTC)

    def at(seconds: float) -> datetime:
        return now + timedelta(seconds=seconds)

    return (
        transition(at(-300), "closed", "open"),
        transition(at(-290), "open", "half_open"),
        transition(at(-289), "half_open", "closed"),
        *(error(occurred_at=at(-301), category=ErrorCategory.TIMEOUT, status=None) for _ in range(5)),
        *(
            call(
                started_at=at(-300),
                client_final="Secondary",
                outcome=CallOutcome.RECOVERED_FALLBACK,
                fallbacks=1,
                duration=0.25,
            )
            for _ in range(3)
        ),
        fallback(occurred_at=at(-295), reason=ErrorCategory.CIRCUIT_OPEN),
        call(started_at=at(-280)),
    )


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the history of an outage, and a store whose circuits are closed again."""
    folder = tmp_path_factory.mktemp("past")
    recorder = Recorder(f"sqlite:///{folder}/resilience.db")
    for record in outage():
        recorder.record(record)
    assert recorder.flush(60.0)
    recorder.close()
    give(folder, "Primary", Operation.CLOSE)
    return folder


def give(folder: Path, client: str, operation: Operation, **order: Any) -> None:
    store = open_store(f"sqlite:///{folder}/circuits.db", namespace="resilience")
    for each in (Operation.OPEN, operation):
        store.step([StepRequest(client=client, order=Order(operation=each, actor="ann", **order))])
    store.close()


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--at", str(folder), "status", *arguments])


def unfolded(text: str) -> str:
    return " ".join(text.split())


def test_a_stranger_learns_what_broke(past: Path) -> None:
    """In a pipe of 80 columns: what broke and when, that callers noticed nothing, what failed, and the next commands."""
    done = run(past)
    text = unfolded(done.stdout)

    assert 0 == done.exit_code
    assert "The circuit of Primary is closed. Primary was open from " in text
    assert "(11 s: timeout)" in text
    assert "Callers are fine: 4 of 4 calls of the last 15 min answered, 75 % by Secondary" in text
    assert "timeout: Rate limit reached" in text
    assert f"resilience --at {past} errors timeline equest-1" in text
    assert "\x1b" not in done.stdout
    assert not [line for line in done.stdout.splitlines() if cell_len(line) > 80 and "--at" not in line]


def test_a_window_is_what_since_says(past: Path) -> None:
    """`--since 1m` leaves the outage to the sentence about outages; the last minute had no calls."""
    text = unfolded(run(past, "--since", "1m").stdout)

    assert "window 60 s" in text
    assert "when the outages began, answered" in text
    assert "No call ended within the last 60 s; the newest started" in text


def test_json_has_everything_on_the_screen(past: Path) -> None:
    """One object: verdict, sentences, next steps and the snapshot; times end in Z."""
    shown = json.loads(run(past, "--json").stdout)

    assert shown.keys() == json.loads(run(past, "-o", "json").stdout).keys()
    assert "well" == shown["verdict"]
    assert [True, True] == [sentence in unfolded(run(past).stdout) for sentence in shown["sentences"][:2]]
    assert 5 == shown["window"]["failures"][0]["times"]
    assert [1, "Primary"] == [len(shown["outages"]), shown["outages"][0]["client"]]
    assert shown["at"].endswith("Z")
    assert ["errors", "--client", "Primary", "--category", "timeout"] == shown["next"][-1]["command"]


def test_an_open_circuit_is_exit_code_2(tmp_path: Path) -> None:
    """A probe learns it from the code, a person from the first sentence and the command that ends it."""
    give(tmp_path, "Primary", Operation.OPEN, reason="unpaid bill")
    done = run(tmp_path)
    text = unfolded(done.stdout)

    assert 2 == done.exit_code
    assert "Primary is held OPEN by ann until another order: unpaid bill." in text
    assert "There is no history at " in text
    assert "circuit close Primary" in text
    assert ["circuits.db"] == [path.name for path in tmp_path.glob("*.db")]


def test_an_order_that_expired_is_over(tmp_path: Path) -> None:
    """No call has noticed its end: the circuit is closed since then, and the outage has not lasted until now."""
    store = open_store(f"sqlite:///{tmp_path}/circuits.db", namespace="resilience")
    order = Order(operation=Operation.OPEN, actor="ann", seconds=0.001)
    store.step([StepRequest(client="Primary", order=order)])
    store.close()
    begun = datetime.now(UTC) - timedelta(minutes=30)
    held = dataclasses.replace(
        transition(begun, "closed", "forced_open"), actor="ann", reason="", rule="operator", wait=60.0
    )
    recorder = Recorder(f"sqlite:///{tmp_path}/resilience.db")
    for record in (held, call()):
        recorder.record(record)
    assert recorder.flush(60.0)
    recorder.close()
    shown = json.loads(run(tmp_path, "--json").stdout)
    end = f"{begun + timedelta(minutes=1):%Y-%m-%dT%H:%M:%S}"

    assert [end, end] == [shown["circuits"][0]["since"][:19], shown["outages"][0]["ended_at"][:19]]
    assert "(60 s: operator)" in shown["sentences"][0]


def test_a_store_that_is_away_is_exit_code_2(past: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history is still shown, and the sentence names the store and the cause."""
    monkeypatch.setenv("RESILIENCE_REDIS_URL", "unix:///nowhere/at/all")
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", f"sqlite:///{past}/resilience.db")
    done = CliRunner().invoke(app, ["status"])

    assert 2 == done.exit_code
    assert "The store of circuits at unix:///nowhere/at/all is away" in unfolded(done.stdout)
    assert "WHAT FAILED" in done.stdout


def test_nothing_readable_is_exit_code_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder is not a healthy fleet: it is named, nothing is created in it, and wrong settings are 3 too."""
    (tmp_path / "baml_src").mkdir()
    empty = run(tmp_path)
    monkeypatch.setenv("RESILIENCE_STORE_URL", "mysql://host")
    wrong = CliRunner().invoke(app, ["status"])

    assert [3, 3] == [empty.exit_code, wrong.exit_code]
    assert "There is no store of circuits at" in unfolded(empty.stdout)
    assert "There is no history at" in unfolded(empty.stdout)
    assert "no store of circuits for 'mysql'" in wrong.stderr
    assert ["baml_src"] == [path.name for path in tmp_path.iterdir()]


def test_watch_draws_until_it_is_interrupted(past: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends it with 0; in a pipe the screens follow each other."""
    rounds = iter((None, None))

    def wait(_: float) -> None:
        if next(rounds, "end") == "end":
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", wait)
    done = run(past, "--watch")

    assert 0 == done.exit_code
    assert 3 == done.stdout.count("resilience status   ")
