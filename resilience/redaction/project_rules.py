"""A project's own redaction rules, besides the built-in ones: patterns, fields and a hook."""

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
"""A function of a field's name and its redacted text. Returns the text to record."""

FAILED: Final = "[redactor-failed]"
"""The replacement of a text whose hook raised, or returned something other than a text."""
REDACTED: Final = "[redacted]"
"""The replacement of a field that is left out."""
EVERY: Final = "*"
"""The step of a path that matches any name."""

_FREE_TEXTS: Final = ("message", "provider_code", "provider_request_id", "reason", "stack", "detail", "tags")
"""Fields of records with texts that providers, exceptions or callers wrote."""

_JOINS: Final = frozenset(
    ["event_id", "call_id", "request_id", "instance_id", "fingerprint", "trace_id", "span_id"]
)
"""Fields that join rows and lines. They cannot be left out."""

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Redactor:
    """A project's own rules. They see each text after the built-in rules.

    Attributes:
        patterns: masked in each free text.
        paths: fields to leave out, as tuples of names from the outside in; `*` matches any name, and lists are searched.
        hook: returns the final text of each free text. If it raises, the whole text is replaced.
    """

    patterns: tuple[Pattern, ...] = ()
    paths: tuple[tuple[str, ...], ...] = ()
    hook: Hook | None = None

    def record(self, record: _R) -> _R:
        """Return a copy of the dataclass *record* with its free texts masked; *record* itself if nothing changes."""
        changed = {}
        for name in _names(type(record), self.paths):  # type: ignore[arg-type]  # mypy: a generic's class is not hashable
            value = getattr(record, name)
            if isinstance(value, str | Mapping) and not isinstance(value, Enum):
                redacted = self._redacted(name, value)
                # A copy of a record costs more than this comparison, and most records have nothing to mask.
                if redacted != value:
                    changed[name] = redacted
        return replace(record, **changed) if changed else record  # type: ignore[type-var]  # any of our records

    def text(self, field: str, text: str) -> str:
        """Return *text*, which the built-in rules have seen, after the patterns and the hook."""
        for pattern in self.patterns:
            text = pattern.mask(text)
        return text if self.hook is None else _call_hook(self.hook, field, text)

    def without(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of *values* with every value at one of the paths replaced."""
        for path in self.paths:
            values = _without(values, path)
        return dict(values)

    def looks_into(self, field: str) -> bool:
        """Return whether a path leads to *field* or into it."""
        return any(_step_matches(path[0], field) for path in self.paths)

    def _redacted(self, name: str, value: str | Mapping[str, Any]) -> Any:
        if isinstance(value, Mapping):
            redacted: Any = redact_mapping(value, lambda text: self.text(name, redact(text)))
        else:
            redacted = _masked_once(self, name, value) if self.patterns or self.hook else value
        return self.without({name: redacted})[name] if self.paths else redacted


def path_of(text: object) -> tuple[str, ...]:
    """Return a path such as `detail.user.email` or `tags.*` as a tuple of its steps.

    Raises:
        ValueError: *text* is not a path, or leads to a field that joins rows.
    """
    path = tuple(text.split(".")) if isinstance(text, str) else ()
    if not path or not all(step.strip() == step and step for step in path):
        msg = f"Settings.redact_fields={text!r}: give names with dots between them, such as detail.user.email or tags.*"
        raise ValueError(msg)
    if path[0] in _JOINS:
        msg = f"Settings.redact_fields={text!r}: rows and lines are joined by it; give another field, or privacy='off'"
        raise ValueError(msg)
    return path


@lru_cache(maxsize=256)  # one entry for each kind of record
def _names(kind: type, paths: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Return the fields of a *kind* of record that may have to be masked."""
    candidates = {*_FREE_TEXTS, *(path[0].lower() for path in paths)}
    return tuple(field.name for field in fields(kind) if field.name in candidates)


@lru_cache(maxsize=1024)  # in an outage the same message comes many times
def _masked_once(redactor: Redactor, name: str, text: str) -> str:
    return redactor.text(name, text)[:MESSAGE_LIMIT]


def _call_hook(hook: Hook, field: str, text: str) -> str:
    try:
        result: object = hook(field, text)
    except Exception:  # noqa: BLE001 - a hook may raise anything; the exception is dropped, since its message may hold the text
        return FAILED
    return result if isinstance(result, str) else FAILED


def _without(value: Any, path: tuple[str, ...]) -> Any:
    if not path:
        return REDACTED
    if isinstance(value, Mapping):
        return {
            name: _without(inner, path[1:]) if _step_matches(path[0], str(name)) else inner
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_without(inner, path) for inner in value]
    return value


def _step_matches(step: str, name: str) -> bool:
    """Return whether a step matches a name, in any case: header names have none."""
    return step == EVERY or step.lower() == name.lower()
