"""`resilience simulate` in a process of its own, until a signal."""

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
from typer.testing import CliRunner

from resilience.cli import app
from resilience.testing import ProviderSimulator

COMMAND = (sys.executable, "-c", "from resilience.cli import app; app()", "simulate")
VARIABLES = 6  # base URL, key and model of two clients


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
        assert process.stderr.readline() == "resilience: simulating until Ctrl-C\n"
        lines = [process.stdout.readline() for _ in range(VARIABLES)]
        yield process, dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
    finally:
        process.kill()
        process.communicate()


def ask(url: str) -> tuple[int, str]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=60)
    connection.request("POST", f"{parts.path}/chat/completions", "{}")
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_a_signal_and_prints_a_summary(end: signal.Signals) -> None:
    """It prints the environment of the named clients, runs the outage, and ends with the requests of each client; exit code 0.

    Good answers have the text that was asked for. The columns of the summary fit the longest name.
    """
    options = ("--clients", "Main, ASpareOfALongName", "--outage", "Main:0-600:503", "--latency", "0.01")
    with simulating(*options, "--answer", "mine") as (process, environment):
        names = ("MAIN", "MAIN", "ASPAREOFALONGNAME")
        answers = [ask(environment[f"{name}_BASE_URL"]) for name in names]
        process.send_signal(end)
        summary, trouble = process.communicate(timeout=250)

    assert [status for status, _ in answers] == [503, 503, 200]
    assert '"mine"' in answers[2][1]
    assert set(environment) == {
        f"{name}_{what}" for name in names for what in ("BASE_URL", "API_KEY", "MODEL")
    }
    assert [line.split() for line in summary.splitlines()[2:]] == [
        ["Main", "2", "2", "x", "503"],
        ["ASpareOfALongName", "1", "1", "x", "200"],
    ]
    assert 1 == len({line.index(" x ") for line in summary.splitlines()[2:]})
    assert (process.returncode, trouble) == (0, "")


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
    """An invalid argument is explained, with the exit code of bad use."""
    done = CliRunner().invoke(app, ["simulate", *options], env={"TERMINAL_WIDTH": "200"})

    assert done.exit_code == 2
    assert said in done.stderr


def test_a_taken_port_is_explained(provider_simulator: ProviderSimulator) -> None:
    """A port in use ends with a line that names the option, and exit code 1."""
    port = urlsplit(provider_simulator.url("Primary")).port

    done = CliRunner().invoke(app, ["simulate", "--port", str(port)])

    assert done.exit_code == 1
    assert done.stderr.startswith(f"resilience: cannot listen on 127.0.0.1:{port}")
    assert "--port" in done.stderr


def test_the_handler_of_sigterm_is_restored() -> None:
    """The previous handler of SIGTERM is installed again afterwards."""
    before = signal.getsignal(signal.SIGTERM)

    CliRunner().invoke(app, ["simulate", "--clients", ""])

    assert signal.getsignal(signal.SIGTERM) is before
