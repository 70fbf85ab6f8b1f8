"""The examples for web servers and workers, run by the real uvicorn, gunicorn and Celery through an outage of a provider."""

from __future__ import annotations

import http.client
import importlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.pages import ROOT
from support.valkey_servers import Valkey

from resilience.testing import Answer, Hang, ProviderSimulator, Status

EXAMPLES = ROOT / "examples"
LIMIT = 240.0
"""Seconds until a server or an answer that does not come is an error. Nothing waits that long."""


class Deployment:
    """A folder with a history and circuits, a provider, and the environment of the processes that use them."""

    def __init__(self, folder: Path, simulator: ProviderSimulator, **variables: str) -> None:
        self.folder = folder
        self.simulator = simulator
        self._environment = {
            **os.environ,
            **simulator.environment(),
            "PYTHONPATH": os.pathsep.join([str(EXAMPLES), *sys.path]),
            "HOME": str(folder),  # gunicorn has a socket there
            "RESILIENCE_STORE_URL": f"sqlite:///{folder}/circuits.db",
            "RESILIENCE_DATABASE_URL": f"sqlite:///{folder}/history.db",
            **variables,
        }

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a module with its arguments until the block has ended it by SIGTERM."""
        with (self.folder / "log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process
                # uvicorn ends itself by the signal, after its lifespan.
                assert process.wait(LIMIT) in {0, -signal.SIGTERM}, self.output()
            except BaseException:
                sys.stderr.write(self.output())
                raise
            finally:
                process.kill()
                process.wait()

    def output(self) -> str:
        return (self.folder / "log").read_text()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "history.db")) as connection:
            return connection.execute(query).fetchall()


def until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def request(port: int, method: str, path: str, name: str = "") -> int | None:
    """Return the status of an answer; None if the server does not listen yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request(method, path, headers={"X-Request-ID": name} if name else {})
        return connection.getresponse().status
    except ConnectionError:
        return None
    finally:
        connection.close()


@pytest.mark.usefixtures("baml_client_path")
def test_web_applications_answer_through_an_outage_and_lose_no_row(tmp_path: Path) -> None:
    """uvicorn, and gunicorn with preloading and recycling: every request is answered, one in flight at SIGTERM too, and each has its row."""
    servers = ("uvicorn", "gunicorn")
    with ThreadPoolExecutor(2) as pool:  # beside each other: most of the time they wait
        for play in [pool.submit(play_outage, server, tmp_path / server) for server in servers]:
            play.result()


def play_outage(server: str, folder: Path) -> None:
    """Run the web application through an outage, end it while a call is in flight, and compare rows with answers."""
    port = free_port()
    folder.mkdir()
    command = {
        "uvicorn": ["uvicorn", "fastapi_app:app", "--port", str(port)],
        "gunicorn": ["gunicorn", "-c", str(EXAMPLES / "gunicorn.conf.py")],
    }[server]
    with ProviderSimulator.in_thread() as simulator, ThreadPoolExecutor(4) as callers:
        deployment = Deployment(
            folder,
            simulator,
            GUNICORN_CMD_ARGS=f"--bind 127.0.0.1:{port} --max-requests 4 --max-requests-jitter 0",
        )

        def ask(name: str) -> int | None:
            return request(port, "POST", "/goals?goal=drift", name)

        with deployment.running(*command) as process:
            until(lambda: request(port, "GET", "/livez") == 200, process)
            assert {200} == set(callers.map(ask, ["before-1", "before-2"]))
            simulator.client("Primary").set(Status(503))
            assert {200} == set(callers.map(ask, [f"outage-{n}" for n in range(10)]))
            if server == "gunicorn":
                # Which worker answers which request is the kernel's choice: perhaps one of them has answered all.
                until(lambda: deployment.output().count("Booting worker") > 2, process)
            assert 200 == request(port, "GET", "/readyz")
            for client in ("Primary", "Secondary"):
                simulator.client(client).set(Answer(delay=1.0))
            last = callers.submit(ask, "in-flight")
            until(lambda: simulator.in_flight or last.done(), process)
            process.terminate()
            assert 200 == last.result(LIMIT)

    answered = "outcome IN ('ok', 'recovered_fallback', 'recovered_retry')"
    counts = f"COUNT(*), COUNT(DISTINCT request_id), SUM({answered}), COUNT(DISTINCT instance_id)"
    ((calls, requests, good, processes),) = deployment.rows(f"SELECT {counts} FROM calls")  # noqa: S608 - ours
    assert (13, 13, 13) == (calls, requests, good)
    assert processes >= 2 if server == "gunicorn" else processes == 1
    assert deployment.rows("SELECT 1 FROM calls WHERE fallbacks > 0")


def test_celery_workers_answer_through_an_outage_and_lose_no_row(
    baml_client_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prefork pool: tasks are answered, a soft time limit ends the wait for a silent client and counts as no failure, and SIGTERM loses no row."""
    (tmp_path / "results").mkdir()
    with Valkey() as valkey, ProviderSimulator.in_thread() as simulator:
        queue = {
            "CELERY_BROKER_URL": valkey.url.replace("unix://", "redis+socket://"),
            "CELERY_RESULT_BACKEND": f"file://{tmp_path}/results",
        }
        for name, value in queue.items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(EXAMPLES)
        parse_goal = importlib.import_module("celery_app").parse_goal
        deployment = Deployment(tmp_path, simulator, RESILIENCE_REDIS_URL=valkey.url, **queue)
        options = ("--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat")
        simulator.client("Primary").script([Status(503)] * 3)

        def answers(tasks: list[Any]) -> list[Any]:
            return [task.get(timeout=LIMIT, interval=0.05) for task in tasks]

        with deployment.running("celery", "-A", "celery_app", "worker", *options) as process:
            whole = answers([parse_goal.delay(f"goal {number}") for number in range(8)])
            simulator.client("Primary").script([Hang()])
            stopped = answers([parse_goal.apply_async(["a silent client"], soft_time_limit=2)])
            late = [parse_goal.delay(f"goal {number}") for number in range(8)]
            process.terminate()
            process.wait(LIMIT)
        whole += answers([task for task in late if task.ready()])

    assert all("goal" in answer for answer in whole)
    assert [{"stopped": "a silent client"}] == stopped
    outcomes = dict(deployment.rows("SELECT outcome, COUNT(*) FROM calls GROUP BY 1"))
    assert 1 == outcomes.pop("cancelled")
    assert len(whole) == sum(outcomes.values())
    assert set(outcomes) <= {"ok", "recovered_fallback", "recovered_retry"}
    assert [("overloaded", 503)] == deployment.rows("SELECT DISTINCT category, status FROM errors")
