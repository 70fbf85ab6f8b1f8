"""Sources of this repository as tests about their words and sizes see them. Each file is parsed once."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NESTED = ("body", "orelse", "finalbody", "handlers", "cases")
"""The fields of a statement that hold further statements."""


@dataclass(frozen=True)
class Function:
    """A function or method: its lines of code without the docstring, and whether it has one."""

    name: str
    line: int
    lines: int
    documented: bool


@dataclass(frozen=True)
class Source:
    """The docstrings of a module, each with its line, and its functions."""

    docstrings: tuple[tuple[int, str], ...]
    """Docstrings and attribute docstrings: every string that stands as a statement of its own."""
    functions: tuple[Function, ...]


@functools.cache
def source(path: Path) -> Source:
    """Parse a module. Expressions are not entered: what is looked for are statements."""
    docstrings, functions = [], []
    for node in _statements(ast.parse(path.read_text())):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                docstrings.append((node.lineno, text))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                documented = ast.get_docstring(node) is not None
                body = node.body[documented:]
                length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                functions.append(Function(node.name, node.lineno, length, documented))
    return Source(tuple(docstrings), tuple(functions))


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        yield node
        for field in _NESTED:
            stack.extend(reversed(getattr(node, field, ())))
