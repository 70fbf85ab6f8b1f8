"""Weighs pieces of evidence that contradict each other.

Each piece is a vote for one category. The strongest vote decides; a further vote for the same category adds a little, so
that of two equally strong ones the better supported wins. The scale is the order of trust: a code that a provider uses for
one fault alone outranks any sentence, a clear sentence outranks the status (providers send bills as 429 and throttling as
400), the status outranks the class of an exception.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from resilience.failure.taxonomy import ErrorCategory as Category


class Strength:
    """How much a piece of evidence is trusted."""

    DECISIVE: Final = 12.0
    """A code that means one fault, whatever the status."""
    CERTAIN: Final = 9.0
    """A sentence that can mean nothing else."""
    LIKELY: Final = 7.0
    """A sentence that means this nearly always."""
    FIRM: Final = 6.0
    """A code that means this unless a sentence says otherwise."""
    HINT: Final = 5.0
    """A sentence that mostly means this."""
    STATUS: Final = 4.0
    """The status of the response."""
    STATUS_IN_TEXT: Final = 3.5
    """A status that only a text names."""
    WEAK: Final = 2.5
    """A code or a class for several faults, a finish reason, keywords."""


_AGREEMENT: Final = 0.25
"""What one more vote for the same category adds."""
_MOST_AGREEMENT: Final = 0.75


@dataclass(frozen=True, slots=True)
class Vote:
    """One piece of evidence.

    Attributes:
        category: what it means.
        strength: how much it is trusted, on the scale of `Strength`.
        because: the evidence in words, without a word of the response.
        code: the provider's code, where the evidence is one.
    """

    category: Category
    strength: float
    because: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The category with the strongest evidence.

    Attributes:
        category: the category.
        because: its evidence, the strongest first, then the strongest that speaks against it.
        code: the provider's code among the evidence; None without one.
    """

    category: Category
    because: tuple[str, ...]
    code: str | None


def weigh(votes: Iterable[Vote]) -> Verdict | None:
    """Return the verdict of *votes*; None without any."""
    grouped: dict[Category, list[Vote]] = {}
    for vote in votes:
        grouped.setdefault(vote.category, []).append(vote)
    if not grouped:
        return None
    category = max(grouped, key=lambda each: _weight(grouped[each]))
    winners = sorted(grouped.pop(category), key=lambda vote: -vote.strength)
    others = [vote for votes_ in grouped.values() for vote in votes_]
    against = max(others, key=lambda vote: vote.strength, default=None)
    reasons = dict.fromkeys(_reason(vote) for vote in winners)
    if against is not None:
        reasons[f"against it: {_reason(against)} for {against.category}"] = None
    code = next((vote.code for vote in winners if vote.code is not None), None)
    return Verdict(category, tuple(reasons), code)


def _weight(votes: list[Vote]) -> float:
    agreement = min(_AGREEMENT * (len({vote.because for vote in votes}) - 1), _MOST_AGREEMENT)
    return max(vote.strength for vote in votes) + agreement


def _reason(vote: Vote) -> str:
    return f"{vote.because} ({vote.strength:g})"
