"""Places for tests: circuits and a history that no other test, no other run and no agent uses.

The pytest plugin turns this on. Without it a suite would share its circuits with every earlier run and with the developer's own
agents, because all processes of one project share the files beside its pyproject.toml: a test that lets a mock fail opens a circuit
that refuses the next run.

A test must not reach production, whatever the machine is set up for. So these places take precedence over the environment and all
files; only explicit arguments of `Settings` take precedence over them. They are kept in this module, where a test that clears the
environment does not lose them, and in a variable for child processes.

This module imports nothing: every pytest run of an environment with this package loads it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import Final, Protocol

VARIABLE: Final = "PYTEST_RESILIENCE_ISOLATION"
"""`namespace@folder`, for child processes. It is none of our settings, which have another prefix."""
_ORIGIN: Final = "the isolation of tests (`resilience_isolation` of pytest)"


class Closable(Protocol):
    """What opens connections to the places of a test: a handler."""

    def close(self) -> None:
        """Write what is queued, and close."""


_active: str | None = None
_opened: Final[weakref.WeakSet[Closable]] = weakref.WeakSet()


def activate(value: str | None) -> str | None:
    """Use the places of *value* from now on, here and in child processes; None uses those of the settings.

    Args:
        value: `namespace@folder`.

    Returns:
        The value before.
    """
    global _active
    before, _active = current(), value
    if value is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = value
    return before


def current() -> str | None:
    """Return the `namespace@folder` in use; None outside of isolated tests."""
    return _active or os.environ.get(VARIABLE)


def variables() -> Mapping[str, tuple[str, str]]:
    """Return the settings that isolated tests use, each with its text and origin; empty outside of them."""
    value = current()
    if not value:
        return {}
    namespace, _, folder = value.partition("@")
    places = {
        "RESILIENCE_REDIS_URL": "",  # would take precedence over the store
        "RESILIENCE_STORE_URL": f"sqlite:///{folder}/circuits.db",
        "RESILIENCE_DATABASE_URL": f"sqlite:///{folder}/resilience.db",
        "RESILIENCE_DATABASE_SCHEMA": "",
        "RESILIENCE_LOG_DIR": "",
        "RESILIENCE_NAMESPACE": namespace,
    }
    return {name: (text, _ORIGIN) for name, text in places.items()}


def opened(handler: Closable) -> bool:
    """Remember that *handler* opens connections, and return whether it has to load its settings again.

    A handler of a module is made while tests are collected and outlives each of them, and each has other places.
    """
    if current() is None:
        return False
    _opened.add(handler)
    return True


def close_all() -> None:
    """Close what the test that ends has opened. A handler of a module opens again, in the places of the next test."""
    for handler in list(_opened):
        _opened.discard(handler)
        handler.close()
