"""What a project masks besides the built-in rules: patterns, fields and a hook of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeVar

from resilience.redaction.mapping import redact_mapping
from resilience.redaction.regex_safety import Pattern
from resilience.redaction.text import MESSAGE_LIMIT, redact

Hook = Callable[[str, str], str]
"""Gets the name of a field and its redacted text, gives the text to keep."""

FAILED: Final = "[redactor-failed]"
"""Stands for a text whose hook raised, or gave something that is no text."""
REDACTED: Final = "[redacted]"
"""Stands for the value of a field that is not to be kept."""
EVERY: Final = "*"
"""In a path: whatever stands there."""

_FREE_TEXTS: Final = ("message", "provider_code", "provider_request_id", "reason", "stack", "detail", "tags")
"""The fields of records whose text others wrote."""

_JOINS: Final = frozenset(
    ["event_id", "call_id", "request_id", "instance_id", "fingerprint", "trace_id", "span_id"]
)
"""The fields rows and lines are joined by."""

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Redactor:
    """Rules of a project, which see a text after the built-in ones.

    Attributes:
        patterns: what else is masked in any text that others wrote.
        paths: fields that are not kept, as names from the outside in; `*` is any name. Lists are looked through.
        hook: has the last word on any such text. When it raises, nothing of the text is kept.
    """

    patterns: tuple[Pattern, ...] = ()
    paths: tuple[tuple[str, ...], ...] = ()
    hook: Hook | None = None

    def record(self, record: _R) -> _R:
        """The dataclass *record* with its free texts masked; itself when there is nothing to mask."""
        changed = {}
        for name in _names(type(record), self.paths):  # type: ignore[arg-type]  # mypy: a generic's class is not hashable
            value = getattr(record, name)
            if isinstance(value, str | Mapping) and not isinstance(value, Enum):
                kept = self._kept(name, value)
                if kept != value:
                    changed[name] = kept
        return replace(record, **changed) if changed else record  # type: ignore[type-var]  # any of our records

    def text(self, field: str, text: str) -> str:
        """*text*, which the built-in rules have seen, after the patterns and the hook."""
        for pattern in self.patterns:
            text = pattern.mask(text)
        return text if self.hook is None else _asked(self.hook, field, text)

    def without(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """*values* with what stands at one of the paths replaced."""
        for path in self.paths:
            values = _without(values, path)
        return dict(values)

    def looks_into(self, field: str) -> bool:
        """Does a path lead to *field* or to something within it?"""
        return any(_is(path[0], field) for path in self.paths)

    def _kept(self, name: str, value: str | Mapping[str, Any]) -> Any:
        if isinstance(value, Mapping):
            kept: Any = redact_mapping(value, lambda text: self.text(name, redact(text)))
        else:
            kept = _remembered(self, name, value) if self.patterns or self.hook else value
        return self.without({name: kept})[name] if self.paths else kept


def path_of(text: object) -> tuple[str, ...]:
    """Read a path such as `detail.user.email` or `tags.*`.

    Raises:
        ValueError: it is none, or leads to what rows are joined by.
    """
    path = tuple(text.split(".")) if isinstance(text, str) else ()
    if not path or not all(step.strip() == step and step for step in path):
        msg = f"Settings.redact_fields={text!r}: give names with dots between them, such as detail.user.email or tags.*"
        raise ValueError(msg)
    if path[0] in _JOINS:
        msg = f"Settings.redact_fields={text!r}: rows and lines are joined by it; give another field, or privacy='off'"
        raise ValueError(msg)
    return path


@lru_cache(maxsize=256)  # for each kind of record once: most have one such field or none
def _names(kind: type, paths: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """The fields of a *kind* of record that may have to be masked."""
    wanted = {*_FREE_TEXTS, *(path[0].lower() for path in paths)}
    return tuple(field.name for field in fields(kind) if field.name in wanted)


@lru_cache(maxsize=1024)  # an outage says the same thing again and again
def _remembered(redactor: Redactor, name: str, text: str) -> str:
    return redactor.text(name, text)[:MESSAGE_LIMIT]


def _asked(hook: Hook, field: str, text: str) -> str:
    try:
        answer: object = hook(field, text)
    except Exception:  # noqa: BLE001 - a hook may raise anything, and its message may hold the text
        return FAILED
    return answer if isinstance(answer, str) else FAILED


def _without(value: Any, path: tuple[str, ...]) -> Any:
    if not path:
        return REDACTED
    if isinstance(value, Mapping):
        return {
            name: _without(inner, path[1:]) if _is(path[0], str(name)) else inner
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_without(inner, path) for inner in value]
    return value


def _is(step: str, name: str) -> bool:
    """Headers and fields are named in any case."""
    return step == EVERY or step.lower() == name.lower()
