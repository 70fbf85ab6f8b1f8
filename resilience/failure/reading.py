"""Reads a text as sentences of concepts: words are looked up in the lexicon, pairs and negations are joined.

The time is proportional to the length, whatever the text: it is split at its blanks, and what stands between two of them is looked
up. A word that was seen before, with the signs around it, costs one look-up; only a new one is searched by patterns.
Addresses are left out, because `https://…/settings/billing` says nothing about money.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
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
from resilience.failure.remembered import ByWord, by_text

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
        ("=n", r"\b\w{1,40}=(?:none|null)\b"),  # a field without a value
        ("message ", r"\bmessage(?= [=:])"),  # the label of a text
        ("failed with status", r"\brequest failed with status\b"),  # axios's words for any status
        ("when calling the", r"\bwhen calling the \w++ operation\b"),  # where botocore was
        ("·", r"·(?=\s*resets?\b)"),  # what a limit is followed by: no end of a sentence
    )
)
"""What only looks like prose and may hold blanks, each with what a text must hold to be searched for it at all."""
_NOISE_IN_WORDS: Final = tuple(
    (needle, re.compile(pattern, re.IGNORECASE))
    for needle, pattern in (
        ("generatecontent", r"\bgeneratecontent\w*+"),  # a method
        ("content-", r"\bcontent-(?:type|length|encoding|security-policy)\b"),  # a header
        ("`", r"`[\w.:@]*+[/-][\w./:@-]{0,100}+`"),  # a name in backticks
        ("'", r"'\w[\w.,@/-]{0,60}+:[\w.:,@/-]{1,100}+'"),  # a name of several parts in quotes
        ("message", r"[mM](?<!\w.)essage(?=\s?[=:])"),  # the label of a text
    )
)
"""The same within one word. The model `text-moderation-007` has moderated nothing, `Content-Type` is no content."""
_ENDS_A_CLASS: Final = re.compile(r" error(?=,? (?:error )?(?:code: )?[45]\d\d\b)")
_CLASS_IN_WORDS: Final = re.compile(r"(?:\b[a-z]{2,20} ){1,4}\Z", re.IGNORECASE)
"""A class put into words, in front of its status: "Rate Limit Error, Error code: 429"."""
_LONGEST_CLASS: Final = 4 * 21
_NUMBERED: Final = re.compile(r"(?<![\w/-])[a-z]++(?:[/-][a-z]++)*+-\d[\w.-]*+", re.IGNORECASE)
"""A name with a number: text-moderation-007."""
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
_NUMBER, _STOP = 1 << len(Concept), 1 << (len(Concept) + 1)
"""Bits of tokens that are no concepts: a number, and the end of a sentence."""
_OPERATORS: Final = _NOT | _TOO | _MONEY | _SIZE | _LITTLE | _NUMBER | _STOP

Token = tuple[str | float, int, int, Mapping[str, int] | None]
"""A word or number that says something: itself, and its `Entry`. A plain tuple, which Python unpacks fastest."""
_END_OF_SENTENCE: Final[Token] = ("", _STOP, _STOP, None)


class Sentence(NamedTuple):
    """What one sentence says.

    Attributes:
        bits: its concepts, one bit each.
        numbers: its numbers that can be lengths or limits, and the negative ones, in their order.
    """

    bits: int
    numbers: tuple[float, ...] = ()


_NOTHING: Final = Sentence(0)


def read(text: str) -> list[Sentence]:
    """Return the sentences of *text* that hold a concept, without repetitions.

    What may hold blanks is removed from the whole text. Everything else is a matter of single words, the signs around them included, and
    is remembered for each word: four of five words of an error were in errors before it.
    """
    words = map(_TOKENS.__getitem__, _without_noise(text).split(" "))
    tokens = chain.from_iterable((*words, (_END_OF_SENTENCE,)))
    sentences: dict[Sentence, None] = {}  # gateways say everything twice
    while (sentence := _sentence(tokens)) is not None:
        if sentence.bits:
            sentences[sentence] = None
    return list(sentences)


def _without_noise(text: str) -> str:
    """Return *text* without what only looks like prose and may hold blanks. To look for a needle first costs far less than a search."""
    lowered = text.lower()
    for needle, pattern in _NOISE:
        if needle in lowered:
            text = pattern.sub(" ", text)
    if " error" in lowered:
        text = _without_classes(text, text.lower())
    if "whether" in lowered or "unless" in lowered or ("if" in lowered and _stands_in(lowered, "if")):
        # An address may hold a comma, which would end the condition.
        text = _CONDITION.sub(" ", " ".join(map(_CLEANED.__getitem__, text.split(" "))))
    return text


def _without_classes(text: str, lowered: str) -> str:
    """Return *text* without classes put into words. Their end is searched, and from there backwards: a word may begin anywhere."""
    if len(lowered) != len(text):  # the Turkish dotted I becomes two characters
        text = lowered
    parts: list[str] = []
    done = 0
    for end in _ENDS_A_CLASS.finditer(lowered):
        at = end.start() + 1
        words = _CLASS_IN_WORDS.search(text, max(done, at - _LONGEST_CLASS), at)
        if words is not None:
            parts += text[done : words.start()], " "
            done = end.end()
    return "".join((*parts, text[done:]))


def _stands_in(text: str, word: str) -> bool:
    """Return whether *word* stands in *text* as a word of its own."""
    at = text.find(word)
    while at >= 0:
        around = text[at - 1 : at] + text[at + len(word) : at + len(word) + 1]
        if not (around[:1].isalnum() or around[-1:].isalnum()):
            return True
        at = text.find(word, at + 1)
    return False


def _cleaned(word: str) -> str:
    """Return *word* without the addresses, paths, numbered names and other parts in it that only look like prose."""
    lowered = word.lower()
    if "://" in lowered or "www." in lowered:
        word = _ADDRESS.sub(" ", word)
    if "Error" in word or "Exception" in word:
        word = _CLASS_NAME.sub(" ", word)
    for needle, pattern in _NOISE_IN_WORDS:
        if needle in lowered:
            word = pattern.sub(" ", word)
    if "/" in word:
        word = _PATH.sub(" ", word)
    return _NUMBERED.sub(" ", word) if "-" in word else word


def _tokens(word: str) -> tuple[Token | None, ...]:
    """Return what stands between two blanks as tokens; None for one without a meaning, which still takes its place."""
    text = _cleaned(word)
    if text.isspace():
        return ()
    text = _HUMP.sub(r" \g<0>", text).lower().replace("\u2019", "'")
    tokens: list[Token | None] = []
    for number, part in enumerate(_END.split(text)):
        if number:
            tokens.append(_END_OF_SENTENCE)
        tokens += map(_token, _TOKEN.findall(part))
    return tuple(tokens)


_CLEANED: Final = ByWord(_cleaned)
_TOKENS: Final = ByWord(_tokens)


@by_text
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


def _sentence(tokens: Iterator[Token | None]) -> Sentence | None:
    """Read *tokens* up to the end of a sentence; None behind the last one.

    The loop runs for each word of a text and takes most of the time of a classification, so it calls no function for a common word:
    the concepts of the sentence are one integer, and words that change others (`_OPERATORS`) are recognised by one test of bits.
    """
    found = 0
    numbers: list[float] = []
    pairs: Mapping[str, int] | None = None
    too = money = -_FAR
    negated_until = -1
    for place, token in enumerate(tokens):
        if token is None:
            pairs = None
            continue
        word, bits, negated, behind = token
        if pairs is not None:
            bits |= pairs.get(word, 0)  # type: ignore[arg-type]  # no number is in it
        if place <= negated_until:
            bits = bits & _NOT_YET | negated
        pairs = behind
        if bits & _OPERATORS:
            if bits & _STOP:
                return Sentence(found, tuple(numbers[:8])) if found else _NOTHING
            if bits & _NUMBER:
                bits = _number(float(word), place - money, numbers)
            negated_until = place + _NEGATION_REACHES if bits & _NOT else negated_until
            money = place if bits & _MONEY else money
            bits |= _much(bits) if place - too == 1 and not bits & _TOO else 0
            too = place if bits & _TOO else too
        found |= bits
    return None


def _number(value: float, from_money: int, numbers: list[float]) -> int:
    """Return what a number says: a zero directly behind money or a limit is a lack of it.

    Args:
        value: the number.
        from_money: tokens since money or a limit was named.
        numbers: the numbers of the sentence so far; one that can be a length is added.
    """
    if value >= _LARGE or value < 0:
        numbers.append(value)
    return _LACKING if value <= 0 and from_money <= _ZERO_REACHES else 0


def _token(token: str) -> Token | None:
    """Return what the lexicon has for *token*, which may be a word, a number, or a run of characters without spaces."""
    entry = WORDS.get(token)
    if entry is not None:
        return (token, *entry)
    if token[0] == "-" or token[0].isdigit():
        value = float(token.replace(",", "")[:20])
        return None if 0 < value < _LARGE else (value, _NUMBER, _NUMBER, None)
    bits = _unlisted(token)
    return (token, bits, bits, None) if bits else None


def _unlisted(token: str) -> int:
    """Return the concepts of what is no word of the lexicon: a run of characters, an inflected word."""
    if token >= _AFTER_LETTERS:
        return _unspaced(token)
    if token.endswith("n't"):
        return _NOT
    if token[:SHORTEST_STEM] not in STEM_STARTS:
        return 0
    lengths = range(min(LONGEST_STEM, len(token)), SHORTEST_STEM - 1, -1)
    return next((STEMS[token[:length]] for length in lengths if token[:length] in STEMS), 0)


def _much(bits: int) -> int:
    """Return what *bits* mean directly behind a word for "too": "zu lang", "trop long", "demasiado largo"."""
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
