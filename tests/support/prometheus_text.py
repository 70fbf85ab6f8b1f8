"""A strict reader of Prometheus' text format 0.0.4: everything the format forbids is an error here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_HELP = re.compile(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) ((?:[^\\\n]|\\\\|\\n)*)")
_TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)")
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|NaN|[+-]Inf)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)')
_ESCAPED = re.compile(r"\\(.)")
_PARTS = {
    "summary": ("", "_sum", "_count"),
    "histogram": ("_bucket", "_sum", "_count"),
    "counter": ("",),
    "gauge": ("",),
}
"""Suffixes that samples of each kind may have."""

Labels = frozenset[tuple[str, str]]


@dataclass
class ParsedMetric:
    """One metric family of a text."""

    help: str
    kind: str = ""
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def values(self, suffix: str = "") -> dict[Labels, float]:
        """Return the values of the samples with *suffix*, by their labels."""
        return {labels: value for (end, labels), value in self.samples.items() if end == suffix}


def labels(**values: str) -> Labels:
    """Return labels as the keys of `ParsedMetric.values`."""
    return frozenset(values.items())


def parse(text: str) -> dict[str, ParsedMetric]:
    """Read *text*, in which each metric is one block: HELP, TYPE, samples.

    Raises:
        AssertionError: the text breaks a rule of the format.
    """
    assert not text or text.endswith("\n"), "the last line has no end"
    metrics: dict[str, ParsedMetric] = {}
    name = ""
    for line in text.split("\n")[:-1]:
        if match := _HELP.fullmatch(line):
            name = match[1]
            assert name not in metrics, f"{name} has two blocks"
            metrics[name] = ParsedMetric(_unescape(match[2]))
        elif match := _TYPE.fullmatch(line):
            assert (name, "") == (match[1], metrics[name].kind), f"TYPE out of place: {line}"
            metrics[name].kind = match[2]
        else:
            _read_sample(line, name, metrics[name])
    return metrics


def _read_sample(line: str, name: str, metric: ParsedMetric) -> None:
    match = _SAMPLE.fullmatch(line)
    assert match, f"no sample: {line!r}"
    assert match[1].startswith(name), f"{match[1]} is in the block of {name}"
    suffix = match[1].removeprefix(name)
    assert suffix in _PARTS[metric.kind], f"{metric.kind} has no {suffix}"
    key = (suffix, _parse_labels(match[2] or ""))
    assert key not in metric.samples, f"twice: {line}"
    metric.samples[key] = float(match[3])


def _parse_labels(text: str) -> Labels:
    pairs, position = [], 0
    while position < len(text):
        match = _LABEL.match(text, position)
        assert match, f"no label: {text[position:]!r}"
        pairs.append((match[1], _unescape(match[2])))
        position = match.end()
    assert len({name for name, _ in pairs}) == len(pairs), f"a label occurs twice: {text}"
    return frozenset(pairs)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], text)
