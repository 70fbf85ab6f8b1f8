"""What a client was generated from, and where it is found."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from resilience import errors

_STRATEGIES: Final = frozenset({"fallback", "round-robin"})
_CLIENT = re.compile(r"^[ \t]*client\s*<\s*llm\s*>\s*(\w+)\s*\{", re.MULTILINE)
_FUNCTION = re.compile(r"^[ \t]*function\s+(\w+)", re.MULTILINE)
_FUNCTION_CLIENT = re.compile(r'^[ \t]*client\s+"?([\w./:-]+)"?[ \t]*$', re.MULTILINE)
_VARIABLE = re.compile(r"\benv\.(\w+)")
_COMMENT = re.compile(r"^[ \t]*//.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """The clients and functions a generated client was made from, read off its inlined BAML source.

    Attributes:
        functions: the default client of each function, by the function's name.
        clients: every declared client, in the order of the files.
        multiplying: clients that retry or fall over by themselves, so that attempts multiply.
        variables: the environment variables each client reads.
    """

    functions: Mapping[str, str] = field(default_factory=dict)
    clients: tuple[str, ...] = ()
    multiplying: tuple[str, ...] = ()
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def source_of(baml: object) -> Source:
    """Read the inlined BAML source beside the generated client *baml*; empty for objects that have none."""
    package = type(baml).__module__.rpartition(".")[0]
    if not package:
        return Source()
    try:
        files: Mapping[str, str] = importlib.import_module(f"{package}.inlinedbaml").get_baml_files()
    except (ImportError, AttributeError):
        return Source()
    return parse_source("\n".join(files.values()))


def parse_source(text: str) -> Source:
    """Find the clients and functions in BAML source *text*."""
    text = _COMMENT.sub("", text)
    blocks = {match[1]: _block(text, match.end()) for match in _CLIENT.finditer(text)}
    functions = {}
    for match in _FUNCTION.finditer(text):
        named = _FUNCTION_CLIENT.search(_block(text, text.find("{", match.end()) + 1))
        functions[match[1]] = named[1] if named else ""
    multiplying = tuple(name for name, block in blocks.items() if _multiplies(block))
    variables = {name: tuple(dict.fromkeys(_VARIABLE.findall(block))) for name, block in blocks.items()}
    return Source(functions, tuple(blocks), multiplying, variables)


def _block(text: str, start: int) -> str:
    """The text from *start* to the brace that closes the block it stands in; raw strings hold no braces of ours."""
    depth, at = 1, start
    while depth and at < len(text):
        if text.startswith('#"', at):
            end = text.find('"#', at + 2)
            at = len(text) if end < 0 else end + 2
            continue
        depth += (text[at] == "{") - (text[at] == "}")
        at += 1
    return text[start:at]


def _multiplies(block: str) -> bool:
    provider = re.search(r'^\s*provider\s+"?([\w-]+)', block, re.MULTILINE)
    strategy = provider is not None and provider[1].removeprefix("baml-") in _STRATEGIES
    return strategy or re.search(r"^\s*retry_policy\s+\w", block, re.MULTILINE) is not None


def functions_of(baml: object) -> tuple[str, ...]:
    """The async functions of a generated client (or of a double of one)."""
    return tuple(
        name
        for name in dir(type(baml))
        if not name.startswith("_")
        and inspect.iscoroutinefunction(inspect.getattr_static(type(baml), name, None))
    )


def installed_client() -> Any:
    """Import the project's generated client, `baml_client.b` in its async form.

    Raises:
        MissingClientError: there is none, or it was generated for another version of baml-py.
    """
    try:
        client = importlib.import_module("baml_client.async_client").b
    except ImportError as exc:
        cause = str(exc).strip().splitlines()
        msg = (
            "no BAML client can be imported as `baml_client`: run `baml-cli generate` in the folder that holds "
            f"baml_src and put its output on sys.path ({cause[0] if cause else type(exc).__name__})"
        )
        raise errors.MissingClientError(msg) from exc
    return client


def hush() -> None:
    """Turn BAML's own stdout logging down, which prints prompts and replies, unless the user has set it."""
    if "BAML_LOG" in os.environ or "baml_py" not in sys.modules:
        return
    with contextlib.suppress(Exception):  # an optional courtesy: no version of it may stop a call
        importlib.import_module("baml_py.logging").set_log_level("OFF")
