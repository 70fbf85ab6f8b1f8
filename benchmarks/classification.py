"""Scores the classification on labelled real provider errors: `python -m benchmarks.classification [--json] [--speed]`."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resilience.failure import ErrorCategory, Evidence, Failure, classify_evidence

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


def speed(rounds: int = 15) -> Iterable[tuple[str, int, float]]:
    """Yield a kind of text, a size in characters and the CPU seconds of one classification: the least of *rounds*."""
    for name, unit in _SPEED_TEXTS.items():
        for size in (1000, 2000, 4000, 8000, 16_000):
            case = Evidence(status=429, body=(unit * (size // len(unit) + 1))[:size])
            least = float("inf")
            for _ in range(rounds):
                start = time.thread_time()
                classify_evidence(case)
                least = min(least, time.thread_time() - start)
            yield name, size, least


def speed_of_real_errors(size: int = 1000, rounds: int = 15) -> list[float]:
    """Return the CPU seconds for each shorter error of both corpora, filled up to *size* characters: the least of *rounds*, sorted.

    It is filled with the texts of other errors. No verdict is remembered, so rounds on one text are no faster for it.
    """
    cases = [case for case in (*corpus(), *corpus(UNSEEN)) if case["body"]]
    prose = " ".join(case["body"] for case in cases if case["body"][0] not in "{[<")
    filled = [
        replace(evidence(case), body=f"{case['body']} {prose[number * 80 :]}"[:size])
        for number, case in enumerate(cases)
        if len(case["body"]) < size
    ]
    least = dict.fromkeys(range(len(filled)), float("inf"))
    for _ in range(rounds):
        for number, case in enumerate(filled):
            start = time.thread_time()
            classify_evidence(case)
            least[number] = min(least[number], time.thread_time() - start)
    return sorted(least.values())


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
        real = [seconds * 1e6 for seconds in speed_of_real_errors()]
        print(
            f"{len(real)} real errors, filled up to 1000 characters: median {real[len(real) // 2]:.0f} us, "
            f"90 % at most {real[len(real) * 9 // 10]:.0f} us"
        )
        for name, size, seconds in speed():
            print(
                f"{name:32} {size:6} characters  {seconds * 1e6:8.0f} us  {seconds * 1e9 / size:7.0f} us per 1000"
            )
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
