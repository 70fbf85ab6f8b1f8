"""What every setting is, and where it was set: the answer to "why does it do that here?"."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from resilience.config import settings as room
from resilience.config import sources
from resilience.config.settings import Settings
from resilience.redaction import redact

_SECRET: Final = ("key", "secret", "password", "token")
_NEAR: Final = 0.85
"""The prefix alone makes any two of our names alike by half."""
MASK: Final = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSetting:
    """One setting as processes started here would have it.

    Attributes:
        name: with its table, `retry.deadline`.
        variable: as the environment spells it.
        value: what is in effect, with secrets masked.
        source: the place that said so, or `default`.
    """

    name: str
    variable: str
    value: Any
    source: str


def effective(
    environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> list[EffectiveSetting]:
    """Every setting and policy field, as a process started in *directory* without keyword arguments would have them.

    Raises:
        ConfigurationError: a place holds a value that cannot work.
    """
    written = room.written(environ, directory)
    objects: dict[type, Any] = {Settings: Settings().complete(written, directory)}
    for word, kind in room.POLICIES.items():
        objects[kind] = room.policy(kind, word, written)
    found = []
    for variable, (kind, field) in room.known().items():
        if variable in sources.SHORT:
            continue
        value = getattr(objects[kind], field)
        found.append(
            EffectiveSetting(
                name=variable.removeprefix(sources.PREFIX).lower().replace("__", "."),
                variable=variable,
                value=_shown(field, value),
                source=written.places.get(variable, "default"),
            )
        )
    return found


def unread(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> dict[str, str]:
    """Variables with our prefix that nobody reads, with the nearest name that somebody does, or an empty text."""
    known = room.known()
    written = sources.read(environ, directory)
    return {
        variable: next(iter(difflib.get_close_matches(variable, known, 1, _NEAR)), "")
        for variable in written
        if variable not in known
    }


def shown(value: Any) -> Any:
    """Settings or a policy as it may be printed and as JSON knows it, with secrets masked."""
    return _shown("", value)


def _shown(field: str, value: Any) -> Any:
    """A value as it may be printed and as JSON knows it."""
    if value is not None and any(word in field.split("_") for word in _SECRET):
        return MASK
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {str(name): _shown(str(name), each) for name, each in value.items()}
    if isinstance(value, (tuple, frozenset, list)):
        shown = [_shown(field, each) for each in value]
        return sorted(shown) if isinstance(value, frozenset) else shown
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _shown(each.name, getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
