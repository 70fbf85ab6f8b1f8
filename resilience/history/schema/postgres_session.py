"""Sessions on a PostgreSQL server: the schema of our tables, what the URL asks for, and settings that a pooler lets through.

A pooler in transaction mode, such as PgBouncer, Neon's or Supabase's, gives each transaction another session of the server. Three
rules follow from that:

- Settings are not sent when the connection starts. PgBouncer refuses a start-up packet with options that it does not keep track
  of. Each transaction sets them for itself instead, by `set_config(name, value, true)`, which is `SET LOCAL`.
- Nothing is set for a session: another program would get the session, and its settings, next.
- There are no prepared statements (`prepare_threshold=None`): the next transaction may run where they do not exist.

Options that the URL gives as libpq spells them (`options=-csearch_path%3Dobservability`) are read here and set in the same way.
Options that are no settings, such as `endpoint=...` of Neon, concern the pooler and are sent when the connection starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

DEFAULT_SCHEMA: Final = "resilience"
"""The schema of the tables, unless `RESILIENCE_DATABASE_SCHEMA` or the search_path of the URL names another one."""

_KEEPALIVE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}
"""TCP settings that detect a vanished server within 20 s; seconds, the last one milliseconds.

A server whose machine or network is gone sends no refusal. By the defaults of the system a writer then waits for a quarter of an
hour if it has sent something, and for hours if it waits for an answer. The timeouts of the server cannot end that.
"""
_WORD: Final = re.compile(r"(?:\\.|[^\s\\])+")
"""A word of the start-up options. A backslash keeps a space in a word, as the server reads them."""
_SETTING: Final = re.compile(r"\A(?:-c|--)?\s*([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_NAME: Final = re.compile(r'\s*+(?:"((?:[^"]|"")*+)(?:"|\Z)|([^\s,"]++))?+\s*+(?P<other>[^,]*+)(?:,|\Z)')
"""What is between two commas, one name in a path that is valid. It always matches, so each character is read once."""
_CONNECTION_OPTIONS: Final = frozenset({"cluster"})
"""Long options that are no settings: CockroachDB's proxy reads `--cluster` from the start-up packet."""


def schema_of(url: sa.URL) -> str:
    """Return the schema of the tables: the first of the URL's search_path, else `resilience`."""
    return search_path(url)[0]


def search_path(url: sa.URL) -> list[str]:
    """Return the schemas in which names are looked up, ours first."""
    names = _names(_split(url)[0].get("search_path", ""), url.username or "")
    return names or [DEFAULT_SCHEMA]


def with_schema(url: sa.URL, schema: str) -> sa.URL:
    """Return *url* with *schema* at the head of its search_path, where `schema_of` finds it."""
    settings, _ = _split(url)
    given = _names(settings.get("search_path", ""), url.username or "")
    if given[:1] == [schema]:
        return url
    path = ",".join(map(quoted, dict.fromkeys((schema, *given))))
    word = re.sub(r"([\s\\])", r"\\\1", f"-csearch_path={path}")
    # The last of several words for one setting counts, for us as for the server.
    return url.update_query_dict({"options": " ".join([*_words(url), word])})


def start_up_url(url: sa.URL) -> sa.URL:
    """Return *url* without the options that are settings: those are set in each transaction."""
    _, others = _split(url)
    query = {name: value for name, value in url.query.items() if name != "options"}
    return url.set(query={**query, "options": " ".join(others)} if others else query)


def connect_arguments(url: sa.URL, **defaults: Any) -> dict[str, Any]:
    """Return arguments for the driver. What *url* sets itself takes precedence over ours and over *defaults*."""
    wanted = {"application_name": "resilience", **_KEEPALIVE, **defaults}
    ours = {name: value for name, value in wanted.items() if name not in url.query}
    return {**ours, "prepare_threshold": None}


def transaction_settings(url: sa.URL, defaults: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of each transaction: *defaults*, then those of the URL's options, and the search_path."""
    settings = {"timezone": "UTC", **defaults, **_split(url)[0]}
    settings["search_path"] = ", ".join(map(quoted, search_path(url)))
    return settings


def set_statement(settings: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return one statement that sets all *settings* for the current transaction, and its parameters."""
    # The parameters are named by position, because a setting may have a dot in its name.
    named = {
        f"{kind}{number}": text
        for number, pair in enumerate(settings.items())
        for kind, text in zip("nv", pair, strict=True)
    }
    calls = ", ".join(f"set_config(%(n{number})s, %(v{number})s, true)" for number in range(len(settings)))
    return f"SELECT {calls}", named


def set_in_each_transaction(engine: sa.Engine, settings: Mapping[str, str]) -> None:
    """Let every transaction of *engine* begin with *settings*."""
    statement, parameters = set_statement(settings)

    @event.listens_for(engine, "begin")
    def _set(connection: sa.Connection) -> None:
        connection.exec_driver_sql(statement, parameters)


def qualified(url: sa.URL) -> dict[str, Any]:
    """Return the execution options with which SQLAlchemy writes the schema before the name of each table."""
    return {"schema_translate_map": {None: schema_of(url)}}


def schema_of_connection(connection: sa.Connection) -> str:
    """Return the schema that statements of *connection* name; it was opened with `qualified`."""
    names: Mapping[Any, str] = connection.get_execution_options().get("schema_translate_map", {})
    return names.get(None, DEFAULT_SCHEMA)


def quoted(name: str) -> str:
    """Return *name* as an identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _split(url: sa.URL) -> tuple[dict[str, str], list[str]]:
    """Return the settings in the URL's options, and the words that are none."""
    settings: dict[str, str] = {}
    others: list[str] = []
    words = iter(_words(url))
    for word in words:
        text = f"-c{next(words, '')}" if word == "-c" else word
        match = _SETTING.fullmatch(re.sub(r"\\(.)", r"\1", text)) if text.startswith(("-c", "--")) else None
        if match is None or match[1] in _CONNECTION_OPTIONS:
            others.append(text)
        else:
            settings[match[1].replace("-", "_").lower()] = match[2]
    return settings, others


def _words(url: sa.URL) -> list[str]:
    options = url.query.get("options", "")
    return _WORD.findall(options if isinstance(options, str) else " ".join(options))


def _names(path: str, user: str) -> list[str]:
    """Return the schemas of a search_path. As in the server, names without quotes are in lower case, and `$user` is the role."""
    names = [
        match[1].replace('""', '"') if match[1] is not None else (match[2] or "").lower()
        for match in _NAME.finditer(path)
        if not match["other"]
    ]
    return [name for name in (user if name == "$user" else name for name in names) if name]
