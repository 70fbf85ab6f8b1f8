"""Which values of the header `Host` a local server answers.

A web page can make the browser of an operator ask a name of the page's own that leads to 127.0.0.1 (DNS rebinding), and then read the
answer. The browser still sends that name. So a server that has no login answers only names it knows. An address is no name: no page can
rebind it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final

_OWN: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


def is_known_host(header: str, allowed: Collection[str] = ()) -> bool:
    """Return whether a server may answer a request with this `Host`.

    Args:
        header: the value of the header: a name or an address, with or without a port.
        allowed: further names, in lower case.
    """
    host = _without_port(header.strip().lower())
    return host in _OWN or host in allowed or _is_address(host)


def _without_port(host: str) -> str:
    if host.startswith("["):  # an IPv6 address stands in brackets
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that listens on *host*. Of names, only those of loopback are known."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in _OWN
