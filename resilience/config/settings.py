"""Settings and policies from where they are written down; see `sources.py` for the places and their order."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from resilience.breaker import BreakerPolicy
from resilience.config import parsing, sources
from resilience.config.sources import FOLDER, PREFIX
from resilience.errors import ConfigurationError
from resilience.fallback import FallbackPolicy
from resilience.history import DURABILITIES, Retention
from resilience.logs import LogPolicy
from resilience.privacy import Level
from resilience.redaction import Pattern, Redactor, path_of, redact_secrets, vet
from resilience.retry import RetryPolicy

_P = TypeVar("_P")
_SHORTEST_KEY: Final = 16
"""Characters of a hash key."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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
        privacy: what of a call is kept (`RESILIENCE_PRIVACY`): `off`, `metadata` (the default), `hashed`, `masked` or
            `full`; see `resilience.privacy.Level`.
        namespace: prefix of the circuits' names, so that deployments can share one store.
        durability: `normal` (the default) may lose the history's last commits in a power cut, `full` waits for the disk at
            each (`RESILIENCE_DURABILITY`); neither keeps a caller waiting.
        service: what these processes are for, told in `instances` and on every log line (`RESILIENCE_SERVICE`).
        hash_key: a secret of at least 16 characters, the key of the hashes at `hashed` and above (`RESILIENCE_HASH_KEY`);
            the default is a random one in the project's `.resilience` folder.
        redact_patterns: `(name, regex, replacement)` of what else is masked in messages and content
            (`RESILIENCE_REDACT_PATTERNS`, a JSON list of lists); patterns that some text could make slow are refused.
        redact_fields: paths of fields that are not kept, such as `detail.user.email`, `tags.*` or `prompt.messages.content`
            (`RESILIENCE_REDACT_FIELDS`, separated by commas).
        redact_hook: `hook(field, text)` has the last word on every text others wrote, of at most 300 characters in the
            caller's thread and of any length in the writer's (`RESILIENCE_REDACT_HOOK=module:function`).

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    redis_url: str | None = None
    store_url: str | None = None
    database_url: str | None = None
    log_dir: str | os.PathLike[str] | None = None
    privacy: str | None = None
    namespace: str | None = None
    durability: str | None = None
    service: str | None = None
    hash_key: str | None = dataclasses.field(default=None, repr=False)
    redact_patterns: Sequence[Sequence[str]] | None = None
    redact_fields: tuple[str, ...] | None = None
    redact_hook: Callable[[str, str], str] | None = None

    def __post_init__(self) -> None:
        for name in ("redis_url", "store_url", "database_url"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or "://" not in value):
                msg = f"Settings.{name}={_masked(value)!r}: give a URL such as {_EXAMPLES[name]}"
                raise ValueError(msg)
        if self.privacy is not None and self.privacy not in set(Level):
            msg = f"Settings.privacy={self.privacy!r}: give one of {', '.join(Level)}"
            raise ValueError(msg)
        if self.durability is not None and self.durability not in DURABILITIES:
            msg = f"Settings.durability={self.durability!r}: give one of {', '.join(DURABILITIES)}"
            raise ValueError(msg)
        if self.hash_key is not None and len(self.hash_key) < _SHORTEST_KEY:
            msg = f"Settings.hash_key='***': give at least {_SHORTEST_KEY} characters"
            raise ValueError(msg)
        object.__setattr__(self, "redact_patterns", _triples(self.redact_patterns))
        object.__setattr__(self, "redact_fields", _tuple(self.redact_fields))
        self.redactor()

    def __repr__(self) -> str:
        fields = {name: getattr(self, name) for name in _fields(Settings)}
        shown = {
            name: redact_secrets(value) if isinstance(value, str) else value
            for name, value in fields.items()
            if value is not None and name != "hash_key"
        }
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def redactor(self) -> Redactor:
        """The project's own rules of redaction.

        Raises:
            ValueError: naming the pattern, field or hook that cannot work, and the remedy.
        """
        if self.redact_hook is not None and not callable(self.redact_hook):
            msg = f"Settings.redact_hook={self.redact_hook!r}: give a function of a field's name and its text"
            raise ValueError(msg)
        patterns = tuple(_vetted(*pattern) for pattern in self.redact_patterns or ())
        return Redactor(patterns, tuple(map(path_of, self.redact_fields or ())), self.redact_hook)

    def complete(self, environ: Mapping[str, str] | None = None, directory: Path | None = None) -> Settings:
        """Fill what was not given from where settings are written down, then from the project's folder.

        Args:
            environ: the variables to read; all places of `sources.read` by default.
            directory: where to look for the project; the working directory by default.

        Raises:
            ConfigurationError: a place holds a value that cannot work.
        """
        found = written(environ, directory)
        folder = project_folder(directory or sources.working_directory())
        otherwise = {
            "store_url": f"sqlite:///{folder / 'circuits.db'}",
            "database_url": f"sqlite:///{folder / 'resilience.db'}",
            "privacy": "metadata",
            "namespace": "resilience",
            "durability": "normal",
        }
        given = {name: getattr(self, name) for name in _fields(Settings)}
        for name, field in _fields(Settings).items():
            if given[name] is None or given[name] == "":
                text = found.get(PREFIX + name.upper(), "")
                given[name] = parsing.value(found, PREFIX + name.upper(), str(field.type)) if text else None
            if given[name] is None:
                given[name] = otherwise.get(name)
        try:
            return Settings(**given)
        except ValueError as exc:
            raise ConfigurationError(_placed(str(exc), found, "", given)) from None


@lru_cache(maxsize=256)
def _vetted(name: str, regex: str, replacement: str) -> Pattern:
    return vet(name, regex, replacement, clock=time.thread_time)


def _masked(url: Any) -> Any:
    """What should have been a URL, as it may be shown: it may have a password all the same."""
    return redact_secrets(re.sub(r".*@", "***@", url, flags=re.DOTALL)) if isinstance(url, str) else url


def _triples(patterns: Any) -> tuple[tuple[str, str, str], ...] | None:
    """*patterns* as they can be compared, whatever a TOML file or a caller wrote them in."""
    if patterns is None:
        return None
    triples = tuple(tuple(pattern) if isinstance(pattern, list | tuple) else () for pattern in patterns)
    for triple in triples:
        if [str, str, str] != [type(part) for part in triple]:
            msg = f"Settings.redact_patterns={patterns!r}: give lists of (name, regex, replacement)"
            raise ValueError(msg)
    return triples


def _tuple(fields: Any) -> tuple[Any, ...] | None:
    return fields if fields is None else (fields,) if isinstance(fields, str) else tuple(fields)


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
    return policy(RetryPolicy, "RETRY", environ)


def breaker_policy(environ: Mapping[str, str] | None = None) -> BreakerPolicy:
    """The BreakerPolicy of `RESILIENCE_BREAKER__<FIELD>`."""
    return policy(BreakerPolicy, "BREAKER", environ)


def fallback_policy(environ: Mapping[str, str] | None = None) -> FallbackPolicy:
    """The FallbackPolicy of `RESILIENCE_FALLBACK` (client names, separated by commas) and `RESILIENCE_FALLBACK__<FIELD>`."""
    return policy(FallbackPolicy, "FALLBACK", environ)


def log_policy(environ: Mapping[str, str] | None = None) -> LogPolicy:
    """The LogPolicy of `RESILIENCE_LOG__<FIELD>`."""
    return policy(LogPolicy, "LOG", environ)


def retention_policy(environ: Mapping[str, str] | None = None) -> Retention:
    """The Retention of `RESILIENCE_RETENTION__<FIELD>`: days, and `MAX_BYTES`."""
    return policy(Retention, "RETENTION", environ)


def known() -> dict[str, tuple[type, str]]:
    """Every variable there is, with the class and the field it sets."""
    found: dict[str, tuple[type, str]] = {
        PREFIX + name.upper(): (Settings, name) for name in _fields(Settings)
    }
    for word, kind in POLICIES.items():
        found |= {f"{PREFIX}{word}__{name.upper()}": (kind, name) for name in _fields(kind)}
    return {**found, **{short: found[variable] for short, variable in sources.SHORT.items()}}


def written(
    environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> sources.LoadedSettings:
    """What there is to read: all places of `sources.read`, or *environ* alone.

    Raises:
        ConfigurationError: a file cannot be read, or a table of ours has a name that nobody reads.
    """
    if isinstance(environ, sources.LoadedSettings):
        return environ
    if environ is None:
        found = sources.read(directory=directory)
        _refuse_unread(found)
    else:
        found = sources.LoadedSettings()
        ours = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
        found.add({name: (text, f"the variable {name}") for name, text in ours.items()})
    return found


def _refuse_unread(found: sources.LoadedSettings) -> None:
    """In TOML a name that nobody reads can only be a mistake; the environment belongs to others too."""
    for variable, place in found.places.items():
        if place.endswith(".toml") and variable not in known():
            msg = f"{place}: no such setting; {_hint(variable)}"
            raise ConfigurationError(msg)


def _hint(variable: str) -> str:
    word = variable.removeprefix(PREFIX)
    if word in POLICIES:
        return f"[{word.lower()}] is a table, with fields such as {next(iter(_fields(POLICIES[word])))}"
    near = difflib.get_close_matches(variable, known(), 1, 0.8)
    return f"did you mean {spelled(near[0])}?" if near else f"there are {', '.join(map(spelled, known()))}"


def spelled(variable: str) -> str:
    """How *variable* is written in TOML: `deadline of [retry]`."""
    table, _, field = variable.removeprefix(PREFIX).lower().rpartition("__")
    return f"{field} of [{table}]" if table else field


def _fields(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(kind)}


def _placed(complaint: str, found: Mapping[str, str], word: str, given: Iterable[str]) -> str:
    """*complaint* with the places of what it is about: of the field it names, or of all that were given."""
    variables = {name: f"{PREFIX}{word}{name.upper()}" for name in given}
    about = [name for name in variables if f".{name}=" in complaint and variables[name] in found]
    named = about or [name for name in variables if variables[name] in found]
    return f"{complaint} (set by {', '.join(sources.place(found, variables[name]) for name in named)})"


def policy(kind: Callable[..., _P], word: str, environ: Mapping[str, str] | None) -> _P:
    """The policy of a *kind* from its variables, which all begin with `RESILIENCE_<WORD>__`.

    Raises:
        ConfigurationError: a value that cannot work, or a field there is none of.
    """
    found = written(environ)
    given = dict(_given(kind, f"{PREFIX}{word}__", found))
    try:
        return kind(**given)
    except ValueError as exc:
        raise ConfigurationError(_placed(str(exc), found, f"{word}__", given)) from None


def _given(kind: Any, prefix: str, found: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    fields = _fields(kind)
    for variable in found:
        if not variable.startswith(prefix):
            continue
        name = variable.removeprefix(prefix).lower()
        if name not in fields:
            where = sources.place(found, variable)
            msg = f"{variable}: {kind.__name__} has no field {name!r}; it has {', '.join(fields)} (set by {where})"
            raise ConfigurationError(msg)
        yield name, parsing.value(found, variable, str(fields[name].type))


POLICIES: Final[Mapping[str, type]] = {
    "RETRY": RetryPolicy,
    "BREAKER": BreakerPolicy,
    "FALLBACK": FallbackPolicy,
    "LOG": LogPolicy,
    "RETENTION": Retention,
}
"""The policies, by the word between `RESILIENCE_` and `__<FIELD>`."""
