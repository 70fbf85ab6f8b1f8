"""`resilience metrics` and what it is made of: the fleet's numbers from the history and the circuits."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import pytest
from support.history_records import call, error, fallback
from support.prometheus_text import Labels, Read, labels, parse
from typer.testing import CliRunner

from resilience import BreakerPolicy, CircuitState, ErrorCategory, Settings
from resilience.breaker import Breaker, open_store
from resilience.cli import app
from resilience.history import Action, CallOutcome, Recorder, TransitionRecord
from resilience.prometheus.exporter import Exposition

TODAY = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _no_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters begin anew at midnight, but not between a test's records and its look at them."""
    held = type("Held", (datetime,), {"now": staticmethod(lambda _: TODAY)})
    monkeypatch.setattr("resilience.prometheus.exporter.datetime", held)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project of its own, in the environment too."""
    given: dict[str, Any] = {
        "store_url": f"sqlite:///{tmp_path}/circuits.db",
        "database_url": f"sqlite:///{tmp_path}/history.db",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"RESILIENCE_{name.upper()}", value)
    return Settings(**given).complete()


def keep(settings: Settings, *records: Any) -> None:
    """Write records as one process of the fleet."""
    recorder = Recorder(settings.database_url)
    for record in records:
        recorder.record(record)
    assert recorder.flush(60.0)
    recorder.close()


def read(settings: Settings) -> dict[str, Read]:
    return parse(Exposition(settings).render())


def values(settings: Settings, name: str) -> dict[Labels, float]:
    return read(settings)[name].values()


# --- the history --------------------------------------------------------------------------------------------------------


def test_calls_are_those_of_all_processes(settings: Settings) -> None:
    """What two processes recorded is added up, by client, function and outcome."""
    both = {"client": "Primary", "function": "GenerateHypothesis"}
    keep(settings, call(), call(outcome=CallOutcome.FAILED, client_final=None, attempts=4, retries=3))
    keep(settings, call(), call(client="Secondary", function="Other", client_final="Secondary"))

    assert {
        labels(**both, outcome="ok"): 2,
        labels(**both, outcome="failed"): 1,
        labels(client="Secondary", function="Other", outcome="ok"): 1,
    } == values(settings, "resilience_calls_total")


@pytest.mark.parametrize("outcome", list(CallOutcome))
def test_every_outcome_is_told_by_its_name(settings: Settings, outcome: CallOutcome) -> None:
    """The label is the outcome as records have it, and nothing else is counted."""
    keep(settings, call(outcome=outcome))

    found = values(settings, "resilience_calls_total")

    assert {labels(client="Primary", function="GenerateHypothesis", outcome=outcome.value): 1} == found


def test_durations_tokens_and_attempts_come_from_the_rollups(settings: Settings) -> None:
    """Sums and counts are exact; tokens have a type."""
    keep(settings, call(duration=0.25, input_tokens=100, output_tokens=7), call(duration=0.5), error())
    both = {"client": "Primary", "function": "GenerateHypothesis"}
    found = read(settings)

    assert {labels(client="Primary"): 0.75} == found["resilience_call_duration_seconds"].values("_sum")
    assert {labels(client="Primary"): 2} == found["resilience_call_duration_seconds"].values("_count")
    assert {labels(**both, type="input"): 100, labels(**both, type="output"): 7} == found[
        "resilience_tokens_total"
    ].values()
    assert {labels(**both): 3} == found["resilience_attempts_total"].values()


def test_errors_and_retries_are_told_by_kind_and_result(settings: Settings) -> None:
    """A sampled row counts for those it stands for; refusals are no errors of the client's but rejections."""
    keep(
        settings,
        error(action=Action.RETRY),
        error(action=Action.FALLBACK, denied="budget"),
        error(attempt=4, category=ErrorCategory.TIMEOUT, sample_rate=0.1),
        error(category=ErrorCategory.CIRCUIT_OPEN),
        fallback(reason=ErrorCategory.CIRCUIT_OPEN),
        call(outcome=CallOutcome.RECOVERED_RETRY, retries=1),
    )
    both = {"client": "Primary", "function": "GenerateHypothesis"}
    found = read(settings)

    assert {
        labels(**both, error_type="rate_limit"): 2,
        labels(**both, error_type="timeout"): 10,
    } == found["resilience_errors_total"].values()
    assert {
        labels(client="Primary", result="scheduled"): 1,
        labels(client="Primary", result="budget_denied"): 1,
        labels(client="Primary", result="exhausted"): 10,
        labels(client="Primary", result="succeeded"): 1,
    } == found["resilience_retries_total"].values()
    assert {labels(client="Primary"): 2} == found["resilience_breaker_rejected_total"].values()


def test_fallbacks_say_whether_they_helped(settings: Settings) -> None:
    """A step that was cut short did not help."""
    keep(settings, fallback(), fallback(), fallback(succeeded=False), fallback(succeeded=None))
    way = {"from_client": "Primary", "to_client": "Secondary", "reason": "rate_limit"}

    assert {labels(**way, succeeded="true"): 2, labels(**way, succeeded="false"): 2} == values(
        settings, "resilience_fallbacks_total"
    )


def move(epoch: int, **changes: Any) -> TransitionRecord:
    given: dict[str, Any] = {
        "namespace": "resilience",
        "client": "Primary",
        "scope": "shared",
        "epoch": epoch,
        "occurred_at": TODAY,
        "from_state": "closed",
        "to_state": "open",
        "rule": "consecutive_failures",
        "reason": "timeout",
    }
    return TransitionRecord(**given | changes)


def test_moves_of_circuits_are_counted_once_for_the_fleet(settings: Settings) -> None:
    """Two processes that tell of one move make one; an operator's words are not shown; other deployments are not counted."""
    ordered = move(2, to_state="forced_open", actor="ada", reason="phone call with ACME")
    keep(settings, move(1), ordered, move(1, namespace="elsewhere"))
    keep(settings, move(1))

    assert {
        labels(client="Primary", to_state="open", reason="timeout"): 1,
        labels(client="Primary", to_state="forced_open", reason="operator"): 1,
    } == values(settings, "resilience_breaker_transitions_total")


def test_counters_begin_anew_at_midnight(settings: Settings) -> None:
    """What happened yesterday is counted no more, so that no retention can make a counter fall during a day."""
    yesterday = TODAY - timedelta(days=1)
    keep(settings, call(started_at=yesterday), error(occurred_at=yesterday), fallback(occurred_at=yesterday))

    assert not [name for name in read(settings) if name.endswith("_total") and "history" not in name]


def test_each_live_process_tells_of_its_queue(settings: Settings) -> None:
    """Queue and losses are told for each process that wrote lately, under the id its records have."""
    keep(settings, call())
    keep(settings, call())
    found = read(settings)

    assert [0, 0] == list(found["resilience_history_queue_depth"].values().values())
    assert [0, 0] == list(found["resilience_history_dropped_total"].values().values())
    assert [0, 0] == list(found["resilience_degraded"].values().values())
    assert ["service_instance_id"] == sorted(
        {name for key in found["resilience_history_queue_depth"].values() for name, _ in key}
    )


# --- the circuits -------------------------------------------------------------------------------------------------------


@pytest.fixture
def breaker(settings: Settings) -> Iterator[Breaker]:
    store = open_store(settings.store_url or "", namespace=settings.namespace)
    made = Breaker(store, BreakerPolicy())
    yield made
    made.close()


async def test_circuits_are_read_from_their_store(settings: Settings, breaker: Breaker) -> None:
    """Each state of each circuit is a line, one of them 1; looking changes nothing."""
    view = await breaker.operate("Primary", "open", actor="ada", reason="maintenance")
    await breaker.operate("Secondary", "reset", actor="ada")

    found = await asyncio.to_thread(values, settings, "resilience_breaker_state")

    assert {("Primary", "forced_open"), ("Secondary", "closed")} == {
        (dict(key)["client"], dict(key)["state"]) for key, value in found.items() if value
    }
    assert 2 * len(CircuitState) == len(found)
    assert view.epoch == (await breaker.peek(["Primary"]))["Primary"].epoch


# --- trouble ------------------------------------------------------------------------------------------------------------


def test_a_source_that_cannot_be_read_does_not_hide_the_other(settings: Settings, tmp_path: Path) -> None:
    """A history that is no database costs its own metrics alone, and both the text and the reader are told."""
    (tmp_path / "history.db").write_text(
        "no database at all, but long enough to look like a file of one" * 20
    )

    reading = Exposition(settings).read()

    assert {labels(source="history"): 0, labels(source="circuits"): 1} == parse(reading.text)[
        "resilience_source_up"
    ].values()
    assert 1 == len(reading.troubles)
    assert reading.troubles[0].startswith("history: ")


def test_without_history_the_circuits_are_told(tmp_path: Path) -> None:
    """Privacy `off` keeps no history, and that is no trouble."""
    settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db", privacy="off")
    reading = Exposition(settings).read()

    assert () == reading.troubles
    assert ["resilience_source_up"] == list(parse(reading.text))


# --- ways to look -------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_text(settings: Settings) -> None:
    """Standard output is the text and nothing else; what could not be read is said beside it."""
    told = CliRunner().invoke(app, ["metrics"])
    keep(settings, call())
    after = CliRunner().invoke(app, ["metrics"])

    assert (0, 0) == (told.exit_code, after.exit_code)
    assert "resilience: history: there is no history at" in told.stderr
    assert "" == after.stderr
    assert "resilience_calls_total" in parse(after.stdout)


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:99999", "host:-1"])
def test_an_address_that_is_none_is_explained(settings: Settings, address: str) -> None:
    """A wrong address names the right form and exits as bad use."""
    told = CliRunner().invoke(app, ["metrics", "--serve", address])

    assert 2 == told.exit_code
    assert "give PORT or HOST:PORT" in told.stderr


def test_a_port_that_is_taken_is_explained(settings: Settings) -> None:
    """Somebody else's port is bad use, in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = CliRunner().invoke(app, ["metrics", "--serve", str(port)])

    assert 2 == told.exit_code
    assert f"127.0.0.1:{port} cannot be served" in told.stderr


class Served:
    """`resilience metrics --serve 0` in a process of its own."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from resilience.cli import app; app()", "metrics", "--serve", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.process.communicate()[1]
        self.port = int(self.url.removesuffix("/metrics").rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        self.out, self.err = self.process.communicate(timeout=30)


def got(port: int, path: str) -> tuple[int, str | None, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def test_it_serves_on_loopback_until_interrupted(settings: Settings) -> None:
    """It says where it listens, answers /metrics alone, in Prometheus' content type, and ends at Ctrl-C without a word."""
    keep(settings, call())

    with Served() as running:
        status, kind, body = got(running.port, "/metrics?name=x")
        refused, *_ = got(running.port, "/other")

    assert f"http://127.0.0.1:{running.port}/metrics" == running.url
    assert (200, 404) == (status, refused)
    assert "text/plain; version=0.0.4; charset=utf-8" == kind
    assert "resilience_calls_total" in parse(body)
    assert (0, "") == (running.process.returncode, running.err)


async def test_it_is_an_asgi_application(settings: Settings) -> None:
    """Mounted in a web application it answers requests, HEAD without a body, and takes part in its lifespan."""
    keep(settings, call())
    sent: list[dict[str, Any]] = []
    came = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return next(came)

    application = Exposition(settings)
    for scope in (
        {"type": "http", "method": "GET"},
        {"type": "http", "method": "HEAD"},
        {"type": "lifespan"},
    ):
        await application(scope, receive, send)
    start, body, head_start, head_body, up, down = sent

    assert (200, 200) == (start["status"], head_start["status"])
    assert "resilience_calls_total" in parse(body["body"].decode())
    assert str(len(body["body"])).encode() == dict(start["headers"])[b"content-length"]
    assert b"" == head_body["body"]
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == [up["type"], down["type"]]
