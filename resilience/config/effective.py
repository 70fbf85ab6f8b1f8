"""The value and the source of every setting, with secrets masked: for `resilience config show`, logs and the doctor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from resilience.config import settings, sources
from resilience.config.settings import Settings
from resilience.redaction import MASK, redact, redact_url

_SECRET_WORDS: Final = ("key", "secret", "password", "token")
_SIMILARITY: Final = 0.85
"""Least similarity of a proposed name. High, since the common prefix alone makes any two names similar by half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSetting:
    """One setting, as a process that starts here would have it.

    Attributes:
        name: dotted name with its table, such as `retry.deadline`.
        variable: name in the environment.
        value: value in effect, with secrets masked.
        source: where the value was set, or `default`.
    """

    name: str
    variable: str
    value: Any
    source: str


def effective_settings(
    environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> list[EffectiveSetting]:
    """Return every setting and policy field that a process has without keyword arguments.

    Args:
        environ: variables to use instead of all sources.
        directory: where the process starts; the working directory by default.

    Raises:
        ConfigurationError: a source holds an invalid value.
    """
    loaded = settings.load(environ, directory)
    objects: dict[type, Any] = {Settings: Settings().complete(loaded, directory)}
    for word, kind in settings.POLICIES.items():
        objects[kind] = settings.load_policy(kind, word, loaded)
    result = []
    for variable, (kind, field) in settings.all_settings().items():
        if variable in sources.ALIASES:
            continue  # the long name is listed
        result.append(
            EffectiveSetting(
                name=variable.removeprefix(sources.PREFIX).lower().replace("__", "."),
                variable=variable,
                value=_masked(field, getattr(objects[kind], field)),
                source=loaded.origins.get(variable, "default"),
            )
        )
    return result


def unknown_variables(
    environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> dict[str, str]:
    """Return the variables with our prefix that set nothing, each with the most similar known name or an empty text."""
    import difflib  # noqa: PLC0415 - for mistakes alone

    known = settings.all_settings()
    loaded = sources.read(environ, directory)
    return {
        variable: next(iter(difflib.get_close_matches(variable, known, 1, _SIMILARITY)), "")
        for variable in loaded
        if variable not in known
    }


def masked(value: Any) -> Any:
    """Return settings or a policy as plain values for printing and for JSON, with secrets masked."""
    return _masked("", value)


def _masked(field: str, value: Any) -> Any:
    if value is not None and any(word in field.split("_") for word in _SECRET_WORDS):
        return MASK
    if isinstance(value, str):
        return redact(redact_url(value))  # a URL may hold a password
    if isinstance(value, Mapping):
        return {str(name): _masked(str(name), item) for name, item in value.items()}
    if isinstance(value, (tuple, frozenset, list)):
        items = [_masked(field, item) for item in value]
        return sorted(items) if isinstance(value, frozenset) else items
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: _masked(each.name, getattr(value, each.name)) for each in dataclasses.fields(value)
        }
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
