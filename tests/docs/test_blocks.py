"""Every fenced block of the pages works: Python is executed, SQL queried, commands parsed, settings read."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support.pages import PAGES, ROOT, Block, blocks
from typer.testing import CliRunner

from resilience import BAMLErrorHandler, BreakerPolicy, FallbackPolicy, RetryPolicy, protect
from resilience.cli import app
from resilience.config.settings import POLICIES, Settings
from resilience.config.sources import PREFIX
from resilience.history import SyncHistory
from resilience.testing import ScriptedBAML

LANGUAGES = {"python", "sql", "sh", "toml", "text", "mermaid"}
FUNCTIONS = ("ExtractResume", "ClassifyTicket", "CheckSafety", "GenerateHypothesis")
"""The functions that the pages call on the generated client `b`."""
FOREIGN = frozenset(["baml-cli", "uvicorn", "git", "jq", "psql", "redis-cli", "sqlite3", "zcat"])
"""Programs of others, whose options are not checked."""


def by_place(block: Block) -> str:
    return block.place


def find(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page, *languages)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_its_language(page: Path) -> None:
    """Each block has a language that a test knows how to check."""
    assert [] == [block.place for block in blocks(page) if block.language not in LANGUAGES]


# --- Python ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def _generated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `baml_client` whose functions answer at once."""
    package, module = types.ModuleType("baml_client"), types.ModuleType("baml_client.async_client")
    client = ScriptedBAML(**dict.fromkeys(FUNCTIONS, "answer"))
    vars(module)["b"] = vars(package)["b"] = client
    monkeypatch.setitem(sys.modules, "baml_client", package)
    monkeypatch.setitem(sys.modules, "baml_client.async_client", module)


@pytest.mark.usefixtures("_generated")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "python")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
async def test_python_runs(page: Path) -> None:
    """The Python blocks of a page run in their order, each seeing the names of the ones above."""
    names: dict[str, Any] = {"__name__": "page", "text": "a text", "headers": {}}
    try:
        for block in blocks(page, "python"):
            if block.unrun:
                check_imports(block)
            else:
                await execute(block, names)
    finally:
        for value in list(names.values()):
            handler = getattr(value, "resilience_handler", value)
            handler = getattr(handler, "error_handler", handler)
            if isinstance(handler, BAMLErrorHandler):
                await handler.aclose()


async def execute(block: Block, names: dict[str, Any]) -> None:
    code = compile(block.text, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)  # noqa: S307 - the pages are ours
    if inspect.iscoroutine(result):
        await result


def check_imports(block: Block) -> None:
    """Compile a block that needs what is not installed, and resolve what it imports from this package."""
    tree = compile(block.text, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resilience"):
            module = importlib.import_module(node.module or "")
            assert [] == [alias.name for alias in node.names if not hasattr(module, alias.name)], block.place


# --- SQL ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def history_url(tmp_path: Path) -> str:
    """A history with a retry, fallbacks, a failed call and an outage."""
    url = f"sqlite:///{tmp_path / 'filled.db'}"
    handler = BAMLErrorHandler(
        retry=RetryPolicy(initial_delay=0.0, max_delay=0.0),
        breaker=BreakerPolicy(consecutive_failures=3),
        fallback=FallbackPolicy(clients=("Secondary",)),
        settings=Settings(database_url=url, store_url="memory://", exit_timeout=60.0),
    )
    script = [ConnectionError(), "answer", TimeoutError(), "answer", *[ConnectionError()] * 6]
    client = protect(ScriptedBAML(ExtractResume=script), handler)
    await client.ExtractResume()
    await client.ExtractResume()
    with pytest.raises(Exception):  # noqa: B017, PT011 - any failure will do: it becomes rows
        await client.ExtractResume()
    await handler.aclose()
    return url


async def test_sql_runs(history_url: str) -> None:
    """Each statement of each SQL block is accepted by a filled history, read-only."""
    history = SyncHistory(history_url)
    assert history.sql("SELECT * FROM errors").rows
    for block in find("sql"):
        if block.unrun:
            continue
        for statement in re.sub(r"--.*", "", block.text).split(";"):
            if statement.strip():
                history.sql(statement)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", find("toml"), ids=by_place)
def test_toml_is_read(block: Block, tmp_path: Path) -> None:
    """Each TOML block sets only what exists, to values that are allowed."""
    if block.unrun:
        tomllib.loads(block.text)
        return
    name = "pyproject.toml" if "[tool.resilience" in block.text else "resilience.toml"
    (tmp_path / name).write_text(block.text)

    shown = CliRunner().invoke(app, ["config", "show"])
    assert 0 == shown.exit_code, shown.output


# --- commands -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", find("sh"), ids=by_place)
def test_commands_exist(block: Block) -> None:
    """Each command of ours in an sh block is accepted with its options; variables, extras, modules and files exist."""
    if block.unrun:
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        for words in simple_commands(line):
            check_command(words)


def simple_commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of *line*."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word and set(word) <= set("|&;"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def check_command(words: list[str]) -> None:
    while words and (assignment := re.fullmatch(r"(\w+)=.*", words[0], re.DOTALL)):
        check_variable(assignment[1])
        words = words[1:]
    if not words:
        return
    program, *rest = words
    known = {
        "export": check_export,
        "uv": check_uv,
        "uvx": check_uvx,
        "pip": check_pip,
        "pytest": check_pytest,
    }
    if program in {"resilience", "baml-resilience"}:
        check_resilience(rest)
    elif program == "python" and rest[:1] == ["-m"]:
        check_module(rest[1:])
    elif program in known:
        known[program](rest)
    elif "/" in program or (program == "python" and rest[0].endswith(".py")):
        assert (ROOT / (program if "/" in program else rest[0])).exists(), words
    else:
        assert program in FOREIGN | {"ruff", "mypy", "lint-imports", "alembic"}, words


def check_variable(name: str) -> None:
    if name.startswith(PREFIX):
        table, _, field = name.removeprefix(PREFIX).lower().rpartition("__")
        kind: Any = POLICIES[table.upper()] if table else Settings
        assert field in kind.__dataclass_fields__ or name == f"{PREFIX}FALLBACK", name


def check_export(words: list[str]) -> None:
    for word in words:
        check_variable(word.partition("=")[0])


def check_uv(words: list[str]) -> None:
    action, *rest = words
    if action == "run":
        while rest[0].startswith("--"):
            rest = rest[2:]
        check_command(rest)
    elif action in {"add", "pip"}:
        check_requirements(rest)
    else:
        assert action in {"build", "sync", "lock", "publish", "tool", "venv"}, words


def check_uvx(words: list[str]) -> None:
    check_command(words)


def check_pip(words: list[str]) -> None:
    assert words[0] == "install"
    check_requirements(words[1:])


def check_requirements(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words:
        requirement = re.fullmatch(r"([\w-]+)(?:\[([\w,-]+)\])?", word)
        if requirement and requirement[1] == "baml-resilience":
            extras = set((requirement[2] or "").split(",")) - {""}
            assert project["name"] == "baml-resilience"
            assert extras <= set(project["optional-dependencies"]), word
        else:
            assert word in {"uv", "install", "add"} or word.startswith("-"), (
                f"{word} is somebody else's package"
            )


def check_pytest(words: list[str]) -> None:
    for word in words:
        if "/" in word:
            assert (ROOT / word.partition("::")[0]).exists(), word


def check_module(words: list[str]) -> None:
    module, *options = words
    source = ROOT / f"{module.replace('.', '/')}.py"
    if module == "pytest":
        check_pytest(options)
        return
    assert source.exists(), module
    text = source.read_text()
    assert [] == [name for name in options if name.startswith("--") and f'"{name}"' not in text]


def check_resilience(words: list[str]) -> None:
    """Parse the command line with commands that do nothing."""
    command = typer.main.get_command(app)
    pending: list[Any] = [command]
    while pending:
        each = pending.pop()
        each.callback = None
        pending += getattr(each, "commands", {}).values()
    command.main(words, prog_name="resilience", standalone_mode=False)
