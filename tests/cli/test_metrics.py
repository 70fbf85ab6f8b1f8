"""`resilience metrics` and `Exposition`: the fleet's numbers from the history and the circuits."""

from __future__ import annotations

import asyncio
import importlib
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import pytest
from support.history_records import call, error, eventually, fallback
from support.prometheus_text import Labels, ParsedMetric, labels, parse
from typer.testing import CliRunner

from resilience import BreakerPolicy, CircuitState, ErrorCategory, Settings, damage_counts
from resilience.breaker import Breaker, open_store
from resilience.cli import app, metrics_server
from resilience.cli.metrics_server import Access
from resilience.history import Action, CallOutcome, Recorder, Retention, TransitionRecord, admin
from resilience.prometheus import Exposition

NO_LONGER_NEW = timedelta(minutes=5)
"""Age of a pair from which on its counts are shown, and not zeros."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a project of the test's own, in the environment too."""
    urls: dict[str, Any] = {
        "store_url": f"sqlite:///{tmp_path}/circuits.db",
        "database_url": f"sqlite:///{tmp_path}/history.db",
    }
    for name, value in urls.items():
        monkeypatch.setenv(f"RESILIENCE_{name.upper()}", value)
    return Settings(**urls).complete()


def record(settings: Settings, *records: Any) -> None:
    """Write records as one process of the fleet."""
    recorder = Recorder(settings.database_url)
    for each in records:
        recorder.record(each)
    assert recorder.flush(60.0)
    recorder.close()


def scrape(settings: Settings, later: timedelta = NO_LONGER_NEW) -> dict[str, ParsedMetric]:
    return parse(Exposition(settings, now=lambda: datetime.now(UTC) + later).render())


def values(settings: Settings, name: str) -> dict[Labels, float]:
    """Return the series of a metric that are not 0."""
    return counted(scrape(settings)[name])


def counted(metric: ParsedMetric, suffix: str = "") -> dict[Labels, float]:
    return {key: value for key, value in metric.values(suffix).items() if value}


# --- the history --------------------------------------------------------------------------------------------------------


def test_calls_are_those_of_all_processes(settings: Settings) -> None:
    """The rows of two processes are added up, by client, function and outcome."""
    both = {"client": "Primary", "function": "GenerateHypothesis"}
    record(settings, call(), call(outcome=CallOutcome.FAILED, client_final=None, attempts=4, retries=3))
    record(settings, call(), call(client="Secondary", function="Other", client_final="Secondary"))

    assert {
        labels(**both, outcome="ok"): 2,
        labels(**both, outcome="failed"): 1,
        labels(client="Secondary", function="Other", outcome="ok"): 1,
    } == values(settings, "resilience_calls_total")


@pytest.mark.parametrize("outcome", list(CallOutcome))
def test_every_outcome_is_a_label(settings: Settings, outcome: CallOutcome) -> None:
    """The label is the value that records have, and nothing else is counted."""
    record(settings, call(outcome=outcome))

    counts = values(settings, "resilience_calls_total")

    assert {labels(client="Primary", function="GenerateHypothesis", outcome=outcome.value): 1} == counts


def test_durations_tokens_and_attempts_come_from_counters(settings: Settings) -> None:
    """Sums and counts are exact; calls and attempts have histograms; tokens have a type."""
    record(settings, call(duration=0.25, input_tokens=100, output_tokens=7), call(duration=0.5), error())
    both = {"client": "Primary", "function": "GenerateHypothesis"}
    metrics = scrape(settings)
    calls, attempts = (metrics[f"resilience_{kind}_duration_seconds"] for kind in ("call", "attempt"))

    assert {labels(client="Primary"): 0.75} == calls.values("_sum")
    assert {labels(client="Primary"): 2} == calls.values("_count")
    assert [1, 2] == [
        calls.values("_bucket")[labels(client="Primary", le=bound)] for bound in ("0.25", "0.5")
    ]
    assert {"ok": 2, "failed": 1} == {
        dict(key)["outcome"]: value for key, value in attempts.values("_count").items()
    }
    assert {labels(**both, type="input"): 100, labels(**both, type="output"): 7} == counted(
        metrics["resilience_tokens_total"]
    )
    assert {labels(**both): 3} == metrics["resilience_attempts_total"].values()


def test_the_time_to_first_token_is_that_of_the_attempt(settings: Settings) -> None:
    """Failed attempts count too. The time that a call lost on another client belongs to neither, and a new client begins with 0."""
    record(
        settings,
        call(streamed=True, duration=2.0, answer_duration=1.5, time_to_first_token=0.75, attempts=2),
        error(streamed=True, duration=3.0, time_to_first_token=0.5),
        call(client="Plain", client_final="Plain"),
    )
    first = scrape(settings)["resilience_attempt_time_to_first_token_seconds"]
    newborn = scrape(settings, timedelta())["resilience_attempt_time_to_first_token_seconds"]

    assert {labels(client="Primary"): 2, labels(client="Plain"): 0} == first.values("_count")
    assert {labels(client="Primary"): 0.75} == counted(first, "_sum")
    assert 1 == first.values("_bucket")[labels(client="Primary", le="0.25")]
    assert {0} == set(newborn.values("_count").values())


def test_errors_and_retries_are_counted_by_kind_and_result(settings: Settings) -> None:
    """Counts are exact whatever was sampled. Refusals of a circuit are rejections, not errors."""
    record(
        settings,
        error(action=Action.RETRY),
        error(action=Action.FALLBACK, denied="budget"),
        error(attempt=4, category=ErrorCategory.TIMEOUT),
        error(category=ErrorCategory.CIRCUIT_OPEN),
        fallback(reason=ErrorCategory.CIRCUIT_OPEN),
        call(outcome=CallOutcome.RECOVERED_RETRY, retries=1),
    )
    both = {"client": "Primary", "function": "GenerateHypothesis"}
    metrics = scrape(settings)

    assert {
        labels(**both, error_type="rate_limit"): 2,
        labels(**both, error_type="timeout"): 1,
    } == counted(metrics["resilience_errors_total"])
    assert {
        labels(client="Primary", result="scheduled"): 1,
        labels(client="Primary", result="budget_denied"): 1,
        labels(client="Primary", result="exhausted"): 1,
        labels(client="Primary", result="succeeded"): 1,
    } == counted(metrics["resilience_retries_total"])
    assert {labels(client="Primary"): 2} == counted(metrics["resilience_breaker_rejected_total"])


def test_fallbacks_say_whether_they_helped(settings: Settings) -> None:
    """A fallback that was cut short did not help."""
    record(settings, fallback(), fallback(), fallback(succeeded=False), fallback(succeeded=None))
    labels_of_all = {"from_client": "Primary", "to_client": "Secondary", "reason": "rate_limit"}

    assert {
        labels(**labels_of_all, succeeded="true"): 2,
        labels(**labels_of_all, succeeded="false"): 2,
    } == values(settings, "resilience_fallbacks_total")


def transition(epoch: int, **changes: Any) -> TransitionRecord:
    fields: dict[str, Any] = {
        "namespace": "resilience",
        "client": "Primary",
        "scope": "shared",
        "epoch": epoch,
        "occurred_at": datetime.now(UTC),
        "from_state": "closed",
        "to_state": "open",
        "rule": "consecutive_failures",
        "reason": "timeout",
    }
    return TransitionRecord(**fields | changes)


def test_transitions_are_counted_once_for_the_fleet(settings: Settings) -> None:
    """Two processes that record one transition count it once; an operator's text is no label; other namespaces do not count."""
    ordered = transition(2, to_state="forced_open", actor="ada", reason="phone call with ACME")
    record(settings, transition(1), ordered, transition(1, namespace="elsewhere"))
    record(settings, transition(1))

    assert {
        labels(client="Primary", to_state="open", reason="timeout"): 1,
        labels(client="Primary", to_state="forced_open", reason="operator"): 1,
    } == values(settings, "resilience_breaker_transitions_total")


def test_other_deployments_are_not_counted(settings: Settings) -> None:
    """Rows of another namespace of the same history make no series."""
    record(
        settings, call(namespace="elsewhere"), error(namespace="elsewhere"), fallback(namespace="elsewhere")
    )

    assert not [name for name in scrape(settings) if name.endswith("_total") and "history" not in name]


# --- counters that alert --------------------------------------------------------------------------------------------------


def test_a_first_failure_is_an_increase_from_zero(settings: Settings) -> None:
    """A scrape after the first failures of a fresh fleet shows zeros for them; the next shows the five failures and the opening."""
    record(settings, *(error(category=ErrorCategory.TIMEOUT) for _ in range(5)), transition(1))
    names = ("resilience_errors_total", "resilience_breaker_transitions_total")
    first, later = (scrape(settings, later) for later in (timedelta(), NO_LONGER_NEW))
    keys = (
        labels(client="Primary", function="GenerateHypothesis", error_type="timeout"),
        labels(client="Primary", to_state="open", reason="timeout"),
    )

    assert [(0, 5), (0, 1)] == [
        (first[name].values()[key], later[name].values()[key]) for name, key in zip(names, keys, strict=True)
    ]


def test_a_known_client_has_every_series_from_the_start(settings: Settings) -> None:
    """After one good call each outcome, category, result, transition and state of its client is there with 0, once."""
    record(settings, call(), call(client="Secondary", client_final="Secondary"), fallback())
    metrics = scrape(settings)
    zeros = {
        name: [key for key, value in metric.values().items() if not value] for name, metric in metrics.items()
    }
    both = {"client": "Primary", "function": "GenerateHypothesis"}

    assert labels(**both, outcome="failed") in zeros["resilience_calls_total"]
    assert {category.value for category in ErrorCategory} - {"circuit_open", "cancelled"} == {
        dict(key)["error_type"] for key in zeros["resilience_errors_total"]
    }
    assert 12 == len(zeros["resilience_retries_total"])
    assert (
        labels(client="Primary", to_state="forced_open", reason="operator")
        in zeros["resilience_breaker_transitions_total"]
    )
    assert {labels(client=name, state="open") for name in ("Primary", "Secondary")} <= set(
        zeros["resilience_breaker_state"]
    )
    assert (
        labels(from_client="Primary", to_client="Secondary", reason="timeout", succeeded="true")
        in zeros["resilience_fallbacks_total"]
    )
    assert labels(client="Primary") in zeros["resilience_breaker_rejected_total"]


def test_a_declared_client_has_series_before_the_first_process(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the `.baml` files and the settings name is there with 0, although no history exists yet."""
    (tmp_path / "baml_src").mkdir()
    source = """client<llm> Primary {
  provider openai
}
client<llm> Other {
  provider openai
}
client<llm> Both {
  provider fallback
  options {
    strategy [Primary, Other]
  }
}
function Ask(x: string) -> string {
  client Both
  prompt #"x"#
}"""
    (tmp_path / "baml_src" / "main.baml").write_text(source)
    (tmp_path / "baml_src" / "large.baml").write_text("x" * 1_000_001)
    monkeypatch.setenv("RESILIENCE_FALLBACK", "Backup")
    metrics = scrape(settings)

    assert {("Primary", "Ask"), ("Other", "Ask"), ("Backup", "Ask")} == {
        (dict(key)["client"], dict(key)["function"]) for key in metrics["resilience_errors_total"].values()
    }
    assert {("Primary", "Other"), ("Other", "Backup")} == {
        (dict(key)["from_client"], dict(key)["to_client"])
        for key in metrics["resilience_fallbacks_total"].values()
    }
    assert not (tmp_path / "circuits.db").exists()


def test_pruning_takes_nothing_from_a_counter(settings: Settings) -> None:
    """Every counter and histogram has the same value after retention has deleted all rows as before."""
    old = datetime.now(UTC) - timedelta(days=500)
    record(
        settings,
        call(started_at=old, input_tokens=7),
        error(occurred_at=old),
        error(occurred_at=old, category=ErrorCategory.CIRCUIT_OPEN),
        fallback(occurred_at=old),
        transition(1, occurred_at=old),
        transition(2, occurred_at=old, from_state="open", to_state="closed"),
    )
    before = scrape(settings)
    deleted = admin.prune(settings.database_url or "", Retention())
    after = scrape(settings)

    assert {"calls", "errors", "fallbacks", "breaker_events"} <= {
        table for table, count in deleted.items() if count
    }
    assert {name: metric.samples for name, metric in before.items()} == {
        name: metric.samples for name, metric in after.items()
    }
    assert 1 == sum(after["resilience_calls_total"].values().values())


def test_each_live_process_has_its_queue_depth(settings: Settings) -> None:
    """Queue and drops are shown for each process with a recent heartbeat, under the id that its records have."""
    recorders = [Recorder(settings.database_url), Recorder(settings.database_url)]
    for recorder in recorders:
        recorder.record(call())
        assert recorder.flush(60.0)
    metrics = scrape(settings, timedelta())
    for recorder in recorders:
        recorder.close()

    assert [0, 0] == list(metrics["resilience_history_queue_depth"].values().values())
    assert [0, 0] == list(metrics["resilience_history_dropped_total"].values().values())
    assert [0, 0] == list(metrics["resilience_degraded"].values().values())
    assert ["service_instance_id"] == sorted(
        {name for key in metrics["resilience_history_queue_depth"].values() for name, _ in key}
    )


def test_counters_of_a_new_process_begin_at_zero(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage, a series for each kind, and dropped records are 0 while the process is new, and counted afterwards."""
    monkeypatch.setattr(
        damage_counts, "counts", Counter({damage_counts.CIRCUIT: 2, damage_counts.LOG_LINE: 1})
    )
    recorder = Recorder(settings.database_url)
    recorder._writer.drops.add(3)
    recorder.record(call())
    assert recorder.flush(60.0)
    new, old = (scrape(settings, later) for later in (timedelta(), timedelta(seconds=90)))
    recorder.close()

    def damaged(metrics: dict[str, ParsedMetric]) -> dict[str, float]:
        counts = metrics["resilience_damaged_total"].values()
        return {dict(key)["kind"]: value for key, value in counts.items()}

    assert {"circuit": 0, "transition": 0, "log_line": 0} == damaged(new)
    assert {"circuit": 2, "transition": 0, "log_line": 1} == damaged(old)
    assert [[0], [3]] == [
        list(metrics["resilience_history_dropped_total"].values().values()) for metrics in (new, old)
    ]


# --- the circuits -------------------------------------------------------------------------------------------------------


@pytest.fixture
def breaker(settings: Settings) -> Iterator[Breaker]:
    store = open_store(settings.store_url or "", namespace=settings.namespace)
    breaker = Breaker(store, BreakerPolicy())
    yield breaker
    breaker.close()


async def test_circuits_are_read_from_their_store(settings: Settings, breaker: Breaker) -> None:
    """Each state of each circuit is a series, exactly one of them 1; a scrape changes nothing."""
    view = await breaker.operate("Primary", "open", actor="ada", reason="maintenance")
    await breaker.operate("Secondary", "reset", actor="ada")

    metrics = await asyncio.to_thread(scrape, settings)
    states = metrics["resilience_breaker_state"].values()

    assert {("Primary", "forced_open"), ("Secondary", "closed")} == {
        (dict(key)["client"], dict(key)["state"]) for key, value in states.items() if value
    }
    assert 2 * len(CircuitState) == len(states)
    assert view.epoch == (await breaker.peek(["Primary"]))["Primary"].epoch


# --- failures ------------------------------------------------------------------------------------------------------------


def test_a_source_that_cannot_be_read_does_not_hide_the_other(settings: Settings, tmp_path: Path) -> None:
    """A history that is no database costs its own metrics alone; the text and the reading both say so."""
    (tmp_path / "history.db").write_text(
        "no database at all, but long enough to look like a file of one" * 20
    )

    reading = Exposition(settings).read()

    assert {labels(source="history"): 0, labels(source="circuits"): 1} == parse(reading.text)[
        "resilience_source_up"
    ].values()
    assert 1 == len(reading.troubles)
    assert reading.troubles[0].startswith("history: ")


def test_a_history_that_no_process_has_made_yet_is_not_down(settings: Settings, tmp_path: Path) -> None:
    """Before the first process the source is up, although the reading names the place. A history that vanished is down."""
    exposition = Exposition(settings)
    before = exposition.read()
    record(settings, call())
    exposition.read()
    (tmp_path / "history.db").unlink()
    gone = exposition.read()

    history = labels(source="history")
    assert [1, 0] == [
        parse(reading.text)["resilience_source_up"].values()[history] for reading in (before, gone)
    ]
    assert before.troubles[0].startswith("history: there is no history at")


def test_without_history_the_circuits_are_shown(tmp_path: Path) -> None:
    """Privacy `off` keeps no history, which is no failure of a source."""
    settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db", privacy="off")
    reading = Exposition(settings).read()

    assert () == reading.troubles
    assert ["resilience_source_up"] == list(parse(reading.text))


# --- printed, served, mounted -------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_text(settings: Settings) -> None:
    """Standard output is the text alone; sources that cannot be read are named on stderr."""
    before = CliRunner().invoke(app, ["metrics"])
    record(settings, call())
    after = CliRunner().invoke(app, ["metrics"])

    assert (0, 0) == (before.exit_code, after.exit_code)
    assert "resilience: history: there is no history at" in before.stderr
    assert "" == after.stderr
    assert "resilience_calls_total" in parse(after.stdout)


@pytest.mark.parametrize("address", ["nonsense", "host:", "host:99999", "host:-1"])
def test_a_malformed_address_is_explained(settings: Settings, address: str) -> None:
    """A malformed address is answered with the right form and the exit code of bad use."""
    result = CliRunner().invoke(app, ["metrics", "--serve", address])

    assert 2 == result.exit_code
    assert "give PORT or HOST:PORT" in result.stderr


def test_a_port_that_is_taken_is_explained(settings: Settings) -> None:
    """A port that another process uses is bad use, explained in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["metrics", "--serve", str(port)])

    assert 2 == result.exit_code
    assert f"127.0.0.1:{port} cannot be served" in result.stderr


class Served:
    """`resilience metrics --serve 0` in a child process, ended by a signal.

    Args:
        end: the signal.
    """

    def __init__(self, end: signal.Signals = signal.SIGINT) -> None:
        self.end = end

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
        self.process.send_signal(self.end)
        self.out, self.err = self.process.communicate(timeout=250)


def get(port: int, path: str, accept: str = "*/*", method: str = "GET") -> tuple[int, str | None, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, headers={"Accept": accept})
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()


def test_it_serves_on_loopback_until_interrupted(settings: Settings) -> None:
    """It prints its address, answers /metrics alone, in the format the scraper accepts, and ends silently at Ctrl-C."""
    record(settings, call())

    with Served() as running:
        status, content_type, body = get(running.port, "/metrics?name=x")
        _, openmetrics, _ = get(running.port, "/metrics", "application/openmetrics-text;version=1.0.0")
        refused, *_ = get(running.port, "/other")

    assert f"http://127.0.0.1:{running.port}/metrics" == running.url
    assert (200, 404) == (status, refused)
    assert "text/plain; version=0.0.4; charset=utf-8" == content_type
    assert (openmetrics or "").startswith("application/openmetrics-text; version=1.0.0")
    assert "resilience_calls_total" in parse(body)
    assert (0, "") == (running.process.returncode, running.err)


def test_it_ends_at_sigterm_and_answers_probes(settings: Settings) -> None:
    """A container's stop ends it with exit code 0. /healthz answers, and HEAD has no body."""
    record(settings, call())

    with Served(signal.SIGTERM) as running:
        health = get(running.port, "/healthz")
        head = get(running.port, "/metrics", method="HEAD")

    assert (200, "ok\n") == (health[0], health[2])
    assert (200, "") == (head[0], head[2])
    assert (0, "") == (running.process.returncode, running.err)


def ask(place: object, *lines: str) -> str:
    """Return the answer to a request, sent as it is."""
    family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(60)
        connection.connect(place)  # type: ignore[arg-type]  # an address of either family
        connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts).decode()


@pytest.fixture
def served() -> Iterator[Callable[..., Any]]:
    """Start servers of metrics in this process."""
    with ExitStack() as stack:

        def start(place: Any = ("127.0.0.1", 0), **access: Any) -> Any:
            server = stack.enter_context(
                metrics_server.open_server(place, lambda _: (b"numbers", "text/plain"), Access(**access))
            )
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server.server_address

        yield start


HOSTS = [
    ("127.0.0.1:9464", "200"),
    ("localhost:9464", "200"),
    ("[::1]:9464", "200"),
    ("10.1.2.3", "200"),
    ("metrics.internal:9464", "200"),
    ("evil.example", "421"),
    ("evil.example:9464", "421"),
    ("localhost.evil.example", "421"),
    ("127.0.0.1.evil.example", "421"),
    ("", "421"),
]


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_only_known_hosts_are_answered(served: Callable[..., Any], host: str, status: str) -> None:
    """A page whose name leads to 127.0.0.1 reads nothing: addresses, localhost and names that were allowed are answered."""
    place = served(hosts={"metrics.internal"})

    assert f" {status} " in ask(place, "GET /metrics HTTP/1.1", f"Host: {host}").splitlines()[0]


def test_a_token_is_asked_for(served: Callable[..., Any]) -> None:
    """With a token only its bearer is answered; probes need none."""
    place, request = served(token="t" * 32), ("GET /metrics HTTP/1.1", "Host: localhost")

    assert " 401 " in ask(place, *request)
    assert " 401 " in ask(place, *request, "Authorization: Bearer wrong")
    assert ask(place, *request, f"Authorization: Bearer {'t' * 32}").endswith("numbers")
    assert ask(place, "GET /healthz HTTP/1.1").endswith("ok\n")


def test_a_socket_file_is_for_its_owner(served: Callable[..., Any], tmp_path: Path) -> None:
    """`unix:PATH` makes a socket of mode 0600, in the place of one that a killed server left."""
    path = tmp_path / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    served(path, any_host=True)

    assert 0o600 == path.stat().st_mode & 0o777
    assert ask(str(path), "GET /metrics HTTP/1.1").endswith("numbers")


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    """A file in the place of the socket is not removed."""
    path = tmp_path / "precious"
    path.write_text("x")

    with pytest.raises(OSError, match="in use"):
        metrics_server.open_server(path, lambda _: (b"", ""), Access())
    assert "x" == path.read_text()


def test_connections_are_bounded_in_number_and_in_time(
    served: Callable[..., Any], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-sent requests take no more threads than the limit and are ended; the next one is answered; no traceback is printed."""
    monkeypatch.setattr(metrics_server, "_MAX_CONNECTIONS", 2)
    monkeypatch.setattr(metrics_server, "_TIMEOUT", 0.2)
    place = served()
    before = threading.active_count()
    slow = [socket.create_connection(place, timeout=60) for _ in range(8)]
    for connection in slow:
        with suppress(OSError):
            connection.sendall(b"GET /metr")
    ends = [_end_of(connection) for connection in slow]
    running = threading.active_count() - before

    assert running <= 2
    assert 6 == sum(" 503 " in end for end in ends)
    assert eventually(lambda: "numbers" in ask(place, "GET /metrics HTTP/1.1", "Host: localhost"), within=60)
    assert ("", "") == tuple(capfd.readouterr())


def _end_of(connection: socket.socket) -> str:
    """Return what a connection received until its other side ended it."""
    with connection, suppress(OSError):
        return connection.recv(1000).decode()
    return ""


@pytest.mark.parametrize(
    ("token", "mode"), [("short", 0o600), ("t" * 32, 0o644), (None, 0o600)], ids=["short", "readable", "none"]
)
def test_a_token_file_that_is_no_secret_is_refused(
    settings: Settings, tmp_path: Path, token: str | None, mode: int
) -> None:
    """A short token, a file that others can read, or none: the exit code is that of bad use, with the remedy."""
    file = tmp_path / "token"
    if token is not None:
        file.write_text(token)
        file.chmod(mode)
    result = CliRunner().invoke(app, ["metrics", "--serve", "0", "--token-file", str(file)])

    assert 2 == result.exit_code
    assert "--token-file" in result.stderr


async def test_it_is_an_asgi_application(settings: Settings) -> None:
    """Mounted in a web application it answers requests in the accepted format, HEAD without a body, and its lifespan."""
    record(settings, call())
    sent: list[dict[str, Any]] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return next(messages)

    application = Exposition(settings)
    for scope in (
        {"type": "http", "method": "GET", "headers": [(b"host", b"test")]},
        {"type": "http", "method": "HEAD", "headers": []},
        {"type": "http", "method": "GET", "headers": [(b"accept", b"application/openmetrics-text")]},
        {"type": "lifespan"},
    ):
        await application(scope, receive, send)
    start, body, head_start, head_body, open_start, open_body, up, down = sent

    assert (200, 200) == (start["status"], head_start["status"])
    assert "resilience_calls_total" in parse(body["body"].decode())
    assert str(len(body["body"])).encode() == dict(start["headers"])[b"content-length"]
    assert b"" == head_body["body"]
    assert dict(open_start["headers"])[b"content-type"].startswith(b"application/openmetrics-text")
    assert open_body["body"].endswith(b"# EOF\n")
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == [up["type"], down["type"]]


def test_a_missing_library_is_explained(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without prometheus-client the command names the extra to install, and exits as bad use."""
    monkeypatch.delitem(sys.modules, "resilience.prometheus.encoding", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.setitem(sys.modules, name, None)
    result = CliRunner().invoke(app, ["metrics"])

    assert 2 == result.exit_code
    assert "pip install 'baml-resilience[prometheus]'" in result.stderr


@pytest.mark.parametrize("place", ["0.0.0.0:0", "[::]:0", "192.0.2.1:9464", "metrics.internal:9464"])
def test_other_machines_need_a_token(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """An address that other machines reach is refused without a token, with the remedies; loopback and an explicit word are not."""
    served: list[Any] = []
    module = importlib.import_module("resilience.cli.metrics")  # the package has the command by that name
    monkeypatch.setattr(module, "_serve", lambda *arguments: served.append(arguments))
    file = tmp_path / "token"
    file.write_text("t" * 32)
    file.chmod(0o600)
    token, word = ["--token-file", str(file)], ["--no-token"]

    def invoke(place: str, *more: str) -> Any:
        return CliRunner().invoke(app, ["metrics", "--serve", place, *more])

    refused = invoke(place)
    assert 2 == refused.exit_code
    assert "--token-file FILE" in refused.stderr
    assert "--no-token" in refused.stderr
    assert 2 == invoke(place, *token, *word).exit_code
    assert not served
    assert [0] * 4 == [
        invoke(*words).exit_code
        for words in ((place, *token), (place, *word), ("localhost:0",), ("[::1]:0",))
    ]
    assert ["t" * 32, None, None, None] == [access.token for _, _, access in served]
