"""Settings: the only reader of the environment."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from resilience.breaker import BreakerPolicy
from resilience.errors import ConfigurationError
from resilience.fallback import FallbackPolicy
from resilience.retry import RetryPolicy

_P = TypeVar("_P")
_PRIVACY: Final = ("off", "metadata")
_PREFIX: Final = "RESILIENCE_"
FOLDER: Final = ".resilience"
"""Where all processes of one project keep what they share."""
_MARKS: Final = ("pyproject.toml", "baml_src")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the shared state, the history and the logs live. What is not given here comes from the environment.

    Attributes:
        redis_url: Redis or Valkey for the shared circuits (`RESILIENCE_REDIS_URL`); goes before *store_url*.
        store_url: the store of the shared circuits: `sqlite:///file` (all processes of one machine share it, the
            default: `circuits.db` in the project's `.resilience` folder) or `memory://` (this process only).
        database_url: the history, as SQLAlchemy spells it (`RESILIENCE_DATABASE_URL`); the default is
            `resilience.db` in the project's `.resilience` folder.
        log_dir: folder of the JSON log streams (`RESILIENCE_LOG_DIR`); without one there are none.
        privacy: what of a call is kept (`RESILIENCE_PRIVACY`): `metadata` (the default) keeps redacted error
            messages and no content; `off` keeps no history and writes no logs.
        namespace: prefix of the circuits' names, so that deployments can share one store.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    redis_url: str | None = None
    store_url: str | None = None
    database_url: str | None = None
    log_dir: str | os.PathLike[str] | None = None
    privacy: str | None = None
    namespace: str | None = None

    def __post_init__(self) -> None:
        for name in ("redis_url", "store_url", "database_url"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or "://" not in value):
                msg = f"Settings.{name}={value!r}: give a URL such as {_EXAMPLES[name]}"
                raise ValueError(msg)
        if self.privacy is not None and self.privacy not in _PRIVACY:
            msg = f"Settings.privacy={self.privacy!r}: give one of {', '.join(_PRIVACY)}"
            raise ValueError(msg)

    def complete(self, environ: Mapping[str, str] | None = None, directory: Path | None = None) -> Settings:
        """Fill what was not given from the environment, then from the project's folder.

        Args:
            environ: the environment to read; the process's own by default.
            directory: where to look for the project; the working directory by default.

        Raises:
            ConfigurationError: a variable holds a value that cannot work.
        """
        environ = os.environ if environ is None else environ
        folder = project_folder(directory or Path.cwd())
        given: dict[str, Any] = {
            "redis_url": self.redis_url or environ.get(_PREFIX + "REDIS_URL") or None,
            "store_url": self.store_url
            or environ.get(_PREFIX + "STORE_URL")
            or f"sqlite:///{folder / 'circuits.db'}",
            "database_url": self.database_url
            or environ.get(_PREFIX + "DATABASE_URL")
            or f"sqlite:///{folder / 'resilience.db'}",
            "log_dir": self.log_dir or environ.get(_PREFIX + "LOG_DIR") or None,
            "privacy": self.privacy or environ.get(_PREFIX + "PRIVACY") or "metadata",
            "namespace": self.namespace or environ.get(_PREFIX + "NAMESPACE") or "resilience",
        }
        try:
            return Settings(**given)
        except ValueError as exc:
            msg = f"{exc} (set by a {_PREFIX}… variable of the environment)"
            raise ConfigurationError(msg) from None


_EXAMPLES: Final = {
    "redis_url": "redis://localhost:6379/0",
    "store_url": "sqlite:///circuits.db or memory://",
    "database_url": "sqlite:///resilience.db",
}


def project_folder(directory: Path) -> Path:
    """The `.resilience` folder all processes of one project share.

    It lies beside the nearest `pyproject.toml` or `baml_src` at or above *directory*, else in *directory*.
    """
    for place in (directory, *directory.parents):
        if any((place / mark).exists() for mark in _MARKS):
            return place / FOLDER
    return directory / FOLDER


def unset(names: Iterable[str], environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Which of these variables the environment does not have."""
    environ = os.environ if environ is None else environ
    return tuple(name for name in names if name not in environ)


def retry_policy(environ: Mapping[str, str] | None = None) -> RetryPolicy:
    """The RetryPolicy of `RESILIENCE_RETRY__<FIELD>`."""
    return _policy(RetryPolicy, "RETRY", environ)


def breaker_policy(environ: Mapping[str, str] | None = None) -> BreakerPolicy:
    """The BreakerPolicy of `RESILIENCE_BREAKER__<FIELD>`."""
    return _policy(BreakerPolicy, "BREAKER", environ)


def fallback_policy(environ: Mapping[str, str] | None = None) -> FallbackPolicy:
    """The FallbackPolicy of `RESILIENCE_FALLBACK` (client names, separated by commas) and `RESILIENCE_FALLBACK__<FIELD>`."""
    environ = os.environ if environ is None else environ
    clients = environ.get(_PREFIX + "FALLBACK")
    extra = {_PREFIX + "FALLBACK__CLIENTS": clients} if clients else {}
    return _policy(FallbackPolicy, "FALLBACK", {**extra, **environ})


def _policy(kind: Callable[..., _P], word: str, environ: Mapping[str, str] | None) -> _P:
    environ = os.environ if environ is None else environ
    given = dict(_given(kind, f"{_PREFIX}{word}__", environ))
    try:
        return kind(**given)
    except ValueError as exc:
        names = ", ".join(f"{_PREFIX}{word}__{name.upper()}" for name in given)
        msg = f"{exc} (set by {names})"
        raise ConfigurationError(msg) from None


def _given(kind: Any, prefix: str, environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        name = variable.removeprefix(prefix).lower()
        if name not in fields:
            msg = f"{variable}: {kind.__name__} has no field {name!r}; it has {', '.join(fields)}"
            raise ConfigurationError(msg)
        yield name, _value(variable, text.strip(), str(fields[name].type))


def _value(variable: str, text: str, kind: str) -> Any:
    """Read *text* as the dataclass field's annotation *kind* says."""
    if "None" in kind and text.lower() in {"", "none"}:
        return None
    try:
        return next(read for mark, read in _READERS.items() if kind.startswith(mark))(text)
    except (ValueError, KeyError):
        msg = f"{variable}={text!r}: give {_WORDS[next(mark for mark in _READERS if kind.startswith(mark))]}"
        raise ConfigurationError(msg) from None


def _flag(text: str) -> bool:
    return {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _pairs(text: str) -> dict[str, str]:
    return {key.strip(): value.strip() for key, value in (pair.split("=", 1) for pair in _names(text))}


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "bool": _flag,
    "int": int,
    "float": float,
    "tuple": _names,
    "frozenset": lambda text: frozenset(_names(text)),
    "Mapping": _pairs,
}
_WORDS: Final = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "tuple": "names separated by commas",
    "frozenset": "categories separated by commas",
    "Mapping": "pairs such as timeout=yes,network=never",
}
