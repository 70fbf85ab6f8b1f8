"""The example for notebooks: its cells run in their order in an event loop, as a kernel runs them."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from support.pages import ROOT

from resilience.demo import client

CLIENTS = ("Primary", "Secondary", "Tertiary")

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
GOAL = "Find out what causes the drift ("
SHOWN = {
    "goal.goal": GOAL,
    "len(answers)": "4",
    "[(record.client": "[('Primary', <ErrorCategory.SERVER_ERROR: 'server_error'>, 500), ('Primary', <ErrorCategory.OVERLOADED",
    "stream.client": "('Primary', 0, True)",
    "protect(blocking_b": GOAL,
    "history.sql": "(('ok', 5), ('recovered_fallback', 1), ('recovered_retry', 1))",
}
"""Beginnings of the last lines of cells, and of what the notebook shows below them."""


async def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell. Return the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    parts = [(tree, "exec")] if tree.body else []
    if isinstance(last, ast.Expr):
        parts.append((ast.Expression(last.value), "eval"))  # type: ignore[arg-type]  # a tree of the other kind
    value = None
    for part, mode in parts:
        code = compile(part, str(NOTEBOOK), mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        value = eval(code, names)  # noqa: S307 - the notebook is ours
        if inspect.iscoroutine(value):
            value = await value
    return value


async def test_the_notebook_runs(baml_client_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell runs, also beside the running loop, and shows what the text says: answers through an outage, their errors and rows."""
    monkeypatch.setattr(client, "generate", lambda: baml_client_path)
    for name in (f"{each.upper()}_{part}" for each in CLIENTS for part in ("BASE_URL", "API_KEY", "MODEL")):
        monkeypatch.setenv(name, "set by the notebook, and forgotten after the test")
    notebook = json.loads(NOTEBOOK.read_text())
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert [] == cell["outputs"]
            shown["".join(cell["source"]).splitlines()[-1]] = await run_cell("".join(cell["source"]), names)

    found = {
        begin: next(str(value) for line, value in shown.items() if line.startswith(begin)) for begin in SHOWN
    }
    assert SHOWN == {begin: value[: len(SHOWN[begin])] for begin, value in found.items()}
