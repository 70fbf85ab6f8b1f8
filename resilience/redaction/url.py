"""Mask the credentials of a URL by its structure: no pattern knows which characters a password has.

A password with `"`, `<`, a blank or a second `@` should be percent-encoded, and drivers accept it all the same.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_plus

from resilience.redaction.text import MASK, redact_secrets

_SHOWN: Final = frozenset(
    [
        "application_name",
        "cache",
        "check_same_thread",
        "client_encoding",
        "connect_timeout",
        "db",
        "decode_responses",
        "dbname",
        "driver",
        "encoding",
        "health_check_interval",
        "host",
        "keepalives",
        "keepalives_idle",
        "max_connections",
        "mode",
        "pool_size",
        "port",
        "prepare_threshold",
        "protocol",
        "retry_on_timeout",
        "search_path",
        "sentinels",
        "service_name",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_timeout",
        "ssl",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
        "sslcert",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
        "timeout",
        "uri",
        "vfs",
    ]
)
"""Parameters whose value is shown. All others are masked: a driver may take a password in any of them."""
_OPTION: Final = re.compile(
    r"\A(?:search_path|statement_timeout|lock_timeout|timezone)=[\w\", $/.-]+\Z",
)
"""What may be shown of `options`, which sets anything on a PostgreSQL server."""
_NEXT_OPTION: Final = re.compile(r"(?:\A|(?<=\s))-c")


def redact_url(url: str) -> str:
    """Return *url* with `[credentials]` for everything before the last `@`, and without the values of unknown parameters.

    Args:
        url: a URL, or any text that stands in its place.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return redact_secrets(url)
    # A path alone has no credentials, and its folders may be named with an @.
    before, at, after = ("", "", rest) if rest.startswith("/") else rest.rpartition("@")
    place, question, query = after.partition("?")
    credentials = "[credentials]" if before else ""
    return f"{scheme}://{credentials}{at}{redact_secrets(place)}{question}{_query(query)}"


def _query(query: str) -> str:
    return "&".join(map(_parameter, query.split("&")))


def _parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    if not equals or name in _SHOWN or (name == "options" and _may_be_shown(unquote_plus(value))):
        return redact_secrets(text)
    return f"{name}={MASK}"


def _may_be_shown(options: str) -> bool:
    first, *others = _NEXT_OPTION.split(options)
    return not first.strip() and bool(others) and all(_OPTION.match(option.strip()) for option in others)
