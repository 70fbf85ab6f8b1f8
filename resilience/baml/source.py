"""Find the project's generated client, its functions, and the declarations it was generated from."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from resilience import errors
from resilience.baml.declarations import Declarations, read_declarations
from resilience.baml.threaded_stream import read_on_threads
from resilience.greenlets import threads_are_greenlets

_log = logging.getLogger("resilience")


def declarations_of(baml: object) -> Declarations:
    """Read the BAML source that the package of the generated client *baml* carries; empty for other objects."""
    package = type(baml).__module__.rpartition(".")[0]
    if not package:
        return Declarations()
    try:
        files: Mapping[str, str] = importlib.import_module(f"{package}.inlinedbaml").get_baml_files()
    except (ImportError, AttributeError):
        return Declarations()
    return read_declarations(files.values())


def functions_of(baml: object) -> tuple[str, ...]:
    """Return the names of the functions of a generated client, of a double or of a mock."""
    return tuple(
        name
        for name in dir(baml)
        if not name.startswith("_") and (is_async_function(baml, name) or is_sync_function(baml, name))
    )


def is_async_function(baml: object, name: str) -> bool:
    """Return whether attribute *name* is a coroutine function. Properties are not read: they may do anything."""
    value = inspect.getattr_static(baml, name, None)
    if is_mock(baml) and value is None:  # mocks make their attributes when they are asked for
        value = getattr(baml, name, None)
    return inspect.iscoroutinefunction(value)


def is_sync_function(baml: object, name: str) -> bool:
    """Return whether attribute *name* is a blocking function of BAML, which is known by its parameter `baml_options`."""
    value = inspect.getattr_static(baml, name, None)
    if not inspect.isfunction(value) or inspect.iscoroutinefunction(value):
        return False
    return "baml_options" in inspect.signature(value).parameters


def is_stream_function(baml: object, name: str) -> bool:
    """Return whether `baml.stream.<name>` is a streaming function of BAML.

    Its result is a stream and no coroutine, so it looks like a blocking function in both clients. The function of the same name
    tells the async client from the sync one.
    """
    if is_mock(baml) or not is_sync_function(getattr(baml, "stream", None), name):
        return False
    if is_async_function(baml, name):
        return True
    if is_sync_function(baml, name) and threads_are_greenlets():
        _warn_of_greenlets()
        return False
    return is_sync_function(baml, name)


@functools.cache
def _warn_of_greenlets() -> None:
    """Warn once per process. A guarded stream runs on an event loop beside BAML's own, which one real thread cannot hold."""
    _log.warning(
        "streams of sync clients are not guarded under gevent, which turns threads into greenlets; BAML crashes at the second "
        "stream of a greenlet: call the function without `.stream`, or stream in a process without gevent"
    )


def async_stream_function(baml: object, name: str) -> Callable[..., Any]:
    """Return the function that streams for the function *name* of a blocking client, as an async stream.

    BAML generates both clients side by side, from the same functions. A double of a blocking client has no async twin: its own
    streams are read on threads.
    """
    for kind in type(baml).__mro__:
        package = kind.__module__.rpartition(".")[0]
        if f"{package}.inlinedbaml" in sys.modules:
            twin = importlib.import_module(f"{package}.async_client").b
            function: Callable[..., Any] = getattr(twin.stream, name)
            return function
    return read_on_threads(getattr(baml, "stream"), name)  # noqa: B009 - an attribute that `object` does not declare


def is_mock(value: object) -> bool:
    """Return whether *value* is an object of `unittest.mock`, without importing that module."""
    mock = sys.modules.get("unittest.mock")
    return mock is not None and isinstance(value, mock.NonCallableMock)


_PLACES: Final = ("baml_client.async_client", "baml_client.baml_client.async_client")
"""Where generated clients are found: `output_dir ".."`, and a project that generates into a folder `baml_client`."""


def installed_client() -> Any:
    """Import the project's generated client, `baml_client.b` in its async form.

    Raises:
        MissingClientError: there is none, or it was generated for another version of baml-py.
    """
    causes = []
    for place in _PLACES:
        try:
            return importlib.import_module(place).b
        except ImportError as exc:
            causes.append(exc)
    lines = str(causes[0]).strip().splitlines()
    msg = (
        "no BAML client can be imported as `baml_client`: run `baml-cli generate` in the folder that holds baml_src and put "
        "its output on sys.path, or pass the client of another package, BAMLWrapper(b) or protect(b) "
        f"({lines[0] if lines else type(causes[0]).__name__})"
    )
    raise errors.MissingClientError(msg) from causes[0]


def silence_baml_logging() -> None:
    """Turn off BAML's logging to stdout, which prints prompts and replies, unless `BAML_LOG` is set."""
    if "BAML_LOG" in os.environ or "baml_py" not in sys.modules:
        return
    with contextlib.suppress(Exception):  # no version of baml-py may make a call fail over this
        importlib.import_module("baml_py.logging").set_log_level("OFF")
