"""The doctor: checks everything that a set-up needs, and names the remedy for each problem.

Agents work on when a part of their set-up does not: without the store each process uses its local circuits, without the history
records wait in memory. So a broken set-up can go unnoticed until the next outage. The doctor looks for such parts beforehand,
with the agents' own code where it can: the same settings, the same store, the same engine for the database.

To add a check, write a function of type `Check`, and list it in `_CHECKS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from resilience.config.effective import unknown_variables
from resilience.config.settings import POLICIES, Settings, load_policy
from resilience.doctor import circuits, clients, files, forks, history, logs, transport
from resilience.doctor.finding import Check, CheckVerdict, Finding, fail, ok, warn
from resilience.errors import ConfigurationError

__all__ = ["CheckVerdict", "Finding", "examine"]

# In this order findings are printed: from what calls need most to what they need least.
_CHECKS: Final[tuple[Check, ...]] = (
    circuits.examine,
    history.examine,
    logs.examine,
    files.examine,
    transport.examine,
    clients.examine,
    forks.examine,
)


def examine(settings: Settings | None = None) -> Iterator[Finding]:
    """Check settings, circuits, history, logs, owners and modes of files, encryption, and clients, in this order.

    The checks write only to prove that writing works: a temporary file, and one key of a minute's life in Redis.

    Args:
        settings: the settings to check; those of the environment and the project's files when not given.

    Yields:
        One finding for each thing that was checked, as soon as it is known. Nothing follows settings that are not valid.
    """
    # Policies are loaded for their errors alone: each check below would report the same wrong value.
    try:
        complete = (settings or Settings()).complete()
        for word, kind in POLICIES.items():
            load_policy(kind, word, None)
    except ConfigurationError as exc:
        yield fail(
            "settings",
            str(exc),
            "correct the value where it is set; `resilience config show` prints every setting and its source",
        )
        return
    yield from _check_variables()
    for check in _CHECKS:
        yield from check(complete)


def _check_variables() -> Iterator[Finding]:
    """Warn of variables with our prefix that no setting reads: most are typing errors."""
    unknown = unknown_variables()
    for variable, similar in unknown.items():
        remedy = f"did you mean {similar}?" if similar else "`resilience config show` lists all settings"
        yield warn("settings", f"no setting reads {variable}", remedy)
    if not unknown:
        yield ok("settings", "every RESILIENCE_ variable belongs to a setting")
