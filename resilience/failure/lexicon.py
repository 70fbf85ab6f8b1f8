"""The lexicon: every word that providers use, in all their languages, as bits of concepts.

A word stands for one *concept* or for several: "depleted" is SPENT, 余额不足 is MONEY and LACKING. `reading.py` turns a
text into concepts, `meaning.py` has the rules over them. The words themselves are in `words_english.py` and
`words_other.py`. No entry is a provider's sentence: an entry is a word, or two words that mean something else together
than alone ("rate limit", "top up", "out of").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from resilience.failure.concepts import Concept
from resilience.failure.words_english import ENGLISH, NEGATIONS, TOGETHER
from resilience.failure.words_other import OTHERS, UNSPACED_WORDS

_VOWELS = frozenset("aeiou")


def forms_of(word: str) -> Iterator[str]:
    """Yield *word* with the regular endings of English verbs and nouns. A form that is no word does no harm."""
    yield word
    yield f"{word}s"
    if word.endswith("e"):
        yield from (f"{word}d", f"{word[:-1]}ing", f"{word[:-1]}ion")
    elif word.endswith("y"):
        yield from (f"{word[:-1]}ies", f"{word[:-1]}ied", f"{word}ing")
    else:
        yield from (f"{word}ed", f"{word}ing", f"{word}es")
        if len(word) > 2 and word[-1] not in _VOWELS and word[-2] in _VOWELS:  # noqa: PLR2004 - "cap", "capped"
            yield from (f"{word}{word[-1]}ed", f"{word}{word[-1]}ing")


def _collect(words: Iterable[tuple[str, Concept]]) -> dict[str, int]:
    collected: dict[str, int] = {}
    for word, concept in words:
        collected[word] = collected.get(word, 0) | int(concept)
    return collected


_all = [(word, concept) for concept, listed in OTHERS for word in listed.split()]
_words = _collect(
    [(form, concept) for concept, listed in ENGLISH for word in listed.split() for form in forms_of(word)]
    + [(word, concept) for word, concept in _all if not word.endswith("*")]
)
_pairs: list[tuple[str, str, Concept]] = []
for _concept, _listed in TOGETHER:
    for _pair in _listed.split("|"):
        _first, _second = _pair.split()
        _pairs.append((_first, _second, _concept))
_negated = _collect((word, concept) for concept, listed in NEGATIONS for word in listed.split())


class Entry(NamedTuple):
    """What the lexicon has for one word, each as bits of concepts.

    Attributes:
        bits: the concepts of the word itself.
        negated: what it means behind a negation.
        pairs: the words that mean something more behind this one; None if there is none.
    """

    bits: int
    negated: int
    pairs: Mapping[str, int] | None


def _entries() -> dict[str, Entry]:
    pairs: dict[str, dict[str, int]] = {}
    for first, second, concept in _pairs:
        behind = pairs.setdefault(first, {})
        behind[second] = behind.get(second, 0) | int(concept)
    listed = {*_words, *_negated, *pairs, *(second for behind in pairs.values() for second in behind)}
    return {word: Entry(_words.get(word, 0), _negated.get(word, 0), pairs.get(word)) for word in listed}


WORDS: Final = _entries()
"""A word in lower case to what it means."""
STEMS: Final = _collect((word[:-1], concept) for word, concept in _all if word.endswith("*"))
"""The beginning of a word to the bits of its concepts; looked up where `WORDS` has nothing."""
SHORTEST_STEM: Final = min(map(len, STEMS))
LONGEST_STEM: Final = max(map(len, STEMS))
STEM_STARTS: Final = frozenset(stem[:SHORTEST_STEM] for stem in STEMS)
"""The first characters of all stems: most words without an entry end here."""
UNSPACED: Final = _collect((word, concept) for concept, listed in UNSPACED_WORDS for word in listed.split())
"""A word of a language without spaces to the bits of its concepts."""
UNSPACED_STARTS: Final = frozenset(word[0] for word in UNSPACED)
LONGEST_UNSPACED: Final = max(map(len, UNSPACED))
