"""Holds a user's pattern to the law of this room before it may run: bounded, unnested, quick on texts made against it."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

LONGEST: Final = 1000
"""Characters of a pattern, and the upper bound of a repetition."""
WAYS: Final = 100_000
"""In how many ways a pattern may be tried at one place of a text."""
BUDGET: Final = 0.02
"""Seconds of processor time a pattern may need for any of the probes."""
PROBED: Final = 4096
"""Length of the longest probe in characters."""

_LENGTHS: Final = (*range(4, 34, 2), 48, 64, 128, 256, 512, 1024, 2048, PROBED)
"""Small steps first: what doubles with each character is stopped before it takes a second."""
_PROBES: Final = 48
_EVERYTHING: Final = ("a", "1", " ", "-", "a1", "a.")

# The parser of `re` is private by its name only: sre_parse was the same, documented by example, until Python 3.11.
_parser: Any = importlib.import_module("re._parser")
_REPEATS: Final = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that was found to be harmless, and what stands for what it finds, taken literally."""

    name: str
    regex: re.Pattern[str]
    replacement: str

    def mask(self, text: str) -> str:
        """*text* with the replacement wherever the pattern matches."""
        return self.regex.sub(lambda _: self.replacement, text)


def check_pattern(name: str, regex: object, replacement: str, *, clock: Callable[[], float]) -> Pattern:
    """Compile *regex* if it can be trusted with any text.

    Refused are: repetitions without an upper bound unless they end the pattern, repetitions within repetitions and other
    forms that can be tried in too many ways, patterns that match nothing at all, and whatever takes longer than 20 ms on
    one of the probe texts made from the pattern itself.

    Args:
        name: names the pattern in errors.
        regex: as `re` knows it.
        replacement: what is written in place of a match; no backslash or group means anything in it.
        clock: gives seconds of processor time, such as `time.thread_time`.

    Raises:
        ValueError: naming the pattern, what is wrong with it, and the remedy.
    """
    if not isinstance(regex, str) or len(regex) > LONGEST:
        raise _refusal(name, regex, f"give a text of at most {LONGEST} characters")
    try:
        compiled, tree = re.compile(regex), _parser.parse(regex)
    except (re.error, RecursionError, OverflowError) as exc:
        raise _refusal(name, regex, f"it cannot be read ({exc})") from None
    if wrong := _wrong(tree):
        raise _refusal(name, regex, wrong)
    if tree.getwidth()[0] == 0:
        raise _refusal(name, regex, "it matches where nothing stands; demand at least one character")
    if any(_slow(compiled, probe, clock) for probe in _probes(tree)):
        raise _refusal(
            name,
            regex,
            f"it takes over {BUDGET * 1000:.0f} ms on {PROBED} characters; begin it with fixed letters, lower its bounds, "
            "and let neighbouring repetitions match different characters",
        )
    return Pattern(name, compiled, replacement)


def _refusal(name: str, regex: object, why: str) -> ValueError:
    return ValueError(f"Settings.redact_patterns={name!r} ({str(regex)[:100]!r}): {why}")


# --- by its form ------------------------------------------------------------------------------------------------


def _wrong(tree: Iterable[Any]) -> str | None:
    try:
        ways = _ways(tree, last=True)
    except _UnboundedError:
        return f"a repetition that does not end the pattern needs an upper bound of at most {LONGEST}, such as {{1,64}} for +"
    if ways > WAYS:
        return (
            f"it can be tried in over {WAYS} ways at one place; lower its bounds, or make the repetitions within a repetition "
            "possessive, such as ?+ for ?"
        )
    return None


def _ways(tree: Iterable[Any], *, last: bool) -> int:
    """In how many ways a place of a text can be tried, at most; *last*: nothing follows what *tree* matches.

    Raises:
        _UnboundedError: a repetition without an upper bound that something follows.
    """
    ways, items = 1, list(tree)
    for place, (operator, value) in enumerate(items, 1):
        kind, ends = str(operator), last and place == len(items)
        if kind in _REPEATS:
            ways *= _ways_of_repetition(kind, value, last=ends)
        elif kind == "BRANCH":
            ways *= sum(_ways(part, last=ends) for part in _parts(value))
        else:
            looks = kind in {"ASSERT", "ASSERT_NOT"}
            ways *= math.prod(_ways(part, last=ends and not looks) for part in _parts(value))
        ways = min(ways, WAYS + 1)
    return ways


def _ways_of_repetition(kind: str, value: Any, *, last: bool) -> int:
    low, high, body = value
    within = _ways(body, last=False)
    if high > LONGEST:
        if not last:
            raise _UnboundedError
        return int(within**low)
    return int(within**high) if kind == "POSSESSIVE_REPEAT" else int((high - low + 1) * within**high)


class _UnboundedError(Exception):
    """A repetition that can run over the whole text before it fails."""


def _parts(value: Any) -> Iterator[Any]:
    """The patterns inside of a group, a branch, a condition or a look-around."""
    if isinstance(value, _parser.SubPattern):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _parts(part)


# --- by its speed -----------------------------------------------------------------------------------------------


def _slow(compiled: re.Pattern[str], probe: tuple[str, str], clock: Callable[[], float]) -> bool:
    """Does *compiled* take too long on what the probe repeats? It does if it takes so twice: a busy machine lies once."""
    head, unit = probe
    for length in _LENGTHS:
        text = head + unit * (length // len(unit)) + "\0"
        if all(_seconds(compiled, text, clock) > BUDGET for _ in range(2)):
            return True
    return False


def _seconds(compiled: re.Pattern[str], text: str, clock: Callable[[], float]) -> float:
    began = clock()
    compiled.sub("", text)
    return clock() - began


def _probes(tree: Iterable[Any]) -> list[tuple[str, str]]:
    """Texts made from what the pattern matches: each character again and again, behind what the pattern wants before it."""
    samples = list(_samples(tree))[: _PROBES // 3]
    whole = "".join(samples)
    pairs = [first + second for first, second in pairwise(samples)]
    found = [("", unit) for unit in (*samples, whole, *pairs, *_EVERYTHING) if unit]
    found += [("".join(samples[:place]), sample) for place, sample in enumerate(samples) if place]
    return list(dict.fromkeys(found))[: 2 * _PROBES]


def _samples(tree: Iterable[Any]) -> Iterator[str]:
    """One character for each place of the pattern that matches one."""
    for operator, value in tree:
        kind = str(operator)
        if kind == "LITERAL":
            yield chr(value)
        elif kind == "IN":
            yield _member(value)
        elif kind in {"ANY", "NOT_LITERAL"}:
            yield "a"
        else:
            for part in _parts(value):
                yield from _samples(part)


def _member(items: Sequence[Any]) -> str:
    """A character of a set such as `[a-z_]`; of one that only says what it is not, a letter."""
    operator, value = items[0]
    kind = str(operator)
    if kind == "NEGATE":
        return "a"
    if kind == "CATEGORY":
        return {"CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " ", "CATEGORY_WORD": "a"}.get(str(value), "-")
    return chr(value[0] if kind == "RANGE" else value)
