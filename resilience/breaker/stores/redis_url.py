"""Which Redis or Valkey a URL means, without a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from resilience.errors import ConfigurationError

NAMESPACE: Final = "resilience"
"""The start of every key, unless a deployment sets its own namespace."""

_KINDS: Final = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
REDIS_SCHEMES: Final = frozenset(_KINDS) | {scheme.replace("redis", "valkey", 1) for scheme in _KINDS}
"""The schemes that `redis.open_redis` understands; valkey and valkeys mean the same as redis and rediss."""

_SENTINEL_PORT: Final = 26379
_PORT: Final = 6379
# The names are those of redis-py, and redis_connection.py passes them on as they are, those with `sentinel_`
# to the Sentinels. Do not add an option that lets redis-py repeat a command: a step could then count twice.
_OPTIONS: Final = {
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "db": int,
    "username": str,
    "password": str,
    "sentinel_username": str,
    "sentinel_password": str,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a Redis. Its repr shows no secrets.

    Attributes:
        kind: `single`, `unix`, `sentinel` or `cluster`.
        tls: whether the connection is encrypted.
        hosts: host and port of the server, of the Sentinels, or of some nodes of the cluster.
        path: the path of the unix socket.
        master: the name by which the Sentinels know the server.
        options: options of the connection by their names in redis-py, with user name and password.
    """

    kind: str
    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    master: str = ""
    options: Mapping[str, object] = field(default_factory=dict, repr=False)


def parse(url: str) -> Address:
    """Return the address that a URL names.

    Args:
        url: the URL; `redis.open_redis` lists its forms.

    Raises:
        ConfigurationError: naming what is wrong with it, never its password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        # Without the exception: the message of urlsplit may quote the part of the URL that contains the password.
        msg = "a URL of circuits could not be read: a bracket or a port is wrong"
        raise ConfigurationError(msg) from None
    scheme = parts.scheme.replace("valkey", "redis", 1)
    if scheme not in _KINDS:
        msg = (
            f"no Redis at {parts.scheme!r}: the URL must begin with one of {', '.join(sorted(REDIS_SCHEMES))}"
        )
        raise ConfigurationError(msg)
    kind, tls = _KINDS[scheme]
    if kind == "unix":
        return _unix(parts)
    segments, options = parts.path.strip("/").split("/"), _options(parts)
    master = unquote(segments.pop(0)) if kind == "sentinel" else ""
    if kind == "sentinel" and not master:
        msg = "a Sentinel URL must end with the name of the master: redis+sentinel://host:26379,host2:26379/name"
        raise ConfigurationError(msg)
    if any(segments):
        options = {"db": _database("/".join(segments), kind), **options}
    default = _SENTINEL_PORT if kind == "sentinel" else _PORT
    # urlsplit knows one host, so several are split here. A password may contain @: the last one ends the credentials.
    hosts = tuple(_host(text, default) for text in parts.netloc.rpartition("@")[2].split(","))
    if kind == "single" and len(hosts) > 1:
        msg = "a redis:// URL names one host; several belong to redis+sentinel:// or redis+cluster://"
        raise ConfigurationError(msg)
    return Address(kind=kind, tls=tls, hosts=hosts, master=master, options=options)


def _unix(parts: SplitResult) -> Address:
    if not parts.path:
        msg = "a unix:// URL must name a socket: unix:///path/to/socket"
        raise ConfigurationError(msg)
    return Address(kind="unix", path=unquote(parts.path), options=_options(parts))


def _options(parts: SplitResult) -> dict[str, object]:
    """Return the credentials before the host and the options after the question mark; the latter win."""
    options: dict[str, object] = {}
    credentials = parts.netloc.rpartition("@")[0]
    for name, text in zip(("username", "password"), credentials.split(":", 1), strict=False):
        if text:
            options[name] = unquote(text)
    for name, text in parse_qsl(parts.query):
        read = _OPTIONS.get(name)
        if read is None:
            msg = f"a Redis URL has no option {name!r}; the options are {', '.join(sorted(_OPTIONS))}"
            raise ConfigurationError(msg)
        try:
            options[name] = read(text)
        except ValueError:
            msg = f"the option {name} of a Redis URL must be a number"
            raise ConfigurationError(msg) from None
    return options


def _database(text: str, kind: str) -> int:
    if not text.isdecimal() or kind == "cluster":
        msg = (
            "a cluster has no database number"
            if kind == "cluster"
            else "the database of a Redis URL must be a number"
        )
        raise ConfigurationError(msg)
    return int(text)


def _host(text: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        return unquote(parts.hostname or "localhost"), parts.port or default
    except ValueError:
        msg = "a host of a Redis URL looks like name:6379 or [::1]:6379"
        raise ConfigurationError(msg) from None
