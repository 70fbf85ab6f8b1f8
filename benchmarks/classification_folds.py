"""What the classification would make of providers it knows nothing of: `python -m benchmarks.classification_folds`.

The errors are cut into folds by provider, and again by source. Each fold is judged by rules that have forgotten it: words,
codes and rules that no error outside the fold uses are removed first. So no word counts that only the judged errors would
have taught. Words that general knowledge put into the lexicon are forgotten, too; the figure is therefore a lower bound.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

from benchmarks.classification import CORPUS, UNSEEN, Case, Share, corpus, evidence, score, wilson
from resilience.failure import classify_evidence, codes, lexicon, meaning, reading, remembered
from resilience.failure.body import fold, unwrap
from resilience.failure.rule_set import RuleSet

FOLDS = 10


def held_out(cases: list[Case], key: str) -> Iterator[tuple[list[Case], list[Case]]]:
    """Yield the judged and the known cases of each fold; cases with the same *key* are in the same fold."""
    for number in range(FOLDS):
        judged = [case for case in cases if zlib.crc32(str(case[key]).encode()) % FOLDS == number]
        yield judged, [case for case in cases if case not in judged]


@contextmanager
def knowing(cases: Iterable[Case]) -> Iterator[None]:
    """Classify with what *cases* use of the lexicon, of the tables of codes and of the rules."""
    texts = "\n".join(case["body"] or case["transport_text"] or "" for case in cases)
    spaced = reading._HUMP.sub(r" \g<0>", texts).lower()  # noqa: SLF001 - the benchmark takes the rules apart
    words = set(reading._TOKEN.findall(spaced))  # noqa: SLF001
    seen = {fold(part) for case in cases for part in _codes_of(case)} | {fold(word) for word in words}
    with ExitStack() as patches:
        patch = _patcher(patches)
        patch(reading, "WORDS", {word: entry for word, entry in lexicon.WORDS.items() if word in words})
        patch(reading, "UNSPACED", {word: bits for word, bits in lexicon.UNSPACED.items() if word in spaced})
        patch(reading, "STEMS", {stem: bits for stem, bits in lexicon.STEMS.items() if stem in spaced})
        for table in ("DECISIVE", "FIRM", "WEAK"):
            kept = {code: category for code, category in getattr(codes, table).items() if code in seen}
            patch(codes, table, kept)
        used = {vote for case in cases for vote in _rules_of(case)}
        kept_rules = RuleSet([rule for rule in meaning.RULES.rules if rule.because in used])
        patch(meaning, "RULES", kept_rules)
        remembered.forget()  # what all words say
        try:
            yield
        finally:
            remembered.forget()


def _patcher(patches: ExitStack) -> Any:
    def patch(module: ModuleType, name: str, value: object) -> None:
        patches.enter_context(mock.patch.object(module, name, value))

    return patch


def _codes_of(case: Case) -> tuple[str, ...]:
    return unwrap(case["body"] or case["transport_text"]).codes


def _rules_of(case: Case) -> tuple[str, ...]:
    reasons = classify_evidence(evidence(case)).because
    return tuple(reason.removeprefix("against it: ").rpartition(" (")[0] for reason in reasons)


def judge(cases: list[Case], key: str) -> Mapping[str, Share]:
    """Return the shares of undebated cases that are right when their own fold is forgotten."""
    right = of = money_right = money_of = 0
    for judged, known in held_out(cases, key):
        with knowing(known):
            result = score(judged)
        right, of = right + result.undebated.right, of + result.undebated.of
        money_right += result.billing_undebated.right
        money_of += result.billing_undebated.of
    return {"undebated": Share(right, of), "billing or throttling": Share(money_right, money_of)}


def main() -> None:
    """Print the table."""
    cases: list[Case] = [*corpus(CORPUS), *corpus(UNSEEN)]
    for key in ("provider", "source"):
        for name, share in judge(cases, key).items():
            _print(f"held out by {key}: {name}", share.right, share.of)


def _print(name: str, right: int, of: int) -> None:
    low, high = wilson(right, of)
    print(f"{name:64} {right:4} of {of:4}  {100 * right / of:5.1f} %  (95 %: {low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
