"""The doctor: looks at everything a set-up needs, and says of each trouble how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from resilience.config.effective import unknown_variables
from resilience.config.settings import POLICIES, Settings, load_policy
from resilience.doctor import circuits, clients, history, logs
from resilience.doctor.finding import Examination, Finding, Verdict, fail, ok, warn
from resilience.errors import ConfigurationError

__all__ = ["Finding", "Verdict", "examine"]

_EXAMINATIONS: Final[tuple[Examination, ...]] = (
    circuits.examine,
    history.examine,
    logs.examine,
    clients.examine,
    clients.forks,
)


def examine(settings: Settings | None = None) -> Iterator[Finding]:
    """Look at everything, one thing after the other. Writes nothing but proofs that writing works.

    Args:
        settings: what processes are started with; from where settings are written down when not given.
    """
    try:
        complete = (settings or Settings()).complete()
        for word, kind in POLICIES.items():
            load_policy(kind, word, None)
    except ConfigurationError as exc:
        yield fail(
            "settings",
            str(exc),
            "correct it where it was set; `resilience config show` prints every setting and its place",
        )
        return
    yield from _names()
    for each in _EXAMINATIONS:
        yield from each(complete)


def _names() -> Iterator[Finding]:
    foreign = unknown_variables()
    for variable, near in foreign.items():
        remedy = f"did you mean {near}?" if near else "`resilience config show` lists those there are"
        yield warn("settings", f"nobody reads {variable}", remedy)
    if not foreign:
        yield ok("settings", "every RESILIENCE_ variable is one that is read")
