"""Switch off the `retry_policy` of a client below guarded attempts.

BAML's retry_policy asks again after every HTTP error, also after a 401 or a 400, ignores `Retry-After`, and multiplies with the
retries of this package. A `ClientRegistry` entry with the name of a declared client replaces it, so an entry built from the
same options without the policy makes one request per attempt.

The entry is used only where it is proven to be the same: BAML builds the request of the call once with it and once without,
and address, headers and body must be equal. Otherwise the policy stays on, with one warning.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from resilience.baml.declarations import Client
from resilience.baml.rust_runtime import baml_runtime
from resilience.baml.syntax import Unquoted, Value

_log = logging.getLogger("resilience")

PROVIDERS: Final = frozenset(
    {
        "openai",
        "openai-generic",
        "openai-responses",
        "azure-openai",
        "anthropic",
        "google-ai",
        "ollama",
        "openrouter",
    }
)
"""Providers whose requests can be compared. `aws-bedrock` and `vertex-ai` sign or fetch tokens while they ask."""

BuildRequest = Callable[..., Awaitable[Any]]
"""`b.request.X`: builds the request of function X without sending it."""

_PROOFS: Final = 512
"""How many pairs of client and environment are remembered."""
_SALT: Final = os.urandom(16)
_ENVIRONMENT = re.compile(r"env\.(\w+)")
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?")
_WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None}


class _UnreadableError(Exception):
    """An option has no value that can be given to BAML: an unset variable or an expression."""


def can_switch_off(client: Client) -> bool:
    """Return whether the retry_policy of *client* may be switched off, as far as its declaration tells."""
    return client.provider in PROVIDERS and not _has_expression(client.options)


@dataclass(slots=True)
class SingleAttempts:
    """The entries without a retry_policy, one per client and environment.

    Attributes:
        clients: the declared clients by name.
    """

    clients: Mapping[str, Client]
    _proven: dict[bytes, bool] = field(default_factory=dict, repr=False)
    _reported: set[str] = field(default_factory=set, repr=False)

    async def registry(
        self,
        client: str,
        build: BuildRequest | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        *,
        is_named: bool,
    ) -> Any:
        """Return a ClientRegistry in which *client* has no retry_policy; None where it has none, or keeps it.

        Args:
            client: the client that is asked.
            build: the function of `b.request` that builds the request of this call.
            args: positional arguments of the call.
            kwargs: keyword arguments of the call.
            options: the caller's BAML options.
            is_named: whether the registry also has to name *client*, because it is not BAML's own choice.
        """
        declared = self.clients.get(client)
        if declared is None or not declared.max_retries:
            return None
        environment = _environment(declared, options)
        try:
            entry = {key: _resolved(value, environment) for key, value in declared.options.items()}
        except _UnreadableError:
            return self._keep(client)
        key = _digest(client, is_named, environment)
        # Read into a local: another thread may clear the proofs while this call waits. Calls that come at the same time may
        # prove the same twice, which costs two built requests each and sends nothing.
        proven = self._proven.get(key)
        if proven is None:
            proven = can_switch_off(declared) and await _is_same(
                declared, entry, build, args=args, kwargs=kwargs, options=options, is_named=is_named
            )
            self._remember(key, proven)
        if proven is None:
            return None
        return _registry(declared, entry, is_named=is_named) if proven else self._keep(client)

    def _remember(self, key: bytes, proven: bool | None) -> None:  # noqa: FBT001 - the value to keep
        if proven is None:
            return
        if len(self._proven) >= _PROOFS:
            # Environments given per call (a key for each tenant) must not grow without limit. Proofs can be repeated.
            self._proven.clear()
        self._proven[key] = proven

    def _keep(self, client: str) -> None:
        if client not in self._reported:
            self._reported.add(client)
            _log.warning(
                "client %s keeps its retry_policy: each attempt can be several requests; take retry_policy off it in the .baml file",
                client,
            )


async def _is_same(
    client: Client,
    entry: Mapping[str, Any],
    build: BuildRequest | None,
    *,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    is_named: bool,
) -> bool | None:
    """Return whether BAML builds the same request with the entry as without it; None if it builds none for this call."""
    if build is None:
        return False
    shared = {name: value for name, value in options.items() if name in {"tb", "env"} and value is not None}
    plain = dict(shared)
    if is_named:
        plain["client_registry"] = baml_runtime().ClientRegistry()
        plain["client_registry"].set_primary(client.name)
    ours = {**shared, "client_registry": _registry(client, entry, is_named=is_named)}
    try:
        declared = await build(*args, baml_options=plain, **kwargs)
    except Exception:  # noqa: BLE001 - a wrong argument: the call itself will say so, and it proves nothing for later calls
        return None
    try:
        rebuilt = await build(*args, baml_options=ours, **kwargs)
        return _comparable(declared) == _comparable(rebuilt)
    except Exception:  # noqa: BLE001 - whatever cannot be built from the entry cannot be proven the same
        return False


def _comparable(request: Any) -> tuple[object, ...]:
    # Parsed, since BAML writes the options of a client in no fixed order.
    return request.method, request.url, dict(request.headers), request.body.json()


def _registry(client: Client, entry: Mapping[str, Any], *, is_named: bool) -> Any:
    registry = baml_runtime().ClientRegistry()
    registry.add_llm_client(client.name, client.provider, dict(entry))
    if is_named:
        registry.set_primary(client.name)
    return registry


def _digest(client: str, is_named: bool, environment: Mapping[str, str | None]) -> bytes:  # noqa: FBT001 - a part of the key
    # The environment holds API keys, which must not lie about in memory for as long as the process lives. The salt is of this
    # process, so that a digest in a memory dump cannot be compared with guessed keys of another one.
    text = repr((client, is_named, sorted(environment.items())))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), key=_SALT, digest_size=16).digest()


def _environment(client: Client, options: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the variables the client reads, as BAML sees them: those of the call before those of the process."""
    given = options.get("env") or {}
    return {name: given.get(name, os.environ.get(name)) for name in client.variables}


def _resolved(value: Value, environment: Mapping[str, str | None]) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(nested, environment) for key, nested in value.items()}
    if isinstance(value, list):
        return [_resolved(nested, environment) for nested in value]
    if not isinstance(value, Unquoted):
        return value
    return _resolved_word(value, environment)


def _resolved_word(word: str, environment: Mapping[str, str | None]) -> Any:
    variable = _ENVIRONMENT.fullmatch(word)
    if variable is not None:
        text = environment.get(variable[1])
        if text is None:
            raise _UnreadableError
        return text
    if _NUMBER.fullmatch(word):
        return float(word) if "." in word else int(word)
    if word.startswith("{{"):
        raise _UnreadableError
    return _WORDS.get(word, str(word))


def _has_expression(value: Value | Mapping[str, Value]) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_expression, value.values()))
    if isinstance(value, list):
        return any(map(_has_expression, value))
    return isinstance(value, Unquoted) and value.startswith("{{")
