"""The series that exist before anything is counted, so that the first failure is an increase from zero.

Prometheus computes `increase()` and `rate()` from at least two samples. A series that is born with the value 5 has one, and its
first five failures are never seen: neither on a graph nor by an alert. So every series that can be foreseen is there from the
start with 0: known clients and functions, times the closed lists of outcomes, categories, states and results.

Known is what the `.baml` files of the project declare, where the process that is scraped can read them, and what the history has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Final

from resilience.baml import Declarations, read_declarations
from resilience.breaker import CircuitState
from resilience.config import project
from resilience.config import settings as _settings
from resilience.failure import CATEGORY_RULES, ErrorCategory
from resilience.history import CallOutcome
from resilience.telemetry import labels

_MOST_FILES: Final = 1000
_LARGEST: Final = 1_000_000
"""Bytes of a `.baml` file; a larger one is not read."""

OUTCOMES: Final = tuple(outcome.value for outcome in CallOutcome)
ERRORS: Final = tuple(
    category.value
    for category in ErrorCategory
    if category not in {ErrorCategory.CIRCUIT_OPEN, ErrorCategory.CANCELLED}
)
"""Categories of failed attempts. A refusal is counted apart, and a cancelled attempt is not counted as an error."""
RESULTS: Final = (
    "scheduled",
    "succeeded",
    "exhausted",
    "budget_denied",
    "deadline_denied",
    "retry_after_denied",
)
"""The values of `result`, as `labels.retry_result` gives them."""
TOKENS: Final = ("input", "output")
_FAILURES: Final = tuple(
    category.value for category, rules in CATEGORY_RULES.items() if rules.counts_as_failure
)
_REASONS: Final = (*ERRORS, ErrorCategory.CIRCUIT_OPEN.value)
_BY_ITSELF: Final = (CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED)
_BY_ORDER: Final = (CircuitState.FORCED_OPEN, CircuitState.DISABLED, CircuitState.CLOSED)
TRANSITIONS: Final = (
    *((state.value, reason) for state, reason in product(_BY_ITSELF, _FAILURES)),
    *((state.value, labels.OPERATOR) for state in _BY_ORDER),
)
"""Each state that a circuit can enter, with each reason that can lead to it."""

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a fleet before it is counted.

    Attributes:
        pairs: each client with each function that asks it.
        routes: each client with each client that may take over from it.
    """

    pairs: frozenset[Pair] = frozenset()
    routes: frozenset[Pair] = frozenset()

    def joined(self, pairs: Iterable[Pair], routes: Iterable[Pair]) -> Known:
        """Return this and what the history has."""
        return Known(self.pairs | frozenset(pairs), self.routes | frozenset(routes))

    @property
    def clients(self) -> list[str]:
        """Every client, sorted."""
        return sorted(
            {client for client, _ in self.pairs} | {client for route in self.routes for client in route}
        )

    def fallbacks(self) -> Iterator[tuple[str, ...]]:
        """Yield the label values of every fallback that can be foreseen: from, to, reason, succeeded."""
        for (source, target), reason, succeeded in product(sorted(self.routes), _REASONS, ("true", "false")):
            yield source, target, reason, succeeded


def declared(directory: Path | None = None) -> Known:
    """Return what the project of a directory declares; nothing if it has no `.baml` files here.

    Best effort: the process that is scraped may be a container without the sources, and a file that cannot be read must not
    cost the metrics.

    Args:
        directory: the working directory when not given.
    """
    try:
        folder = project.project_directory(directory or Path.cwd()) / "baml_src"
        files = sorted(folder.rglob("*.baml"))[:_MOST_FILES]
        texts = [path.read_text("utf-8") for path in files if path.stat().st_size <= _LARGEST]
        return _from_declarations(read_declarations(texts), _settings.fallback_policy().clients)
    except Exception:  # noqa: BLE001 - see above; the parser of hostile files may raise anything
        return Known()


def _from_declarations(declarations: Declarations, backups: tuple[str, ...]) -> Known:
    pairs, routes = set[Pair](), set[Pair]()
    for function, client in declarations.functions.items():
        # In the order in which a call asks them: the members of a strategy first, then the backups of the settings.
        asked = tuple(dict.fromkeys((*declarations.leaves(client), *backups)))
        pairs |= {(name, function) for name in asked}
        routes |= set(pairwise(asked))
    return Known(frozenset(pairs), frozenset(routes))
