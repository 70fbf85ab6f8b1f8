"""A project's own rule for errors, asked before ours have the last word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from resilience.failure.taxonomy import CATEGORY_RULES, Failure
from resilience.failure.taxonomy import ErrorCategory as Category

OwnRule = Callable[[BaseException, Failure], Category | str | None]
"""Returns the category of an exception, given what our rules make of it; None where the rule has nothing to say."""

_NEVER_ASKED: Final = frozenset({Category.CANCELLED, Category.CIRCUIT_OPEN})
"""Categories that are the caller's or our own doing: no error of a client that a rule could judge."""


class OwnRules:
    """Applies a project's rule. A rule that raises, or returns no category, changes nothing and is reported once.

    Args:
        rule: the rule; None for none.
        on_error: receives the first exception of the rule.
    """

    def __init__(self, rule: OwnRule | None, on_error: Callable[[Exception], None]) -> None:
        self._rule = rule
        self._on_error = on_error
        self._reported = False

    def apply(self, exc: BaseException, failure: Failure) -> Failure:
        """Return *failure* with the category that the rule gives *exc*; *failure* itself where the rule gives none."""
        if self._rule is None or failure.category in _NEVER_ASKED:
            return failure
        try:
            given = self._rule(exc, failure)
            category = None if given is None else Category(given)
        except Exception as error:  # noqa: BLE001 - a user's function may raise anything; the caller's error matters more
            if not self._reported:
                self._reported = True
                self._on_error(error)
            return failure
        return failure if category in {None, failure.category} else _with_category(failure, category)


def _with_category(failure: Failure, category: Category | None) -> Failure:
    """Return *failure* as one of *category*: everything that follows from a category follows again."""
    if category is None:
        return failure
    rules = CATEGORY_RULES[category]
    return replace(
        failure,
        category=category,
        recoverable=rules.recoverable and failure.should_retry is not False,
        counts_against_client=rules.counts_as_failure,
        retry_after=failure.retry_after if rules.honors_retry_after else None,
        starts_cooldown=rules.cooldown is not None,
        because=("the project's own rule", *failure.because),
    )
