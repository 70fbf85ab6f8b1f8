"""Scores the classification on labelled real provider errors: `python -m benchmarks.classification [--json] [--speed]`."""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resilience.failure import ErrorCategory, Evidence, Failure, classify_evidence
from resilience.failure.body import unwrap
from resilience.failure.classify import _case
from resilience.failure.lexicon import WORDS
from resilience.failure.meaning import votes_of_texts
from resilience.failure.message import message_of
from resilience.failure.remembered import forget
from resilience.failure.retry_after import stated_delay

CORPUS = Path(__file__).parents[1] / "tests" / "data" / "provider_errors.jsonl"
UNSEEN = CORPUS.with_name("unseen_errors.jsonl")
"""Errors that no rule had seen when their labels were written; `batch` says in which order they were judged."""
TOLERANCE = 0.5
"""Seconds by which a delay may differ from its label: Gemini states two, and rounds one of them."""

FIRST_SIGHT = {
    "1 (judged by memorised sentences)": ((50, 64), (33, 38)),
    "2": ((54, 59), (22, 22)),
    "3": ((51, 57), (30, 32)),
    "4": ((37, 39), (9, 9)),
    "5": ((86, 94), (40, 40)),
    "6": ((34, 40), (13, 15)),
    "7": ((62, 68), (38, 40)),
    "8 (without near-duplicates of earlier ones)": ((50, 62), (24, 27)),
    "9 (without near-duplicates of earlier ones)": ((61, 73), (29, 34)),
}
"""Right and all, of the undebated errors and of those about billing or throttling, when a batch was first judged."""

_BILLING = {ErrorCategory.QUOTA_EXHAUSTED, ErrorCategory.RATE_LIMIT}
_WORD = re.compile(r"[a-z]+")
Case = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Share:
    """A share: *right* cases out of *of*."""

    right: int
    of: int

    @property
    def percent(self) -> float:
        """The share in per cent; 100 where there are no cases."""
        return 100.0 * self.right / self.of if self.of else 100.0


@dataclass(frozen=True, slots=True)
class Score:
    """How much of the corpus is classified as labelled.

    Attributes:
        overall: the categories of all cases.
        undebated: the categories of the cases whose label is not debated.
        billing: the cases of billing and throttling that are not confused with each other.
        billing_undebated: those of them whose label is not debated.
        delays: the stated waits.
        recoverable: whether the failure is recoverable.
        recoverable_undebated: the same, for the cases whose label is not debated.
        misses: one line for each case that differs from its label.
    """

    overall: Share
    undebated: Share
    billing: Share
    billing_undebated: Share
    delays: Share
    recoverable: Share
    recoverable_undebated: Share
    misses: tuple[str, ...]


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share, in per cent (Wilson, 1927)."""
    if of == 0:
        return 0.0, 100.0
    p, centre = right / of, z * z / (2 * of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    scale = 100 / (1 + z * z / of)
    return scale * (p + centre - half), scale * (p + centre + half)


def corpus(path: Path = CORPUS) -> list[dict[str, Any]]:
    """Return the labelled cases of the file *path*."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def evidence(case: Case) -> Evidence:
    """Return what an attempt would have left behind. A case without a body has the text of an exception."""
    text = case["transport_text"]
    return Evidence(
        exception=None if text is None else Exception(text),
        status=case["status"],
        headers=case["headers"],
        body=case["body"],
    )


def score(cases: Iterable[Case]) -> Score:
    """Classify every case and count."""
    classified = [(case, classify_evidence(evidence(case))) for case in cases]
    clear = [pair for pair in classified if not pair[0]["debatable"]]
    money = [pair for pair in classified if pair[0]["category"] in _BILLING]
    return Score(
        overall=_share(classified, _right),
        undebated=_share(clear, _right),
        billing=_share(money, _not_confused),
        billing_undebated=_share([pair for pair in money if not pair[0]["debatable"]], _not_confused),
        delays=_share(classified, _delay_right),
        recoverable=_share(classified, _recoverable_right),
        recoverable_undebated=_share(clear, _recoverable_right),
        misses=tuple(line for pair in classified for line in _misses(*pair)),
    )


def _share(classified: list[tuple[Case, Failure]], right: Any) -> Share:
    return Share(sum(right(*pair) for pair in classified), len(classified))


def _right(case: Case, failure: Failure) -> bool:
    return bool(failure.category == case["category"])


def _not_confused(case: Case, failure: Failure) -> bool:
    """Return whether billing is classified as billing, and throttling is not."""
    billing = failure.category is ErrorCategory.QUOTA_EXHAUSTED
    return billing is bool(case["category"] == ErrorCategory.QUOTA_EXHAUSTED)


def _delay_right(case: Case, failure: Failure) -> bool:
    """Return whether the wait is that of the label. A label of 0 is a 0 of the provider, which states no wait."""
    label, delay = case["retry_after_s"] or None, failure.retry_after
    if label is None or delay is None:
        return label is delay
    return bool(abs(label - delay) <= TOLERANCE)


def _recoverable_right(case: Case, failure: Failure) -> bool:
    return bool(failure.recoverable == case["recoverable"])


def _misses(case: Case, failure: Failure) -> list[str]:
    wrong = []
    if not _right(case, failure):
        wrong.append(f"{failure.category} for {case['category']}")
    if not _delay_right(case, failure):
        wrong.append(f"delay {failure.retry_after} for {case['retry_after_s']}")
    if not _recoverable_right(case, failure):
        wrong.append(f"recoverable {failure.recoverable} for {case['recoverable']}")
    mark = " (debated)" if case["debatable"] else ""
    return [f"{case['id']}{mark}: {'; '.join(wrong)}"] if wrong else []


_SPEED_TEXTS = {
    "a sentence, again and again": "You have sent too many requests in the last minute, try again in 20s. ",
    "hostile: opening brackets": '{"a":[',
    "hostile: words without an end": "error: 'a:b-c/`<if message=",
    "hostile: words of a class": "rate limit error ",
}


def _least(
    function: Callable[[Any], object], cases: Iterable[Any], *, words: bool | None, rounds: int
) -> list[float]:
    """Return the CPU seconds of *function* for each of *cases*, the least of *rounds*, sorted.

    Args:
        function: what is measured.
        cases: what it is called with, one after another.
        words: whether the words are forgotten before each call, besides all texts; None forgets nothing.
        rounds: how often each case is measured. All others lie between two rounds.
    """
    cases = list(cases)
    least = [float("inf")] * len(cases)
    for _ in range(rounds):
        for number, case in enumerate(cases):
            if words is not None:
                forget(words=words)
            start = time.thread_time()
            function(case)
            least[number] = min(least[number], time.thread_time() - start)
    return sorted(least)


def speed(rounds: int = 15) -> Iterable[tuple[str, int, float]]:
    """Yield a kind of text, a size in characters and the CPU seconds of one classification: the least of *rounds*."""
    for name, unit in _SPEED_TEXTS.items():
        for size in (1000, 2000, 4000, 8000, 16_000):
            case = Evidence(status=429, body=(unit * (size // len(unit) + 1))[:size])
            yield name, size, _least(classify_evidence, [case], words=False, rounds=rounds)[0]


def real_errors(size: int = 1000) -> list[Evidence]:
    """Return each shorter error of both corpora, filled up to *size* characters with the texts of other errors."""
    cases = [case for case in (*corpus(), *corpus(UNSEEN)) if case["body"]]
    prose = " ".join(case["body"] for case in cases if case["body"][0] not in "{[<")
    return [
        replace(evidence(case), body=f"{case['body']} {prose[number * 80 :]}"[:size])
        for number, case in enumerate(cases)
        if len(case["body"]) < size
    ]


def speed_of_real_errors(rounds: int = 9) -> Iterable[tuple[str, list[float]]]:
    """Yield what is measured on `real_errors`, and the CPU seconds for each of them, sorted.

    The first figure is that of an error whose text was never seen, in a process that has read others. The parts are measured for
    themselves; they run on the thread of the caller, as all of the classification does.
    """
    found = real_errors()
    yield "a new text", _least(classify_evidence, found, words=False, rounds=rounds)
    yield "a new text, no word known", _least(classify_evidence, found, words=True, rounds=3)
    again = (_least(classify_evidence, [each], words=None, rounds=rounds)[0] for each in found)
    yield "the same text again", sorted(again)
    cases = [_case(each, None) for each in found]
    judged = [(case, classify_evidence(case.evidence).category) for case in cases]
    parts: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
        "  the body, read as JSON and literals": (lambda each: unwrap(each.body), found),
        "  sentences and rules": (lambda case: votes_of_texts(case.texts, case.status, case.delay), cases),
        "  the stated wait": (lambda case: stated_delay({}, case.body, None, throttled=False), cases),
        "  the message, redacted": (lambda pair: message_of(pair[1], pair[0].evidence, pair[0].body), judged),
        "floor: json.loads, where it is JSON": (_loads, found),
        "floor: words found by one pattern, looked up": (_look_up, found),
    }
    for name, (function, items) in parts.items():
        yield name, _least(function, items, words=False, rounds=rounds)


def _loads(each: Evidence) -> None:
    with suppress(ValueError):
        json.loads(each.body or "")


def _look_up(each: Evidence) -> int:
    """Find the words of a text and join their concepts: what no reading by words can do without."""
    bits = 0
    for entry in map(WORDS.get, _WORD.findall((each.body or "").lower())):
        if entry is not None:
            bits |= entry[0]
    return bits


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, score the corpus, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="another file of labelled cases")
    parser.add_argument(
        "--speed", action="store_true", help="print the CPU time for texts of doubling size instead"
    )
    options = parser.parse_args(arguments)
    if options.speed:
        print_speed()
        return
    result = score(corpus(options.corpus))
    if options.json:
        print(json.dumps(asdict(result), indent=2))
        return
    for name in (
        "overall",
        "undebated",
        "billing",
        "billing_undebated",
        "delays",
        "recoverable",
        "recoverable_undebated",
    ):
        share: Share = getattr(result, name)
        print(f"{name.replace('_', ', '):24} {share.right:4} of {share.of:4}  {share.percent:5.1f} %")
    print(*(f"  {line}" for line in result.misses), sep="\n")
    print_first_sight()


def print_speed() -> None:
    """Print the CPU time for real errors of 1,000 characters, its parts, what it cannot fall below, and texts of doubling size."""
    for name, seconds in speed_of_real_errors():
        median, most = (seconds[len(seconds) * tenths // 10] * 1e6 for tenths in (5, 9))
        print(f"{name:46} {len(seconds)} errors  median {median:5.0f} us, 90 % at most {most:5.0f} us")
    for name, size, least in speed():
        print(f"{name:32} {size:6} characters  {least * 1e6:8.0f} us  {least * 1e9 / size:7.0f} us per 1000")


def print_first_sight() -> None:
    """Print how much of each batch was right when it was first judged, with 95 % intervals, and all batches but the first."""
    print("right at first sight: undebated errors; of them, billing not confused with throttling")
    for batch, shares in FIRST_SIGHT.items():
        print(f"  batch {batch:44}", "  ".join(_with_interval(*share) for share in shares))
    columns = zip(*list(FIRST_SIGHT.values())[1:], strict=True)
    sums = [[sum(numbers) for numbers in zip(*column, strict=True)] for column in columns]
    print(f"  {'batches 2 to the last':50}", "  ".join(_with_interval(*share) for share in sums))


def _with_interval(right: int, of: int) -> str:
    low, high = wilson(right, of)
    return f"{right:4} of {of:4} {100 * right / of:5.1f} % ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
