"""Reads a text as sentences of concepts: words are looked up in the lexicon, pairs and negations are joined.

The time is proportional to the length, whatever the text: one search finds the words, each word costs a few look-ups.
Addresses are left out, because `https://…/settings/billing` says nothing about money.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from resilience.failure.concepts import Concept
from resilience.failure.lexicon import (
    LONGEST_STEM,
    LONGEST_UNSPACED,
    SHORTEST_STEM,
    STEM_STARTS,
    STEMS,
    UNSPACED,
    UNSPACED_STARTS,
    WORDS,
)

# The patterns begin with a letter or a set of characters, and look back at what stands before it. The search then skips to
# these characters, which takes a fraction of the time of a pattern that begins with a look-behind or `\b`.
_ADDRESS: Final = re.compile(r"(?:h(?<!\wh)ttps?://|w(?<!\ww)(?:ss?://|ww\.))[^\s\"'<>(){}\[\]，。]*+")  # noqa: RUF001 - full-width signs end an address
_CLASS_NAME: Final = re.compile(r"[A-Z](?<!\w.)[A-Za-z]{1,60}?(?:Error|Exception)\b")
"""The class of an exception in front of its text, which the tables of codes know better."""
_CONDITION: Final = re.compile(r"[iuwIUW](?<!\w.)(?i:(?<=i)f|(?<=w)hether|(?<=u)nless)\b[^,.;:!?\n]{0,200}+")
"""A condition states no fact: "check whether the answer was blocked", "if you need a higher limit, upgrade"."""
_NOISE: Final = tuple(
    (needle, re.compile(pattern, re.IGNORECASE))
    for needle, pattern in (
        ("<", r"<[a-z!/][^<>]{0,300}+(?:>|\Z)"),  # a tag
        ("generatecontent", r"\bgeneratecontent\w*+"),  # a method
        ("content-", r"\bcontent-(?:type|length|encoding|security-policy)\b"),  # a header
        ("`", r"`[\w.:@]*+[/-][\w./:@-]{0,100}+`"),  # a name in backticks
        ("'", r"'\w[\w.,@/-]{0,60}+:[\w.:,@/-]{1,100}+'"),  # a name of several parts in quotes
        ("=n", r"\b\w{1,40}=(?:none|null)\b"),  # a field without a value
        ("message", r"[mM](?<!\w.)essage(?=\s?[=:])"),  # the label of a text
        ("failed with status", r"\brequest failed with status\b"),  # axios's words for any status
        ("when calling the", r"\bwhen calling the \w++ operation\b"),  # where botocore was
    )
)
"""What only looks like prose, each with what a text must hold to be searched for it at all.

The model `text-moderation-007` has moderated nothing, `Content-Type` is no content.
"""
_CLASS_IN_WORDS: Final = re.compile(
    r"(?:\b[a-z]{2,20} ){1,4}error(?=,? (?:error )?(?:code: )?[45]\d\d\b)", re.IGNORECASE
)
"""A class put into words, in front of its status: "Rate Limit Error, Error code: 429"."""
_ENDS_A_CLASS: Final = re.compile(r" error,? (?:error )?(?:code: )?[45]\d\d")
_NUMBERED: Final = re.compile(r"(?<![\w/-])[a-z]++(?:[/-][a-z]++)*+-\d[\w.-]*+", re.IGNORECASE)
"""A name with a number: text-moderation-007."""
_ENDS_A_NAME: Final = re.compile(r"-\d")
_PATH: Final = re.compile(
    r"(?<![\w./:-])(?:\w[\w-]{1,40}(?:\.[\w-]{2,40}){1,5}/[\w./-]++|/[\w-]{1,40}+(?:/[\w.-]{1,60}+)++)"
)
"""An address without its scheme, or a path: generativelanguage.googleapis.com/input_token_count, /chat/completions."""
_HUMP: Final = re.compile(r"[A-Z](?<=[a-z].)")
"""A capital behind a small letter: `insufficientUserQuota` is three words."""
_TOKEN: Final = re.compile(
    r"""
    [a-zß-ÿа-яё]++(?:(?<=n)'t\b)?                   # a word; "can't" is one, "account's" and "l'accès" are two
  | (?<!\w)-?\d[\d,]*+(?:\.\d++)?                   # a number
  | [\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]++     # Chinese, Japanese, Korean: words without spaces
    """,
    re.VERBOSE,
)
_END: Final = re.compile(
    r"[.!?;\n。！？；•·\u2190-\u2bff\U0001f000-\U0001faff](?:(?<![.!?])|(?=\s|\Z))(?:(?<!·)|(?!\s*resets?\b))"  # noqa: RUF001 - the full-width signs are meant
)
"""The end of a sentence. Command lines put arrows, boxes and pictures between theirs."""
_AFTER_LETTERS: Final = "\u0452"
"""Tokens from here on are runs of characters without spaces, and digits of other scripts."""
_FAR: Final = 1000
_NEGATION_REACHES: Final = 5
"""Words over which a "not" reaches: "could not be found", "does not have any credits"."""
_ZERO_REACHES: Final = 2
"""Words from money or a limit to the zero that belongs to it: "balance: 0.00", "limit: 0"."""
_LARGE: Final = 64.0
"""The smallest number that can be a length or a limit of tokens."""

_NOT, _TOO, _SIZE, _TOO_BIG = (int(c) for c in (Concept.NOT, Concept.TOO, Concept.SIZE, Concept.TOO_BIG))
_MONEY, _LACKING, _LITTLE = (int(c) for c in (Concept.MONEY | Concept.LIMIT, Concept.LACKING, Concept.LITTLE))
_NOT_YET: Final = ~int(Concept.SPENT | Concept.REACHED)
"""What a negation takes away: a budget that "has not been consumed" is not spent."""
_OPERATORS: Final = _NOT | _TOO | _MONEY | _SIZE | _LITTLE


class Sentence(NamedTuple):
    """What one sentence says.

    Attributes:
        bits: its concepts, one bit each.
        numbers: its numbers that can be lengths or limits, and the negative ones, in their order.
    """

    bits: int
    numbers: tuple[float, ...] = ()


def read(text: str) -> list[Sentence]:
    """Return the sentences of *text* that hold a concept, without repetitions."""
    text = _without_noise(text).lower().replace("\u2019", "'")
    parts = dict.fromkeys(_END.split(text))  # gateways say everything twice
    sentences = (_sentence(_TOKEN.findall(part)) for part in parts)
    return list(dict.fromkeys(sentence for sentence in sentences if sentence.bits))


def _without_noise(text: str) -> str:
    """Return *text* without what only looks like prose. Looking for a needle first costs far less than a search."""
    lowered = text.lower()
    if "://" in lowered or "www." in lowered:
        text = _ADDRESS.sub(" ", text)
    if "Error" in text or "Exception" in text:
        text = _CLASS_NAME.sub(" ", text)
    for needle, pattern in _NOISE:
        if needle in lowered:
            text = pattern.sub(" ", text)
    if _ENDS_A_CLASS.search(lowered) is not None:
        text = _CLASS_IN_WORDS.sub(" ", text)
    if "/" in text or _ENDS_A_NAME.search(lowered) is not None:
        # The patterns hold no blank, and most words have neither sign.
        text = " ".join(
            [_without_names(word) if "/" in word or "-" in word else word for word in text.split(" ")]
        )
    if "if" in lowered or "whether" in lowered or "unless" in lowered:
        text = _CONDITION.sub(" ", text)
    return _HUMP.sub(r" \g<0>", text)


def _without_names(word: str) -> str:
    """Return *word* without the addresses, paths and numbered names in it."""
    return _NUMBERED.sub(" ", _PATH.sub(" ", word) if "/" in word else word)


@lru_cache(maxsize=512)
def read_code(code: str) -> Sentence:
    """Return what the words of a code say: `insufficientUserQuota`, `err_rate_limited`, `team-blocked:spending-limit`.

    A provider has few codes, so they are remembered.
    """
    words = code.replace("_", " ").replace("-", " ").replace(".", " ")
    return Sentence(union(read(words)))


def union(sentences: list[Sentence]) -> int:
    """Return the concepts of all *sentences*."""
    bits = 0
    for sentence in sentences:
        bits |= sentence.bits
    return bits


def _sentence(tokens: list[str]) -> Sentence:
    """Read the sentence of *tokens*. The loop runs for each word of a text, so it calls nothing for common words."""
    found = 0
    numbers: list[float] = []
    pairs: Mapping[str, int] | None = None
    too = money = -_FAR
    negated_until = -1
    word = WORDS.get
    for place, token in enumerate(tokens):
        entry = word(token)
        if entry is not None:
            bits, negated, behind = entry
            if pairs is not None:
                bits |= pairs.get(token, 0)
            if place <= negated_until:
                bits = bits & _NOT_YET | negated
            pairs = behind
        else:
            pairs = None
            if (
                "a" <= token < _AFTER_LETTERS
                and token[:SHORTEST_STEM] not in STEM_STARTS
                and "'" not in token
            ):
                continue
            bits = _unlisted(token, place - money, numbers)
        if bits & _OPERATORS:
            negated_until = place + _NEGATION_REACHES if bits & _NOT else negated_until
            money = place if bits & _MONEY else money
            too, bits = (place, bits) if bits & _TOO else (too, bits | _much(bits, place - too))
        found |= bits
    return Sentence(found, tuple(numbers[:8]))


def _unlisted(token: str, from_money: int, numbers: list[float]) -> int:
    """Return the concepts of what is no word of the lexicon: a number, a run of characters, an inflected word.

    Args:
        token: the token.
        from_money: tokens since money or a limit was named.
        numbers: the numbers of the sentence so far; a number that can be a length is added.
    """
    if token[0] == "-" or token[0].isdigit():
        value = float(token.replace(",", "")[:20])
        if value >= _LARGE or value < 0:
            numbers.append(value)
        return _LACKING if value <= 0 and from_money <= _ZERO_REACHES else 0
    if token >= _AFTER_LETTERS:
        return _unspaced(token)
    if token.endswith("n't"):
        return _NOT
    lengths = range(min(LONGEST_STEM, len(token)), SHORTEST_STEM - 1, -1)
    return next((STEMS[token[:length]] for length in lengths if token[:length] in STEMS), 0)


def _much(bits: int, from_too: int) -> int:
    """Return what *bits* mean directly behind a word for "too": "zu lang", "trop long", "demasiado largo"."""
    if from_too != 1:
        return 0
    return _TOO_BIG if bits & _SIZE else _LACKING if bits & _LITTLE else 0


def _unspaced(run: str) -> int:
    """Return the concepts of a run of characters: at each place those of the longest word of the lexicon."""
    bits = place = 0
    while place < len(run):
        if run[place] not in UNSPACED_STARTS:
            place += 1
            continue
        lengths = range(min(LONGEST_UNSPACED, len(run) - place), 0, -1)
        length = next((length for length in lengths if run[place : place + length] in UNSPACED), 0)
        bits |= UNSPACED.get(run[place : place + length], 0)
        place += length or 1
    return bits
