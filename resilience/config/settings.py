"""`Settings`, and the policies from their variables; `sources.py` has the places that are read, and their order."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from resilience import validation
from resilience.breaker import BreakerPolicy, StoreUrl
from resilience.config import parsing, project, sources
from resilience.config.sources import FOLDER, PREFIX
from resilience.errors import ConfigurationError
from resilience.failure import OwnRule
from resilience.fallback import FallbackPolicy
from resilience.history.durability import DURABILITIES
from resilience.history.retention.policy import Retention
from resilience.logs import LogPolicy
from resilience.privacy import Level
from resilience.redaction import MASK, Pattern, Redactor, check_pattern, path_of, redact_secrets, redact_url
from resilience.retry import RetryPolicy

_P = TypeVar("_P")
_MAX_EXIT_TIMEOUT: Final = 300.0
_MAX_SCHEMA_BYTES: Final = 63
_MIN_HASH_KEY: Final = 16
"""Least number of characters of a hash key."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """The places of shared circuits, history and logs, and what they may contain.

    A field that is not given comes from the environment, `.env`, `resilience.toml` or `[tool.resilience]`, in this order.

    Attributes:
        redis_url: Redis or Valkey for the shared circuits (`RESILIENCE_REDIS_URL`); takes precedence over *store_url*.
        store_url: store of the shared circuits (`RESILIENCE_STORE_URL`): `sqlite:///file`, shared by the processes of one
            machine, or `memory://`, for one process. The default is `circuits.db` in the project's `.resilience` folder.
        database_url: database of the history, a URL of SQLAlchemy (`RESILIENCE_DATABASE_URL`). The default is
            `resilience.db` in the project's `.resilience` folder.
        database_schema: schema of the history's tables on PostgreSQL (`RESILIENCE_DATABASE_SCHEMA`). The default is the first of
            the URL's search_path, else `resilience`. Nothing is created in `public` unless it is named.
        log_dir: folder of the JSON logs (`RESILIENCE_LOG_DIR`). Without one there are no log files.
        privacy: how much of a call is recorded (`RESILIENCE_PRIVACY`): `off`, `metadata` (the default), `hashed`, `masked`
            or `full`; see `resilience.privacy.Level`.
        namespace: prefix of the circuits' names (`RESILIENCE_NAMESPACE`), so that deployments can share one store.
        durability: `normal` (the default) may lose the history's last commits in a power cut; `full` waits for the disk at
            each commit (`RESILIENCE_DURABILITY`). Callers wait for neither.
        exit_timeout: seconds that the end of a process, and `aclose`, may take to write the history
            (`RESILIENCE_EXIT_TIMEOUT`), 0 to 300. The default is 2, and 5 for a database that has to be created. What is
            not written then is reported on standard error.
        service: name of what these processes do, recorded in `instances` and on each log line (`RESILIENCE_SERVICE`).
        hash_key: key of the hashes at `hashed` and above, at least 16 characters (`RESILIENCE_HASH_KEY`). The default is a
            random key in the project's `.resilience` folder.
        redact_patterns: `(name, regex, replacement)` of further texts to mask in messages and content
            (`RESILIENCE_REDACT_PATTERNS`, a JSON list of lists). A pattern that some text could make slow is refused.
        redact_fields: paths of fields to leave out, such as `detail.user.email`, `tags.*` or `prompt.messages.content`
            (`RESILIENCE_REDACT_FIELDS`, separated by commas).
        redact_hook: `hook(field, text)` returns the text to record (`RESILIENCE_REDACT_HOOK=module:function`). It runs
            last, in the caller's thread on texts of at most 300 characters, in the writer thread on prompts and answers.
        classify: `classify(exc, failure)` returns the category of an error, or None to leave it to the built-in rules
            (`RESILIENCE_CLASSIFY=module:function`). `failure` is what they make of it.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    redis_url: str | None = None
    store_url: str | None = None
    database_url: str | None = None
    database_schema: str | None = None
    log_dir: str | os.PathLike[str] | None = None
    privacy: str | None = None
    namespace: str | None = None
    durability: str | None = None
    exit_timeout: float | None = None
    service: str | None = None
    hash_key: str | None = dataclasses.field(default=None, repr=False)
    redact_patterns: Sequence[Sequence[str]] | None = None
    redact_fields: tuple[str, ...] | None = None
    redact_hook: Callable[[str, str], str] | None = None
    classify: OwnRule | None = None

    def __post_init__(self) -> None:
        for name in ("redis_url", "store_url", "database_url"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or "://" not in value):
                msg = f"Settings.{name}={_without_password(value)!r}: give a URL such as {_EXAMPLES[name]}"
                raise ValueError(msg)
        if self.database_schema and not _is_schema(self.database_schema):
            msg = f"Settings.database_schema={self.database_schema!r}: give a name of 1 to 63 bytes that does not begin with pg_"
            raise ValueError(msg)
        if self.privacy is not None and self.privacy not in set(Level):
            msg = f"Settings.privacy={self.privacy!r}: give one of {', '.join(Level)}"
            raise ValueError(msg)
        if self.durability is not None and self.durability not in DURABILITIES:
            msg = f"Settings.durability={self.durability!r}: give one of {', '.join(DURABILITIES)}"
            raise ValueError(msg)
        if self.exit_timeout is not None:
            validation.number("Settings", "exit_timeout", self.exit_timeout, high=_MAX_EXIT_TIMEOUT)
        if self.hash_key is not None and len(self.hash_key) < _MIN_HASH_KEY:
            msg = f"Settings.hash_key={MASK!r}: give at least {_MIN_HASH_KEY} characters"
            raise ValueError(msg)
        # Tuples: equal settings must be equal and hashable, since they are the key under which handlers share a runtime.
        object.__setattr__(self, "redact_patterns", _triples(self.redact_patterns))
        object.__setattr__(self, "redact_fields", _as_tuple(self.redact_fields))
        self.redactor()  # raises for a pattern, path or hook that cannot work
        self._check_classify()

    def _check_classify(self) -> None:
        if self.classify is not None and not callable(self.classify):
            msg = f"Settings.classify={self.classify!r}: give a function of an exception and its Failure"
            raise ValueError(msg)

    def __repr__(self) -> str:
        fields = {name: getattr(self, name) for name in _fields(Settings)}
        shown = {
            name: redact_url(value) if isinstance(value, str) else value
            for name, value in fields.items()
            if value is not None and name != "hash_key"
        }
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def keeps_history(self) -> bool:
        """Whether calls are recorded at all: in SQL, in logs and by sinks."""
        return self.privacy != Level.OFF

    @property
    def circuit_store(self) -> StoreUrl:
        """The store of the shared circuits: *redis_url*, else *store_url*, else this process's memory.

        Raises:
            ConfigurationError: no store supports the URL.
        """
        return StoreUrl.parse(self.redis_url or self.store_url or "memory://")

    def redactor(self) -> Redactor:
        """Return the project's own redaction rules.

        Raises:
            ValueError: naming the pattern, field or hook that cannot work, and the remedy.
        """
        if self.redact_hook is not None and not callable(self.redact_hook):
            msg = f"Settings.redact_hook={self.redact_hook!r}: give a function of a field's name and its text"
            raise ValueError(msg)
        patterns = tuple(_checked_pattern(*pattern) for pattern in self.redact_patterns or ())
        return Redactor(patterns, tuple(map(path_of, self.redact_fields or ())), self.redact_hook)

    def complete(self, environ: Mapping[str, str] | None = None, directory: Path | None = None) -> Settings:
        """Return a copy with every field filled: from the sources, else with its default in the project's folder.

        Args:
            environ: variables to read instead of all sources of `sources.read`.
            directory: where to look for the project; the working directory by default.

        Raises:
            ConfigurationError: a source holds an invalid value.
        """
        loaded = load(environ, directory)
        folder = project_folder(directory or sources.working_directory())
        defaults = {
            "store_url": f"sqlite:///{folder / 'circuits.db'}",
            "database_url": f"sqlite:///{folder / 'resilience.db'}",
            "privacy": "metadata",
            "namespace": "resilience",
            "durability": "normal",
        }
        values = {name: getattr(self, name) for name in _fields(Settings)}
        for name, field in _fields(Settings).items():
            if values[name] is None or values[name] == "":
                text = loaded.get(PREFIX + name.upper(), "")
                values[name] = parsing.value(loaded, PREFIX + name.upper(), str(field.type)) if text else None
            if values[name] is None:
                values[name] = defaults.get(name)
        try:
            return _in_schema(Settings(**values))
        except ValueError as exc:
            raise ConfigurationError(_with_origins(str(exc), loaded, "", values)) from None


def _in_schema(settings: Settings) -> Settings:
    """Return *settings* whose URL names the schema: the URL is all that the history gets to know of its database."""
    if not settings.database_schema or not settings.database_url:
        return settings
    from resilience.history.schema import urls  # noqa: PLC0415 - SQLAlchemy imports for 0.1 s, and few name a schema

    url = urls.with_schema(settings.database_url, settings.database_schema)
    return dataclasses.replace(settings, database_url=url)


def _is_schema(name: str) -> bool:
    # PostgreSQL keeps names that begin with pg_ for itself, and cuts longer ones off.
    return len(name.encode()) <= _MAX_SCHEMA_BYTES and not name.startswith("pg_") and "\0" not in name


@lru_cache(maxsize=256)  # a check runs the pattern on dozens of probe texts; settings are constructed often
def _checked_pattern(name: str, regex: str, replacement: str) -> Pattern:
    # The processor time of this thread: other threads and a busy machine do not make a pattern look slow.
    return check_pattern(name, regex, replacement, clock=time.thread_time)


def _without_password(url: Any) -> Any:
    """Return a rejected URL as a message may show it: it may hold a password although it is not a URL."""
    return (
        redact_secrets(re.sub(r".*@", "[credentials]@", url, flags=re.DOTALL))
        if isinstance(url, str)
        else url
    )


def _triples(patterns: Any) -> tuple[tuple[str, str, str], ...] | None:
    """Return *patterns* as tuples, whatever sequences a TOML file or a caller used."""
    if patterns is None:
        return None
    triples = tuple(tuple(pattern) if isinstance(pattern, list | tuple) else () for pattern in patterns)
    for triple in triples:
        if [str, str, str] != [type(part) for part in triple]:
            msg = f"Settings.redact_patterns={patterns!r}: give lists of (name, regex, replacement)"
            raise ValueError(msg)
    return triples


def _as_tuple(fields: Any) -> tuple[Any, ...] | None:
    return fields if fields is None else (fields,) if isinstance(fields, str) else tuple(fields)


_EXAMPLES: Final = {
    "redis_url": "redis://localhost:6379/0",
    "store_url": "sqlite:///circuits.db or memory://",
    "database_url": "sqlite:///resilience.db",
}


def project_folder(directory: Path) -> Path:
    """Return the `.resilience` folder that all processes of one project share.

    It lies in the project of *directory*, see `config/project.py`.
    """
    return project.project_directory(directory) / FOLDER


def missing_variables(names: Iterable[str], environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return those of *names* that the environment does not define, in order."""
    environ = os.environ if environ is None else environ
    return tuple(name for name in names if name not in environ)


# Each function below raises ConfigurationError for an invalid value or an unknown field. *environ* replaces all sources.


def retry_policy(environ: Mapping[str, str] | None = None) -> RetryPolicy:
    """Return the RetryPolicy of `RESILIENCE_RETRY__<FIELD>`."""
    return load_policy(RetryPolicy, "RETRY", environ)


def breaker_policy(environ: Mapping[str, str] | None = None) -> BreakerPolicy:
    """Return the BreakerPolicy of `RESILIENCE_BREAKER__<FIELD>`."""
    return load_policy(BreakerPolicy, "BREAKER", environ)


def fallback_policy(environ: Mapping[str, str] | None = None) -> FallbackPolicy:
    """Return the FallbackPolicy of `RESILIENCE_FALLBACK` (client names, comma-separated) and `RESILIENCE_FALLBACK__<FIELD>`."""
    return load_policy(FallbackPolicy, "FALLBACK", environ)


def log_policy(environ: Mapping[str, str] | None = None) -> LogPolicy:
    """Return the LogPolicy of `RESILIENCE_LOG__<FIELD>`."""
    return load_policy(LogPolicy, "LOG", environ)


def retention_policy(environ: Mapping[str, str] | None = None) -> Retention:
    """Return the Retention of `RESILIENCE_RETENTION__<FIELD>`."""
    return load_policy(Retention, "RETENTION", environ)


def all_settings() -> dict[str, tuple[type, str]]:
    """Return every variable that exists, with the class and the field that it sets."""
    variables: dict[str, tuple[type, str]] = {
        PREFIX + name.upper(): (Settings, name) for name in _fields(Settings)
    }
    for word, kind in POLICIES.items():
        variables |= {f"{PREFIX}{word}__{name.upper()}": (kind, name) for name in _fields(kind)}
    return {**variables, **{alias: variables[variable] for alias, variable in sources.ALIASES.items()}}


def load(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> sources.LoadedSettings:
    """Read all sources, or take the variables of *environ* alone.

    Args:
        environ: variables to use instead of the sources; settings that are loaded already are returned unchanged.
        directory: where to look for the project; the working directory by default.

    Raises:
        ConfigurationError: a file cannot be read, or a TOML table of ours has an unknown name.
    """
    if isinstance(environ, sources.LoadedSettings):
        return environ
    if environ is None:
        loaded = sources.read(directory=directory)
        _reject_unknown(loaded)
    else:
        loaded = sources.LoadedSettings()
        ours = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
        loaded.add({name: (text, f"the variable {name}") for name, text in ours.items()})
    return loaded


def _reject_unknown(loaded: sources.LoadedSettings) -> None:
    # Only in TOML: a table of ours is for us alone, so an unknown name is a mistake. In the environment, and in .env files,
    # other programs may use our prefix; `resilience doctor` reports such names.
    for variable, origin in loaded.origins.items():
        if origin.endswith(".toml") and variable not in all_settings():
            msg = f"{origin}: no such setting; {_hint(variable)}"
            raise ConfigurationError(msg)


def _hint(variable: str) -> str:
    word = variable.removeprefix(PREFIX)
    if word in POLICIES:
        return f"[{word.lower()}] is a table, with fields such as {next(iter(_fields(POLICIES[word])))}"
    import difflib  # noqa: PLC0415 - for mistakes alone

    near = difflib.get_close_matches(variable, all_settings(), 1, 0.8)
    return (
        f"did you mean {toml_name(near[0])}?"
        if near
        else f"there are {', '.join(map(toml_name, all_settings()))}"
    )


def toml_name(variable: str) -> str:
    """Return the name of *variable* in TOML, such as `deadline of [retry]`."""
    table, _, field = variable.removeprefix(PREFIX).lower().rpartition("__")
    return f"{field} of [{table}]" if table else field


def _fields(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(kind)}


def _with_origins(message: str, loaded: Mapping[str, str], word: str, names: Iterable[str]) -> str:
    """Return *message* with the origin of the field that it names; with those of all loaded *names* if it names none."""
    variables = {name: f"{PREFIX}{word}{name.upper()}" for name in names}
    is_loaded = [name for name in variables if variables[name] in loaded]
    # Messages of dataclasses have the form `Class.field=value: remedy`.
    culprits = [name for name in is_loaded if f".{name}=" in message] or is_loaded
    origins = ", ".join(sources.origin_of(loaded, variables[name]) for name in culprits)
    return f"{message} (set by {origins})"


def load_policy(kind: Callable[..., _P], word: str, environ: Mapping[str, str] | None) -> _P:
    """Return a policy from its variables.

    Args:
        kind: class of the policy.
        word: its word in `RESILIENCE_<WORD>__<FIELD>`.
        environ: variables to use instead of the sources.

    Raises:
        ConfigurationError: a value is invalid, or the policy has no such field.
    """
    loaded = load(environ)
    values = dict(_policy_values(kind, f"{PREFIX}{word}__", loaded))
    try:
        return kind(**values)
    except ValueError as exc:
        raise ConfigurationError(_with_origins(str(exc), loaded, f"{word}__", values)) from None


def _policy_values(kind: Any, prefix: str, loaded: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    fields = _fields(kind)
    for variable in loaded:
        if not variable.startswith(prefix):
            continue
        name = variable.removeprefix(prefix).lower()
        if name not in fields:
            origin = sources.origin_of(loaded, variable)
            msg = f"{variable}: {kind.__name__} has no field {name!r}; it has {', '.join(fields)} (set by {origin})"
            raise ConfigurationError(msg)
        # Types as text: parsing.value chooses its reader by the annotation.
        yield name, parsing.value(loaded, variable, str(fields[name].type))


POLICIES: Final[Mapping[str, type]] = {
    "RETRY": RetryPolicy,
    "BREAKER": BreakerPolicy,
    "FALLBACK": FallbackPolicy,
    "LOG": LogPolicy,
    "RETENTION": Retention,
}
"""The policies, by their word in `RESILIENCE_<WORD>__<FIELD>`."""
