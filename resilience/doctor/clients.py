"""Looks at BAML: its version, the generated client, the names in the policies, and forks."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from resilience import baml
from resilience.config import sources
from resilience.config.settings import Settings
from resilience.doctor.finding import Finding, fail, ok, warn
from resilience.errors import ConfigurationError, MissingClientError, ResilienceWarning
from resilience.handler import BAMLErrorHandler
from resilience.wrapper import protect

_OLDEST: Final = (0, 209)
_FORK: Final = "fork"
_REMEDY: Final = (
    "start workers with the spawn or forkserver method, or import and call BAML in the workers alone"
)


def examine(settings: Settings) -> Iterator[Finding]:
    """Would `protect(b)` work here?"""
    yield from version(metadata.version("baml-py"))
    try:
        client = baml.installed_client()
    except MissingClientError as exc:
        yield warn(
            "baml",
            str(exc),
            "run `baml-cli generate`; a program that gives its own client to protect() needs nothing here",
        )
        return
    yield from _protected(client, settings)


def version(installed: str) -> Iterator[Finding]:
    """Is this baml-py one we know to work?"""
    numbers = tuple(int(part) for part in installed.split(".")[:2])
    if numbers < _OLDEST:
        yield fail(
            "baml", f"baml-py {installed}", "pip install 'baml-py>=0.209.0', then run `baml-cli generate`"
        )
    else:
        yield ok("baml", f"baml-py {installed}")


def _protected(client: object, settings: Settings) -> Iterator[Finding]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            protect(client, BAMLErrorHandler(settings=settings))
        except ConfigurationError as exc:
            yield fail(
                "clients",
                str(exc),
                "correct the name in the policy, or in baml_src and run `baml-cli generate`",
            )
            return
    for each in caught:
        if issubclass(each.category, ResilienceWarning):
            said, _, remedy = str(each.message).rpartition("; ")
            yield warn("clients", said or remedy, remedy)
    declarations, functions = baml.declarations_of(client), baml.functions_of(client)
    yield ok("clients", f"{len(functions)} functions, clients {', '.join(declarations.clients)}")
    unknown = [name for name in functions if name not in declarations.functions]
    if unknown:
        yield warn(
            "clients",
            f"the client of {', '.join(unknown)} cannot be read from the BAML source",
            "nothing has to be done: BAML chooses it, and its first call has no circuit breaker until its name is learnt",
        )


def forks(settings: Settings) -> Iterator[Finding]:  # noqa: ARG001 - an examination, like the others
    """Will processes be forked after BAML was used? The child would hang (BoundaryML/baml#2776)."""
    hazards = list(_hazards(Path.cwd(), dict(os.environ)))
    for says in hazards:
        yield warn("forks", says, _REMEDY)
    if not hazards:
        yield ok("forks", "nothing here forks by default")


def _hazards(directory: Path, environ: dict[str, str]) -> Iterator[str]:
    if multiprocessing.get_all_start_methods()[0] == _FORK:
        yield "multiprocessing forks by default on this Python"
    if "--preload" in environ.get("GUNICORN_CMD_ARGS", ""):
        yield "GUNICORN_CMD_ARGS has --preload"
    config = sources.project_directory(directory) / "gunicorn.conf.py"
    if (
        config.is_file()
        and "preload_app"
        in config.read_text("utf-8", "replace").replace(" ", "").partition("preload_app=True")[1]
    ):
        yield f"{config} sets preload_app"
