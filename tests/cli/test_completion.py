"""What the shell completes besides commands: names of clients, functions, namespaces and categories."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import typer
from support.history_records import call
from typer.testing import CliRunner

from resilience.breaker import Operation, open_store
from resilience.breaker.messages import Order, StepRequest
from resilience.cli import app, completion
from resilience.history import Recorder

HOSTILE = ("$(touch owned)", "--yes", "a\nb", "`id`", "x;y")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with circuits of two namespaces, and a history with clients of its own."""
    folder = tmp_path_factory.mktemp("place")
    for namespace, client in (("resilience", "Primary"), ("blue", "Indigo")):
        store = open_store(f"sqlite:///{folder}/circuits.db", namespace=namespace)
        store.step([StepRequest(client=client, order=Order(operation=Operation.OPEN, actor="ann"))])
        store.close()
    recorder = Recorder(f"sqlite:///{folder}/resilience.db")
    for client in ("Primary", "Privat-Zürich", *HOSTILE):
        recorder.record(call(client=client, client_final=client))
    assert recorder.flush(60)
    recorder.close()
    return folder


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A completion waits for its names, however busy the machine is."""
    monkeypatch.setattr(completion, "LIMIT", 300.0)
    before = _variables()
    yield
    assert before == _variables()


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RESILIENCE_")}


def complete(line: str) -> list[str]:
    """Return what bash is offered for the last word of *line*, which may be empty."""
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    done = CliRunner().invoke(
        app,
        [],
        prog_name="resilience",
        env={
            "_RESILIENCE_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
    )
    assert (0, "") == (done.exit_code, done.stderr), done.output
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("circuit open ", ["Primary", "Privat-Zürich"]),
        ("circuit close Privat", ["Privat-Zürich"]),
        ("--namespace blue circuit forget ", ["Indigo"]),
        ("circuit open --namespace blue ", ["Indigo"]),
        ("calls --client Prim", ["Primary"]),
        ("calls --answered-by Priv", ["Privat-Zürich"]),
        ("errors --client Prim", ["Primary"]),
        ("errors top --function ", ["GenerateHypothesis"]),
        ("errors --category rate", ["rate_limit"]),
        ("status --namespace ", ["blue", "resilience"]),
        ("errors --catego", ["--category"]),
        ("errors ti", ["timeline"]),
    ],
)
def test_names_are_completed(place: Path, line: str, offered: list[str]) -> None:
    """Clients come from the store and the history of the place, and a name that a shell would run or a command take for an option is left out."""
    assert offered == complete(f"resilience --at {place} {line}")


def test_a_completion_leaves_no_trace(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a store or history stays empty, and reading a place adds no file to it."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("RESILIENCE_"):
            monkeypatch.delenv(name)
    before = sorted(place.iterdir())

    assert [] == complete("resilience circuit open ")
    assert [] == list(tmp_path.iterdir())
    complete(f"resilience --at {place} circuit open ")
    assert before == sorted(place.iterdir())


@pytest.mark.parametrize("at", ["/nowhere", "redis://localhost:1/0", "postgresql://localhost:1/none", "a://"])
def test_a_place_that_cannot_be_read_offers_nothing(at: str, tmp_path: Path) -> None:
    """A folder that does not exist, a server that is away and a URL that means nothing: no names and no message."""
    assert [] == complete(f"resilience --at {at} status --namespace ")


def test_a_completion_does_not_wait_for_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that does not answer within the limit costs its names and no more."""
    answer, before = threading.Event(), set(threading.enumerate())

    def silent(_: object) -> list[str]:
        answer.wait(60)
        return ["late"]

    monkeypatch.setattr(completion, "LIMIT", 0.0)
    offered = completion._matching(cast("typer.Context", SimpleNamespace(meta={})), "", silent)
    answer.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)

    assert [] == offered
