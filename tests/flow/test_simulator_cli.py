"""`resilience simulate` as a user runs it: in a process, until a signal."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

COMMAND = (sys.executable, "-c", "from resilience.cli import app; app()", "simulate")


@contextmanager
def simulating(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    process = subprocess.Popen(
        [*COMMAND, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stderr.readline() == "simulating until Ctrl-C\n"
        lines = [process.stdout.readline() for _ in range(3 * (2 if "--clients" in options else 3))]
        yield process, dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
    finally:
        process.kill()
        process.communicate()


def ask(url: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=10)
    connection.request("POST", f"{parts.path}/chat/completions", "{}")
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_a_signal_and_sums_up(end: signal.Signals) -> None:
    """It prints the environment, plays the outage, and at the end says who was asked what; exit code 0."""
    with simulating("--outage", "Primary:0-600:503", "--latency", "0.01") as (process, environment):
        statuses = [ask(environment[f"{name}_BASE_URL"]) for name in ("PRIMARY", "PRIMARY", "SECONDARY")]
        process.send_signal(end)
        summary, trouble = process.communicate(timeout=20)

    assert statuses == [503, 503, 200]
    assert environment["TERTIARY_MODEL"] == "simulated-tertiary"
    assert [line.split() for line in summary.splitlines()[2:]] == [
        ["Primary", "2", "2", "x", "503"],
        ["Secondary", "1", "1", "x", "200"],
        ["Tertiary", "0", "none"],
    ]
    assert (process.returncode, trouble) == (0, "")


def test_clients_can_be_named() -> None:
    """Only the named clients are there."""
    with simulating("--clients", "Main, Spare") as (_, environment):
        assert set(environment) == {
            f"{name}_{what}" for name in ("MAIN", "SPARE") for what in ("BASE_URL", "API_KEY", "MODEL")
        }
        assert ask(environment["SPARE_BASE_URL"]) == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--outage", "Primary:503"], "is no outage"),
        (["--outage", "Nobody:1-2:503"], "no client 'Nobody'"),
        (["--outage", "Primary:3-2:503"], "outage.end=2.0"),
        (["--clients", ""], "at least one name"),
        (["--latency", "-1"], "--latency"),
    ],
)
def test_bad_use_is_explained(options: list[str], said: str) -> None:
    """What cannot be simulated is said in words, with the exit code of bad use and no traceback."""
    done = subprocess.run(
        [*COMMAND, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TERMINAL_WIDTH": "200"},
    )

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_explained() -> None:
    """A port in use ends with a line that names the option, and exit code 1."""
    with simulating("--port", "0") as (_, environment):
        port = urlsplit(environment["PRIMARY_BASE_URL"]).port
        done = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
