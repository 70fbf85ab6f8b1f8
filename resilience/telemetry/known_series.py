"""The series that exist before anything is counted, so that the first failure is an increase from zero.

Prometheus computes `increase()` and `rate()` from at least two samples. A series that is born with the value 5 has one, and its
first five failures are never seen: neither on a graph nor by an alert. So every series that can be foreseen is there from the
start with 0: known clients and functions, times the closed lists of outcomes, categories, states and results.

Known is what the `.baml` files of the project declare: OpenTelemetry learns them from `protect`, and the text of Prometheus reads the
files where the process that is scraped has them. The text also knows what the history has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final

from resilience.baml import Declarations
from resilience.breaker import CircuitState
from resilience.failure import CATEGORY_RULES, ErrorCategory
from resilience.history import CallOutcome
from resilience.telemetry import labels

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


def from_declarations(declarations: Declarations, backups: Iterable[str]) -> Known:
    """Return what a project declares.

    Args:
        declarations: its `.baml` files.
        backups: clients that take over from every function's own, in order.
    """
    pairs, routes = set[Pair](), set[Pair]()
    for function, client in declarations.functions.items():
        # In the order in which a call asks them: the members of a strategy first, then the backups of the settings.
        asked = tuple(dict.fromkeys((*declarations.leaves(client), *backups)))
        pairs |= {(name, function) for name in asked}
        routes |= set(pairwise(asked))
    return Known(frozenset(pairs), frozenset(routes))
