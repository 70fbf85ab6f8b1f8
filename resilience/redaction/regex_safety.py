r"""Check a user's pattern before it may run: whatever the text, its time must grow in proportion to the text's length.

Python's `re` backtracks. A careless pattern takes seconds on one long word, on the thread that writes the history. So a pattern
has to pass two checks.

**By its form.** A repetition without an upper bound may end the pattern: it consumes what it has looked at. Otherwise a run of n
matching characters would be scanned from each of its n positions, n * n steps. It is allowed if it can only start where such a
run starts, and so scans each run once. Three forms guarantee that, directly before the repetition:

- a character that the repetition does not match, as in `EMP-\d+X`;
- `\b`, if it matches only word characters, as in `\b\w+@corp`;
- `(?<!...)` with the same set, as in `(?<![\w.])[\w.]+@corp`.

Besides, the bounded repetitions and alternatives of a pattern may be tried in a limited number of ways at one place.

**By its speed.** The pattern runs on probe texts made from its own characters, each within a few milliseconds.

google-re2 is linear by construction, but it is no replacement: its `\w` and `\d` know ASCII only, so the same setting would mask
less where it is installed (`\w+@corp` finds nothing in `José@corp`), and it has no look-behind and no possessive repetitions.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

MAX_LENGTH: Final = 1000
"""Characters of a pattern, and the largest upper bound of a repetition."""
MAX_WAYS: Final = 100_000
"""The number of ways in which a pattern may be tried at one place of a text."""
BUDGET: Final = 0.02
"""Seconds of processor time that a pattern may take on one probe."""
PROBE_LENGTH: Final = 4096
"""Characters of the longest probe."""

_LENGTHS: Final = (*range(4, 34, 2), 48, 64, 128, 256, 512, 1024, 2048, PROBE_LENGTH)
"""Lengths of the probes, in small steps first: exponential patterns are found before one of them takes a second."""
_MAX_PROBES: Final = 48
_COMMON: Final = ("a", "1", " ", "-", "a1", "a.")
"""Texts to probe every pattern with."""

# The parser of `re` is private by its name only: as `sre_parse` it was public until Python 3.11. Its trees are lists of
# (operator, value). Operators are compared by name, which survived all versions; their numbers did not.
_parser: Any = importlib.import_module("re._parser")
_REPEATS: Final = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_CATEGORIES: Final[dict[str, Callable[[str], bool]]] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_WORD": lambda char: char.isalnum() or char == "_",
    "CATEGORY_NOT_DIGIT": lambda char: not char.isdecimal(),
    "CATEGORY_NOT_SPACE": lambda char: not char.isspace(),
    "CATEGORY_NOT_WORD": lambda char: not (char.isalnum() or char == "_"),
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that has passed the checks.

    Attributes:
        name: the pattern's name in error messages.
        regex: the compiled pattern.
        replacement: the text that replaces each match, taken literally.
    """

    name: str
    regex: re.Pattern[str]
    replacement: str

    def mask(self, text: str) -> str:
        """Return *text* with each match replaced."""
        return self.regex.sub(lambda _: self.replacement, text)


def check_pattern(name: str, regex: object, replacement: str, *, clock: Callable[[], float]) -> Pattern:
    """Compile *regex* if it is safe on any text.

    Args:
        name: name of the pattern in error messages.
        regex: a pattern of Python's `re`.
        replacement: text that replaces each match; backslashes and group references have no meaning in it.
        clock: returns seconds of processor time, such as `time.thread_time`.

    Raises:
        ValueError: naming the pattern, the reason and the remedy. Refused are repetitions without an upper bound in the middle
            of the pattern that the module's docstring does not allow, too many ways at one place, patterns that match the
            empty text, and patterns that take longer than 20 ms on a probe.
    """
    if not isinstance(regex, str) or len(regex) > MAX_LENGTH:
        raise _error(name, regex, f"give a text of at most {MAX_LENGTH} characters")
    try:
        compiled, tree = re.compile(regex), _parser.parse(regex)
    except (re.error, RecursionError, OverflowError) as exc:
        raise _error(name, regex, f"it cannot be read ({exc})") from None
    if reason := _unsafe_form(tree):
        raise _error(name, regex, reason)
    if tree.getwidth()[0] == 0:
        raise _error(name, regex, "it matches where nothing stands; demand at least one character")
    if any(_is_slow(compiled, probe, clock) for probe in _probes(tree)):
        raise _error(
            name,
            regex,
            f"it takes over {BUDGET * 1000:.0f} ms on {PROBE_LENGTH} characters; begin it with fixed letters, lower its bounds, "
            "and let neighbouring repetitions match different characters",
        )
    return Pattern(name, compiled, replacement)


def _error(name: str, regex: object, reason: str) -> ValueError:
    return ValueError(f"Settings.redact_patterns={name!r} ({str(regex)[:100]!r}): {reason}")


# --- by its form ------------------------------------------------------------------------------------------------


class _UnboundedError(Exception):
    """A repetition without an upper bound that may scan the same characters again and again."""


def _unsafe_form(tree: Any) -> str | None:
    """Return why the form of the pattern is unsafe; None if it is safe."""
    # A back-reference compares a text of any length for each end of the repetition it refers to: n * n steps from one start.
    fences = "GROUPREF" not in repr(tree)
    try:
        ways = _ways(tree, last=True, fences=fences)
    except _UnboundedError:
        return (
            f"a repetition that does not end the pattern needs an upper bound of at most {MAX_LENGTH}, such as {{1,64}} for +; "
            "or before it a character that it does not match, \\b before \\w, or (?<!...) with the same set"
        )
    if ways > MAX_WAYS:
        return (
            f"it can be tried in over {MAX_WAYS} ways at one place; lower its bounds, or make the repetitions within a repetition "
            "possessive, such as ?+ for ?"
        )
    return None


def _ways(tree: Iterable[Any], *, last: bool, fences: bool) -> int:
    """Return the number of ways in which one place of a text can be tried, at most `MAX_WAYS` + 1.

    Args:
        tree: a sequence of the parsed pattern.
        last: whether nothing follows the sequence in the pattern.
        fences: whether a repetition without an upper bound is allowed behind a fence, see `_is_fenced`.

    Raises:
        _UnboundedError: the sequence has a repetition without an upper bound that is not allowed.
    """
    ways, before = 1, None
    items = list(_flattened(tree))
    for place, (operator, value) in enumerate(items, 1):
        kind, is_last = str(operator), last and place == len(items)
        if kind in _REPEATS:
            fenced = fences and _is_fenced(before, value)
            ways *= _ways_of_repetition(kind, value, last=is_last, fenced=fenced, fences=fences)
        elif kind == "BRANCH":
            ways *= sum(_ways(part, last=is_last, fences=fences) for part in _parts(value))
        else:
            looks = kind in {"ASSERT", "ASSERT_NOT"}  # consumes nothing, so what it scanned is scanned again
            ways *= math.prod(
                _ways(part, last=is_last and not looks, fences=fences) for part in _parts(value)
            )
        ways, before = min(ways, MAX_WAYS + 1), (kind, value)
    return ways


def _ways_of_repetition(kind: str, value: Any, *, last: bool, fenced: bool, fences: bool) -> int:
    low, high, body = value
    within = _ways(body, last=False, fences=fences)
    if high > MAX_LENGTH:
        if not last and not fenced:
            raise _UnboundedError
        return int(within**low)
    return int(within**high) if kind == "POSSESSIVE_REPEAT" else int((high - low + 1) * within**high)


def _flattened(tree: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the items of a sequence; a group is replaced by its own items, since it neither repeats nor chooses."""
    for operator, value in tree:
        if str(operator) == "SUBPATTERN":
            yield from _flattened(value[-1])
        else:
            yield operator, value


def _is_fenced(before: tuple[str, Any] | None, repetition: Any) -> bool:
    """Return whether a repetition of one set of characters can only start where a run of such characters starts.

    Then at most one start leads into each run, and a run is scanned once. The same holds for a chain of such repetitions: what
    lies between two of them has bounded length, so each start of the second belongs to few ends of the first, which belongs to
    one start of its own.
    """
    body = list(repetition[2])
    if before is None or len(body) != 1 or str(body[0][0]) not in {"IN", "LITERAL", "NOT_LITERAL", "ANY"}:
        return False
    kind, value = before
    if kind == "LITERAL":
        return not _matches(body[0], chr(value))
    if kind == "AT":
        return str(value) == "AT_BOUNDARY" and _is_word_only(body[0])
    if kind == "ASSERT_NOT":
        direction, looked_at = value
        return bool(direction < 0 and repr(list(looked_at)) == repr(body))
    return False


def _matches(item: tuple[Any, Any], char: str) -> bool:
    """Return whether an item of one character matches *char* in any case."""
    kind, value = str(item[0]), item[1]
    cases = {char, char.lower(), char.upper()}  # the pattern, or a group in it, may ignore case
    if kind == "ANY":
        return True
    if kind in {"LITERAL", "NOT_LITERAL"}:
        return (chr(value) in cases) == (kind == "LITERAL")
    members = [(str(operator), member) for operator, member in value]
    is_member = any(_is_member(operator, member, case) for operator, member in members for case in cases)
    return is_member != (members[0][0] == "NEGATE")


def _is_member(operator: str, value: Any, char: str) -> bool:
    if operator == "LITERAL":
        return char == chr(value)
    if operator == "RANGE":
        return bool(value[0] <= ord(char) <= value[1])
    return operator == "CATEGORY" and _CATEGORIES[str(value)](char)


def _is_word_only(item: tuple[Any, Any]) -> bool:
    """Return whether an item matches only letters, digits and the underscore, as far as its members tell."""
    kind, value = str(item[0]), item[1]
    if kind != "IN":
        return kind == "LITERAL" and _is_word_member(kind, value)
    return all(_is_word_member(str(operator), member) for operator, member in value)


def _is_word_member(operator: str, value: Any) -> bool:
    if operator == "RANGE":
        # Every character of the range is checked: [A-z] has punctuation in its middle. A range that leaves ASCII is not trusted.
        low, high = value
        return bool(high <= ord("z")) and all(
            _CATEGORIES["CATEGORY_WORD"](chr(code)) for code in range(low, high + 1)
        )
    if operator == "LITERAL":
        return _CATEGORIES["CATEGORY_WORD"](chr(value))
    return operator == "CATEGORY" and str(value) in {"CATEGORY_DIGIT", "CATEGORY_WORD"}


def _parts(value: Any) -> Iterator[Any]:
    """Yield the patterns within a group, a branch, a condition or a look-around."""
    if isinstance(value, _parser.SubPattern):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _parts(part)


# --- by its speed -----------------------------------------------------------------------------------------------


def _is_slow(compiled: re.Pattern[str], probe: tuple[str, str], clock: Callable[[], float]) -> bool:
    """Return whether *compiled* exceeds the budget on a probe, twice in a row: once may be the machine's doing."""
    head, unit = probe
    for length in _LENGTHS:
        text = (
            head + unit * (length // len(unit)) + "\0"
        )  # no pattern expects NUL: each match fails at the end of the text
        if all(_seconds(compiled, text, clock) > BUDGET for _ in range(2)):
            return True
    return False


def _seconds(compiled: re.Pattern[str], text: str, clock: Callable[[], float]) -> float:
    start = clock()
    compiled.sub("", text)
    return clock() - start


def _probes(tree: Iterable[Any]) -> list[tuple[str, str]]:
    """Return probes as (head, unit): the unit is repeated, after the text that the pattern expects before it."""
    samples = list(_samples(tree))[: _MAX_PROBES // 3]
    whole = "".join(samples)
    pairs = [first + second for first, second in pairwise(samples)]
    probes = [("", unit) for unit in (*samples, whole, *pairs, *_COMMON) if unit]
    probes += [("".join(samples[:place]), sample) for place, sample in enumerate(samples) if place]
    return list(dict.fromkeys(probes))[: 2 * _MAX_PROBES]


def _samples(tree: Iterable[Any]) -> Iterator[str]:
    """Yield one matching character for each place of the pattern that matches one character."""
    for operator, value in tree:
        kind = str(operator)
        if kind == "LITERAL":
            yield chr(value)
        elif kind == "IN":
            yield _sample_of_set(value)
        elif kind in {"ANY", "NOT_LITERAL"}:
            yield "a"
        else:
            for part in _parts(value):
                yield from _samples(part)


def _sample_of_set(items: Sequence[Any]) -> str:
    """Return a character of a set such as `[a-z_]`; a letter for a negated set."""
    operator, value = items[0]
    kind = str(operator)
    if kind == "NEGATE":
        return "a"
    if kind == "CATEGORY":
        return {"CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " ", "CATEGORY_WORD": "a"}.get(str(value), "-")
    return chr(value[0] if kind == "RANGE" else value)
