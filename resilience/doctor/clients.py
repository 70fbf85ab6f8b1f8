"""Checks of BAML: its version, the generated client, the client names in the policies, and forks.

Only what can be seen from outside the agents is checked. A program that passes another client to `protect()`, or forks by
itself, is beyond that: there `protect()` warns, and a call in a forked child raises ForkedRuntimeError.
"""

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

_OLDEST_BAML: Final = (0, 209)
_FORK: Final = "fork"
_FORK_REMEDY: Final = (
    "start workers with the spawn or forkserver method, or import and call BAML only in the workers"
)


def examine(settings: Settings) -> Iterator[Finding]:
    """Check that `protect(b)` works with the generated client of this project.

    Args:
        settings: complete settings, for the handler that protects the client.
    """
    yield from version(metadata.version("baml-py"))
    try:
        client = baml.installed_client()
    except MissingClientError as exc:
        yield warn(
            "baml",
            str(exc),
            "run `baml-cli generate`; a program that passes another client to protect() needs none here",
        )
        return
    yield from _check_client(client, settings)


def version(installed: str) -> Iterator[Finding]:
    """Check that this baml-py is one that the package is tested with.

    Args:
        installed: the version of baml-py, such as `0.226.3`.
    """
    numbers = tuple(int(part) for part in installed.split(".")[:2])
    if numbers < _OLDEST_BAML:
        yield fail(
            "baml", f"baml-py {installed}", "pip install 'baml-py>=0.209.0', then run `baml-cli generate`"
        )
    else:
        yield ok("baml", f"baml-py {installed}")


def _check_client(client: object, settings: Settings) -> Iterator[Finding]:
    """Protect a client as an agent would, and turn errors and warnings into findings. No call is made.

    Args:
        client: a generated BAML client.
        settings: complete settings for its handler.
    """
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
    for warning in caught:
        if issubclass(warning.category, ResilienceWarning):
            # Warnings of protect() end with their remedy: "problem; remedy".
            message, _, remedy = str(warning.message).rpartition("; ")
            yield warn("clients", message or remedy, remedy)
    declarations, functions = baml.declarations_of(client), baml.functions_of(client)
    yield ok("clients", f"{len(functions)} functions, clients {', '.join(declarations.clients)}")
    unknown = [name for name in functions if name not in declarations.functions]
    if unknown:
        yield warn(
            "clients",
            f"the client of {', '.join(unknown)} cannot be read from the BAML source",
            "nothing has to be done: BAML chooses it, and its first call has no circuit breaker until its name is learnt",
        )


def forks(settings: Settings) -> Iterator[Finding]:  # noqa: ARG001 - the signature of a check
    """Warn of processes that are forked after BAML was used.

    BAML's runtime has threads, and a fork copies none of them: a call in the child would wait for ever
    (BoundaryML/baml#2776). Workers are safe if they are spawned, or if BAML is imported only after the fork.

    Args:
        settings: not used.
    """
    hazards = list(_fork_hazards(Path.cwd(), dict(os.environ)))
    for message in hazards:
        yield warn("forks", message, _FORK_REMEDY)
    if not hazards:
        yield ok("forks", "nothing here forks by default")


def _fork_hazards(directory: Path, environ: dict[str, str]) -> Iterator[str]:
    """Yield each sign that workers will be forked from a process that has imported the application.

    Args:
        directory: a folder of the project.
        environ: the environment of the agents.
    """
    if multiprocessing.get_all_start_methods()[0] == _FORK:
        yield "multiprocessing forks by default on this Python"
    if "--preload" in environ.get("GUNICORN_CMD_ARGS", ""):
        yield "GUNICORN_CMD_ARGS has --preload"
    config = sources.project_directory(directory) / "gunicorn.conf.py"
    # Read, not run: the file is the user's program. Spaces are removed, since both `a = True` and `a=True` are common.
    if config.is_file() and "preload_app=True" in config.read_text("utf-8", "replace").replace(" ", ""):
        yield f"{config} sets preload_app"
