"""A redaction rule: a literal to search, and a pattern to try where it stands."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

from resilience.redaction.spans import Span

_ESCAPE = re.compile(r"\\[bfnrt]")
_ALPHANUMERIC = string.ascii_letters + string.digits
_MARK = re.compile(r"\[(?:key|token|pem|credentials|secret|email|phone|card|iban|ssn)\]")


class LazyPattern:
    """A pattern that is compiled at its first match. To compile all rules takes longer than the rest of the redaction's import.

    Args:
        source: the regular expression.
        flags: as for `re.compile`.
    """

    __slots__ = ("_compiled", "_flags", "_source")

    def __init__(self, source: str, flags: int = 0) -> None:
        self._source = source
        self._flags = flags
        self._compiled: re.Pattern[str] | None = None

    def match(self, text: str, at: int) -> re.Match[str] | None:
        """Match at a place of *text*."""
        compiled = self._compiled
        if compiled is None:
            compiled = self._compiled = re.compile(self._source, self._flags)
        return compiled.match(text, at)


@dataclass(frozen=True, slots=True)
class RedactionRule:
    """A rule.

    Attributes:
        mark: the text that replaces a match.
        literal: the text to search, in lower case.
        pattern: matched at the literal. If it has a group that matched, only that group is masked.
        before: letters and digits before the literal at which the match may start, at most.
        least_before: letters and digits that must stand before the literal, at least.
        heads: the letters and digits that may stand before the literal, where only a few can; None for any. The pattern says
            the same; these two are looked at first because most literals of one character begin no secret.
    """

    mark: str
    literal: str
    pattern: LazyPattern
    before: int = 0
    least_before: int = 0
    heads: frozenset[str] | None = None

    def spans(self, text: str, lowered: str) -> Iterator[Span]:
        """Return the spans of the matches in *text*; *lowered* is the text in lower case, character for character."""
        # `done` is the end of the last match: the letters before a literal are not counted into two matches.
        at, done = lowered.find(self.literal), 0
        while at >= 0:
            # Mostly a blank or another sign stands before the literal, or the rule looks at nothing before it.
            may_start_before = self.before and at and text[at - 1] in _ALPHANUMERIC
            run = _run_before(text, max(done, at - self.before), at) if may_start_before else 0
            match = self.pattern.match(text, at - run) if self._may_match(text, at, run) else None
            if match:
                start, end = match.span(match.lastgroup or 0)
                # A mark in the text is the result of an earlier redaction.
                if not _MARK.fullmatch(text, start, end):
                    yield Span(start, end, self.mark)
                done = match.end()
            at = lowered.find(self.literal, max(match.end(), at + 1) if match else at + 1)

    def _may_match(self, text: str, at: int, run: int) -> bool:
        """Return whether what stands before the literal at *at*, of which *run* characters may belong to the match, allows one."""
        return run >= self.least_before and (self.heads is None or text[at - run : at] in self.heads)


def _run_before(text: str, start: int, end: int) -> int:
    """Return the number of letters and digits directly before *end*, not before *start*. The `n` of an escaped line break is none."""
    run = end - start - len(text[start:end].rstrip(_ALPHANUMERIC))
    escaped = run and text[end - run - 1 : end - run] == "\\" and _ESCAPE.match(text, end - run - 1)
    return run - 1 if escaped else run
