"""A strict reader of Prometheus' text format 0.0.4: what it does not allow is an error here."""

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

Labels = frozenset[tuple[str, str]]


@dataclass
class Read:
    """What a text says of one metric."""

    help: str
    kind: str = ""
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def values(self, part: str = "") -> dict[Labels, float]:
        """The values of one part, by their labels."""
        return {labels: value for (found, labels), value in self.samples.items() if found == part}


def labels(**given: str) -> Labels:
    """Labels as `Read` has them."""
    return frozenset(given.items())


def parse(text: str) -> dict[str, Read]:
    """Read *text*, in which each metric stands in one piece: HELP, TYPE, samples."""
    assert not text or text.endswith("\n"), "the last line has no end"
    found: dict[str, Read] = {}
    name = ""
    for line in text.split("\n")[:-1]:
        if match := _HELP.fullmatch(line):
            name = match[1]
            assert name not in found, f"{name} stands in two places"
            found[name] = Read(_plain(match[2]))
        elif match := _TYPE.fullmatch(line):
            assert (name, "") == (match[1], found[name].kind), f"TYPE out of place: {line}"
            found[name].kind = match[2]
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, f"no sample: {line!r}"
            part = match[1].removeprefix(name)
            assert match[1].startswith(name), f"{match[1]} stands under {name}"
            assert part in _PARTS[found[name].kind], f"{found[name].kind} has no {part}"
            key = (part, _labels(match[2] or ""))
            assert key not in found[name].samples, f"twice: {line}"
            found[name].samples[key] = float(match[3])
    return found


def _labels(text: str) -> Labels:
    given, at = [], 0
    while at < len(text):
        match = _LABEL.match(text, at)
        assert match, f"no label: {text[at:]!r}"
        given.append((match[1], _plain(match[2])))
        at = match.end()
    assert len({name for name, _ in given}) == len(given), f"a label stands twice: {text}"
    return frozenset(given)


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], text)
