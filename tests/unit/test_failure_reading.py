"""Texts read as sentences of concepts: as a plain evaluation reads them, in proportion to their length, with a bounded memory."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.failure import Evidence, classify_evidence, reading
from resilience.failure.concepts import Concept
from resilience.failure.lexicon import STEMS, UNSPACED, WORDS
from resilience.failure.meaning import RULES
from resilience.failure.reading import Sentence, read
from resilience.failure.remembered import LONGEST_TEXT, MOST_WORDS, forget
from resilience.failure.rule_set import RuleSet

TELLING: list[str] = [
    "didn\u2019t",
    *[
        "not",
        "no",
        "too",
        "limit",
        "balance",
        "low",
        "long",
        "few",
        "0",
        "0.00",
        "-3",
        "-3,000",
        "5",
        "63",
        "64",
        "9,000",
        "128000",
        "zzz",
        "can't",
    ],
]
WORD = (
    st.sampled_from(TELLING)
    | st.sampled_from([word for word in sorted(WORDS) if word.isascii()])
    | st.sampled_from([f"{stem}xx" for stem in sorted(STEMS) if stem.isascii()])
    | st.sampled_from(sorted(UNSPACED))
)
END = st.sampled_from([" ", " ", " ", " ", " ", ". ", "! ", "; ", ", "])


def plainly(tokens: list[str]) -> Sentence:
    """Return what *tokens* say, each looked at for itself, with all that stand before it."""
    said: list[int] = []
    numbers: list[float] = []
    for at, token in enumerate(tokens):
        entry = WORDS.get(token)
        value = float(token.replace(",", "")) if re.fullmatch(r"-?[\d,.]+", token) else None
        if entry is not None:
            before = WORDS.get(tokens[at - 1]) if at else None
            bits = entry.bits | ((before and before.pairs) or {}).get(token, 0)
            if any(bits_ & Concept.NOT for bits_ in said[-5:]):
                bits = bits & ~int(Concept.SPENT | Concept.REACHED) | entry.negated
        elif value is not None:
            numbers += [value] if value < 0 or value >= 64 else []
            near = any(bits_ & (Concept.MONEY | Concept.LIMIT) for bits_ in said[-2:])
            bits = int(Concept.LACKING) if value <= 0 and near else 0
        elif token.endswith("n't"):
            bits = int(Concept.NOT)
        else:
            stems = [stem for stem in STEMS if token.startswith(stem)]
            bits = STEMS[max(stems, key=len)] if stems else unspaced(token)
        if said and said[-1] & Concept.TOO and not bits & Concept.TOO:
            bits |= int(
                Concept.TOO_BIG
                if bits & Concept.SIZE
                else Concept.LACKING
                if bits & Concept.LITTLE
                else Concept(0)
            )
        said.append(bits)
    union = 0
    for bits in said:
        union |= bits
    return Sentence(union, tuple(numbers[:8]))


def unspaced(run: str) -> int:
    """Return the concepts of a run of characters, the longest word first."""
    found = 0
    while run:
        word = max((word for word in UNSPACED if run.startswith(word)), key=len, default=run[0])
        found |= UNSPACED.get(word, 0)
        run = run.removeprefix(word)
    return found


@settings(max_examples=60)
@given(st.lists(st.tuples(WORD, END), max_size=25))
def test_a_text_is_read_as_each_word_for_itself(words: list[tuple[str, str]]) -> None:
    """The fast reading of a whole text finds the same concepts and numbers as a plain evaluation of each word."""
    text = "".join(word + end for word, end in words)
    sentences = re.split(r"[.!;] ", text.replace("\u2019", "'"))
    plain = [plainly(re.findall(r"-?\d[\d,]*(?:\.\d+)?|[^\s,]+", sentence)) for sentence in sentences]

    assert read(text) == list(dict.fromkeys(sentence for sentence in plain if sentence.bits))


@settings(max_examples=40)
@given(st.text("aifnotzl 0.,;-/'\"<>=·:!\n\t\u00a0余额", max_size=60))
def test_a_second_reading_is_no_other(text: str) -> None:
    """What is remembered of the words of a text does not change what it says."""
    forget()
    first = read(text)

    assert read(text) == first


@pytest.mark.parametrize(
    ("word", "remembered"),
    [("quota,", 1), ("(429)", 1), ("sk-proj-a1b2c3d4e5f6", 0), ("x" * 65, 0)],
)
def test_words_of_others_do_not_fill_the_memory(word: str, remembered: int) -> None:
    """Words return and are remembered; ids and keys are not, nor is what is long, and there is an upper limit."""
    forget()
    read(word)

    assert remembered == (word in reading._TOKENS)
    for number in range(MOST_WORDS // 2 + 2):
        read(f"w{number} v{number}")
    assert len(reading._TOKENS) <= MOST_WORDS
    assert word not in reading._TOKENS


@pytest.mark.parametrize("length", [LONGEST_TEXT - 20, LONGEST_TEXT + 20])
def test_the_same_text_is_read_once(length: int) -> None:
    """An outage repeats its message: of a text that is not too long nothing is read again, and the result is the same."""
    forget()
    body = '{"error":{"message":"Too many requests, try again in 5s. ' + "x" * length + '"}}'
    evidence = Evidence(status=429, body=body)
    first = classify_evidence(evidence)
    again = calls(lambda: classify_evidence(evidence))
    forget(words=False)
    anew = calls(lambda: classify_evidence(evidence))

    assert classify_evidence(evidence) == first
    assert (again < anew) is (len(body) <= LONGEST_TEXT)


@settings(max_examples=30)
@given(st.sets(st.sampled_from(list(Concept)), max_size=6), st.sampled_from([None, 429, 500]))
def test_remembered_rules_are_the_same_rules(concepts: set[Concept], status: int | None) -> None:
    """A set of concepts that returns has the votes that it had at first."""
    bits = sum(concepts)
    fresh = RuleSet(RULES.rules)

    assert (
        fresh.votes(bits, bits, status) == RULES.votes(bits, bits, status) == RULES.votes(bits, bits, status)
    )


def calls(function: Callable[[], object]) -> int:
    """Return how many functions, of Python and of C, *function* calls."""
    count = 0

    def profiler(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


UNITS = ["quota exceeded. ", "if ", "not ", "a-1/", "Rate Limit Error, Error code: 429 ", "https://a.b/c ", "<a ", "{'a': 'b'} ", "9,000 ", "余额",
         "aB", "try again in 5s ", "{", "[{", '{"a":"b"}', "=none ", "message : ", "`a/b` ", ". ", "·"]  # fmt: skip


@settings(max_examples=20)
@given(st.lists(st.sampled_from(UNITS), min_size=1, max_size=3))
def test_twice_the_text_takes_at_most_twice_the_steps(units: list[str]) -> None:
    """The steps are in proportion to the length, whatever the text."""
    unit = "".join(units)
    short, long = (Evidence(status=429, body=unit * (size // len(unit))) for size in (800, 1600))
    classify_evidence(long)

    def steps(evidence: Evidence) -> int:
        forget(words=False)
        return calls(lambda: classify_evidence(evidence))

    assert steps(long) <= 2.2 * steps(short) + 400
