"""The lock in front of Datasette: an ASGI application that answers only requests with the token, and only for names it knows.

A port on loopback is open to every user of the machine and, through a name that leads to 127.0.0.1, to pages in the browser. The token is
in the address that `resilience explore` prints. The first request trades it for a cookie, so that it does not stay in the address bar.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from resilience.cli.host_names import is_known_host

TOKEN_VARIABLE: Final = "RESILIENCE_EXPLORE_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable with the token, between two processes of one command."""
PARAMETER: Final = "_token"
"""The parameter of an address with the token."""
PLUGIN: Final = "baml-resilience"
"""The name under which Datasette's metadata asks for the guard."""
_COOKIE: Final = "resilience_explore"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class TokenGuard:
    """Guards an ASGI application.

    Args:
        application: the application behind.
        token: the token; that of the environment when not given. Without any, only the `Host` is checked.
    """

    def __init__(self, application: Application, token: str | None = None) -> None:
        self._application = application
        self._token = os.environ.get(TOKEN_VARIABLE, "") if token is None else token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        if scope["type"] != "http" or not is_known_host(headers.get("host", "")):
            await _answer(send, HTTPStatus.MISDIRECTED_REQUEST)
        elif (
            not self._token
            or self._is_token(headers.get("authorization", "").removeprefix("Bearer "))
            or self._is_token(_cookie(headers.get("cookie", "")))
        ):
            await self._application(scope, receive, send)
        else:
            await self._trade_token(scope, send)

    async def _trade_token(self, scope: Scope, send: Send) -> None:
        """Trade the token of the address for a cookie, and lead to the same address without it."""
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        if not self._is_token(next((value for name, value in query if name == PARAMETER), "")):
            await _answer(send, HTTPStatus.FORBIDDEN)
            return
        rest = urlencode([(name, value) for name, value in query if name != PARAMETER])
        # Not scope["path"], which is decoded: a path of `//host` would lead to another server.
        path = "/" + scope.get("raw_path", b"/").decode("latin-1").partition("?")[0].lstrip("/")
        cookie = f"{_COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        # A page instead of a redirection: from another site a browser follows a redirection without a strict cookie.
        target = f"{path}?{rest}" if rest else path
        await _answer(send, HTTPStatus.OK, [("set-cookie", cookie), ("refresh", f"0; url={target}")])

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


def _cookie(header: str) -> str:
    try:
        cookie = SimpleCookie(header).get(_COOKIE)
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value


async def _answer(send: Send, status: HTTPStatus, headers: list[tuple[str, str]] | None = None) -> None:
    body = f"{status.phrase}\n".encode()
    named = [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body)))]
    named += [("cache-control", "no-store"), ("referrer-policy", "no-referrer"), *(headers or [])]
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in named]
    await send({"type": "http.response.start", "status": status.value, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
