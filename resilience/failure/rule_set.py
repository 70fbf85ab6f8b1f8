"""Finds the rules that a set of concepts satisfies, all at once.

A text of 1 kB has some ten sentences, and there are some 80 rules. To test each rule on each sentence would take longer than
everything else, so a rule is one bit of an integer, and each concept has the bits of the rules in which it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from resilience.failure.concepts import Concept
from resilience.failure.taxonomy import ErrorCategory
from resilience.failure.weighing import Vote

_MOST_SETS = 4096
"""Sets of concepts whose rules are remembered. Sentences are many, but their concepts are few."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a set of concepts in one sentence means.

    Attributes:
        category: what it means.
        strength: how sure that is.
        groups: sets of concepts as bits; one of each must be there.
        without: concepts as bits that must not be there.
        nowhere: concepts as bits that no sentence of the text may have.
        statuses: the statuses that the rule may contradict; None for all.
    """

    category: ErrorCategory
    strength: float
    groups: tuple[int, ...]
    without: int
    nowhere: int
    statuses: frozenset[int | None] | None

    @property
    def because(self) -> str:
        """The rule in words, for people."""
        return " and ".join(
            "/".join(c.name.lower() for c in Concept if c & group and c.name) for group in self.groups
        )


class RuleSet:
    """Rules that are looked up together.

    Args:
        rules: the rules.
        weaker: what is taken off the strength of their votes.
    """

    def __init__(self, rules: Sequence[Rule], *, weaker: float = 0.0) -> None:
        self.rules = tuple(rules)
        self._weaker = weaker
        self._votes: dict[int, Vote] = {}
        self._matching: dict[int, int] = {}
        self._of_status: dict[int | None, int] = {}

    def votes(self, bits: int, text: int, status: int | None) -> list[Vote]:
        """Return the votes of the rules that match, in the order of the rules.

        Args:
            bits: the concepts of a sentence.
            text: the concepts of the whole text.
            status: the status of the response.
        """
        votes: list[Vote] = []
        # Other sentences mostly have a set of concepts that was seen before, even if their words are new.
        matching = self._matching.get(bits)
        if matching is None:
            if len(self._matching) >= _MOST_SETS:
                self._matching.clear()
            matching = self._matching[bits] = self._groups(bits)
        matching &= self._allowed_by(status)
        while matching:
            bit = matching & -matching
            matching ^= bit
            rule = self.rules[bit.bit_length() - 1]
            if not rule.nowhere & text:
                votes.append(self._vote(bit, rule))
        return votes

    def _groups(self, bits: int) -> int:
        """Return the rules, as bits, that have one concept of each of their groups among *bits*, and none that they exclude."""
        lanes, count, every = self._layout
        found = every
        while bits:  # as `_bits_of`, without a generator: this runs for each sentence
            concept = bits & -bits
            bits ^= concept
            found |= lanes.get(concept, 0)
        width = len(self.rules)
        matching = ~(found >> (count * width))  # the highest lane: rules that exclude one of the concepts
        for lane in range(count):
            matching &= found >> (lane * width)
        return matching & ((1 << width) - 1)

    @cached_property
    def _layout(self) -> tuple[dict[int, int], int, int]:
        """The rules of each concept; how many lanes there are for groups; the groups that a rule does not have.

        A lane has one bit for each rule. The first lane says in which rules a concept belongs to the first group, the next
        one to the second group, and the last one which rules exclude it. All lanes are one integer, so the concepts of a
        sentence are joined by one operation each. It is worked out at the first use.
        """
        width, count = len(self.rules), max(len(rule.groups) for rule in self.rules)
        lanes: dict[int, int] = {}
        every = 0
        for place, rule in enumerate(self.rules):
            for lane in range(len(rule.groups), count):
                every |= 1 << (lane * width + place)
            for lane, group in (*enumerate(rule.groups), (count, rule.without)):
                for concept in _bits_of(group):
                    lanes[concept] = lanes.get(concept, 0) | 1 << (lane * width + place)
        return lanes, count, every

    def _allowed_by(self, status: int | None) -> int:
        """Return the rules, as bits, that may contradict *status*."""
        allowed = self._of_status.get(status)
        if allowed is None:
            may = (rule.statuses is None or status in rule.statuses for rule in self.rules)
            allowed = self._of_status[status] = sum(1 << place for place, may_it in enumerate(may) if may_it)
        return allowed

    def _vote(self, bit: int, rule: Rule) -> Vote:
        """Return the vote of *rule*. Its words are put together at the first use."""
        vote = self._votes.get(bit)
        if vote is None:
            vote = self._votes[bit] = Vote(rule.category, rule.strength - self._weaker, rule.because)
        return vote


def _bits_of(number: int) -> Iterator[int]:
    """Yield the bits of *number*, the lowest first."""
    while number:
        bit = number & -number
        number ^= bit
        yield bit
