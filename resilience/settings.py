"""Settings and policies from where they are written down; see `sources.py` for the places and their order."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from resilience import sources
from resilience.breaker import BreakerPolicy
from resilience.errors import ConfigurationError
from resilience.fallback import FallbackPolicy
from resilience.retry import RetryPolicy
from resilience.sources import FOLDER, PREFIX

_P = TypeVar("_P")
_PRIVACY: Final = ("off", "metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the shared state, the history and the logs live.

    What is not given here comes from the environment, `.env`, `resilience.toml` or `[tool.resilience]`, in this order.

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
        """Fill what was not given from where settings are written down, then from the project's folder.

        Args:
            environ: the variables to read; all places of `sources.read` by default.
            directory: where to look for the project; the working directory by default.

        Raises:
            ConfigurationError: a place holds a value that cannot work.
        """
        written = _written(environ, directory)
        folder = project_folder(directory or Path.cwd())
        otherwise = {
            "store_url": f"sqlite:///{folder / 'circuits.db'}",
            "database_url": f"sqlite:///{folder / 'resilience.db'}",
            "privacy": "metadata",
            "namespace": "resilience",
        }
        given = {name: getattr(self, name) for name in _fields(Settings)}
        for name, field in _fields(Settings).items():
            if given[name] is None or given[name] == "":
                text = written.get(PREFIX + name.upper(), "")
                given[name] = _value(written, PREFIX + name.upper(), str(field.type)) if text else None
            if given[name] is None:
                given[name] = otherwise.get(name)
        try:
            return Settings(**given)
        except ValueError as exc:
            raise ConfigurationError(_placed(str(exc), written, "", given)) from None


_EXAMPLES: Final = {
    "redis_url": "redis://localhost:6379/0",
    "store_url": "sqlite:///circuits.db or memory://",
    "database_url": "sqlite:///resilience.db",
}


def project_folder(directory: Path) -> Path:
    """The `.resilience` folder all processes of one project share.

    It lies beside the nearest `pyproject.toml` or `baml_src` at or above *directory*, else in *directory*.
    """
    return sources.project_directory(directory) / FOLDER


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
    written = _written(environ)
    short, long = PREFIX + "FALLBACK", PREFIX + "FALLBACK__CLIENTS"
    if written.get(short) and long not in written:
        written.add({long: (written[short], sources.place(written, short))})
    return _policy(FallbackPolicy, "FALLBACK", written)


def known() -> dict[str, tuple[type, str]]:
    """Every variable there is, with the class and the field it sets."""
    found: dict[str, tuple[type, str]] = {
        PREFIX + name.upper(): (Settings, name) for name in _fields(Settings)
    }
    for word, kind in POLICIES.items():
        found |= {f"{PREFIX}{word}__{name.upper()}": (kind, name) for name in _fields(kind)}
    return {**found, PREFIX + "FALLBACK": (FallbackPolicy, "clients")}


def _written(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> sources.Written:
    """What there is to read; a name that nobody reads is refused where it can only be meant for us: in our own tables."""
    if environ is not None:
        written = sources.Written()
        ours = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
        written.add({name: (text, f"the variable {name}") for name, text in ours.items()})
        return written
    written = sources.read(directory=directory)
    for variable, place in written.places.items():
        if place.endswith(".toml") and variable not in known():
            near = difflib.get_close_matches(variable, known(), 1)
            hint = (
                f"; did you mean {spelled(near[0])}?"
                if near
                else f"; there are {', '.join(map(spelled, known()))}"
            )
            msg = f"{place}: no such setting{hint}"
            raise ConfigurationError(msg)
    return written


def spelled(variable: str) -> str:
    """How *variable* is written in TOML: `deadline of [retry]`."""
    table, _, field = variable.removeprefix(PREFIX).lower().rpartition("__")
    return f"{field} of [{table}]" if table else field


def _fields(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(kind)}


def _placed(complaint: str, written: Mapping[str, str], word: str, given: Iterable[str]) -> str:
    """*complaint* with the places of what it is about: of the field it names, or of all that were given."""
    variables = {name: f"{PREFIX}{word}{name.upper()}" for name in given}
    about = [name for name in variables if f".{name}=" in complaint and variables[name] in written]
    named = about or [name for name in variables if variables[name] in written]
    return f"{complaint} (set by {', '.join(sources.place(written, variables[name]) for name in named)})"


def _policy(kind: Callable[..., _P], word: str, environ: Mapping[str, str] | None) -> _P:
    written = environ if isinstance(environ, sources.Written) else _written(environ)
    given = dict(_given(kind, f"{PREFIX}{word}__", written))
    try:
        return kind(**given)
    except ValueError as exc:
        raise ConfigurationError(_placed(str(exc), written, f"{word}__", given)) from None


def _given(kind: Any, prefix: str, written: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    fields = _fields(kind)
    for variable in written:
        if not variable.startswith(prefix):
            continue
        name = variable.removeprefix(prefix).lower()
        if name not in fields:
            msg = f"{variable}: {kind.__name__} has no field {name!r}; it has {', '.join(fields)}"
            raise ConfigurationError(msg)
        yield name, _value(written, variable, str(fields[name].type))


def _value(written: Mapping[str, str], variable: str, kind: str) -> Any:
    """Read *variable* as the dataclass field's annotation *kind* says."""
    text = written[variable].strip()
    if "None" in kind and text.lower() in {"", "none"}:
        return None
    mark = next(mark for mark in _READERS if kind.startswith(mark))
    try:
        return _READERS[mark](text)
    except (ValueError, KeyError):
        msg = f"{variable}={text!r}: give {_WORDS[mark]} (set by {sources.place(written, variable)})"
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
    "str": str,
    "bool": _flag,
    "int": int,
    "float": float,
    "tuple": _names,
    "frozenset": lambda text: frozenset(_names(text)),
    "Mapping": _pairs,
}
_WORDS: Final = {
    "str": "a text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "tuple": "names separated by commas",
    "frozenset": "categories separated by commas",
    "Mapping": "pairs such as timeout=yes,network=never",
}

POLICIES: Final[Mapping[str, type]] = {
    "RETRY": RetryPolicy,
    "BREAKER": BreakerPolicy,
    "FALLBACK": FallbackPolicy,
}
"""The policies, by the word between `RESILIENCE_` and `__<FIELD>`."""
