"""Measure the cost of redaction, and check that it is linear on hostile texts: `python -m benchmarks.redaction [--json]`."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from resilience.failure import sent_text
from resilience.privacy import Content, Level, Privacy
from resilience.redaction import Redactor, check_pattern, redact, redact_secrets, redact_whole

MESSAGE = (
    "Rate limit reached for gpt-4o in organization org-AbC123 on tokens per min (TPM): Limit 30000, Used 14567, "
    "Requested 24754. Please try again in 18.642s. Visit https://platform.openai.com/account/rate-limits to learn more. "
    "request id req_011CSHoEeqs5C35K2UUqR7Fy, 2026-01-01T12:00:00Z"
)
"""About 280 characters, as in messages of providers."""
HIT = (
    " sk-proj-AbCd_efGh-1234567890 of jane.doe@mail.example.com, card 4111 1111 1111 1111; password=hunter2 "
)
HOSTILE = {
    "at signs": "@",
    "addresses": "a@",
    "one word": "a",
    "digits": "1",
    "grouped digits": "4111 ",
    "key prefixes": "sk-",
    "token prefixes": "eyJ",
    "schemes": "://",
    "PEM": "-----BEGIN A-----",
    "names": "api_key",
    "quotes": "token='",
    "backslashes": 'token="\\',
    "account letters": "DE89",
    "cookies": "cookie:",
    "Azure marks": "aJQQJ9",
    "escapes": "\\n",
    "percent signs": "%41",
    "look-alikes": "\u2011",
    "values": 'token=a,b"c',
}
SMALL, LARGE = 50_000, 100_000
LINEAR = 2.6
"""Largest accepted ratio of costs for twice the text: 2 is linear, 4 is quadratic, the rest is noise of the machine."""
ROUNDS = 400
BUDGET = 1.0
"""Seconds of measurement for one case."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of processor time for one text: the median of the rounds, and the best of them."""

    what: str
    characters: int
    median: float
    best: float


@dataclass(frozen=True, slots=True)
class Growth:
    """The costs of a hostile text and of one twice as long; their ratio is close to 2 if redaction is linear."""

    what: str
    small: float
    large: float

    @property
    def ratio(self) -> float:
        """Cost of 100 000 characters over that of 50 000."""
        return self.large / self.small


def words(length: int, hits: int = 0) -> str:
    """Prose of about *length* characters, with *hits* secrets spread over it."""
    chosen = random.Random(7)  # noqa: S311 - the same text in every run
    vocabulary = [MESSAGE.split()[chosen.randrange(20)] for _ in range(200)] + [
        "hypothesis",
        "evidence",
        "review",
    ]
    text = " ".join(chosen.choice(vocabulary) for _ in range(length // 5))[:length]
    step = max(1, length // (hits + 1))
    for place in range(step, length - step // 2, step) if hits else ():
        text = text[:place] + HIT + text[place + len(HIT) :]
    return text[:length]


def measure(what: str, work: Callable[[], Any], characters: int) -> Cost:
    """Repeat *work* in rounds of about a millisecond or one call, for at most a second."""
    began = time.thread_time()
    work()
    inner = max(1, int(0.001 / max(time.thread_time() - began, 1e-7)))
    rounds: list[float] = []
    while time.thread_time() - began < BUDGET and len(rounds) < ROUNDS:
        start = time.thread_time()
        for _ in range(inner):
            work()
        rounds.append((time.thread_time() - start) / inner * 1e6)
    return Cost(what, characters, statistics.median(rounds), min(rounds))


def costs() -> list[Cost]:
    """Measure every text with every kind of redaction."""
    project = Redactor(
        patterns=(check_pattern("employee", r"EMP-\d{1,9}", "[employee]", clock=time.thread_time),)
    )
    texts = {
        "message": MESSAGE,
        "message with hits": MESSAGE[:180] + HIT,
        "1 kB": words(1000),
        "1 kB with hits": words(1000, 3),
        "16 kB": words(16_000),
        "16 kB with hits": words(16_000, 48),
    }
    found = [measure(f"redact, {name}", partial(redact, text), len(text)) for name, text in texts.items()]
    for name, hits in (("50 kB", 0), ("50 kB with hits", 150)):
        text = words(50_000, hits)
        found.append(measure(f"secrets alone, {name}", partial(redact_secrets, text), len(text)))
        found.append(measure(f"all rules, {name}", partial(redact_whole, text), len(text)))
    request = json.dumps({"model": "m", "messages": [{"role": "user", "content": words(50_000, 10)}]})
    found += [
        measure("a project's pattern, message", lambda: project.text("message", MESSAGE), len(MESSAGE)),
        measure(
            "echo of a 50 kB prompt, message",
            lambda: sent_text(lambda: request, ()).without_echo(MESSAGE),
            len(MESSAGE),
        ),
        *(
            measure(f"content at {level}, 50 kB", partial(redacted, level, request), len(request))
            for level in (Level.HASHED, Level.MASKED, Level.FULL)
        ),
        measure("deferring, 50 kB (the caller's part)", lambda: deferred(Level.FULL, request), len(request)),
    ]
    return found


def deferred(level: Level, request: str) -> Any:
    """Do what the caller's thread does with content."""
    return Privacy(level=level, key=b"k" * 16).defer(Content(request=request, output="no"))


def redacted(level: Level, request: str) -> list[Any]:
    """Do what the writer thread does with content."""
    return [text() for text in deferred(level, request).values() if text is not None]


def growth() -> list[Growth]:
    """Measure each hostile text at 50 000 and 100 000 characters, alternating; the best of each counts."""
    found = []
    for what, unit in HOSTILE.items():
        small, large = ((unit * (length // len(unit) + 1))[:length] for length in (SMALL, LARGE))
        times = [(seconds(small), seconds(large)) for _ in range(15)]
        found.append(Growth(what, min(pair[0] for pair in times) * 1e3, min(pair[1] for pair in times) * 1e3))
    return found


def seconds(text: str) -> float:
    """Return the seconds of every rule over all of *text*, which `redact` would cut at 16 384 characters."""
    began = time.thread_time()
    redact_whole(text)
    return time.thread_time() - began


def main(arguments: list[str] | None = None) -> None:
    """Print the table. Fail if a hostile text of twice the length takes over 2.6 times as long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    measured, grown = costs(), growth()
    if given.json:
        ratios = [{**asdict(each), "ratio": each.ratio} for each in grown]
        print(json.dumps({"costs": [asdict(each) for each in measured], "growth": ratios}, indent=2))
    else:
        print(f"{'':40} {'characters':>10} {'median us':>10} {'best us':>10} {'us/kB':>8}")
        for cost in measured:
            per_kb = cost.median / cost.characters * 1000
            print(f"{cost.what:40} {cost.characters:10} {cost.median:10.1f} {cost.best:10.1f} {per_kb:8.1f}")
        print(f"\n{'every rule over hostile text':40} {'50 kB ms':>10} {'100 kB ms':>10} {'ratio':>8}")
        for each in grown:
            print(f"{each.what:40} {each.small:10.2f} {each.large:10.2f} {each.ratio:8.2f}")
    worst = max(grown, key=lambda each: each.ratio)
    if worst.ratio > LINEAR:
        sys.exit(f"{worst.what}: twice the text takes {worst.ratio:.2f} times as long")


if __name__ == "__main__":
    main()
