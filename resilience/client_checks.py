"""Compare the names in the policies with what a client was generated from, and warn of what multiplies attempts."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Collection, Sequence

from resilience import baml as _baml
from resilience.config import settings as _settings
from resilience.errors import ConfigurationError, ResilienceWarning
from resilience.handler import BAMLErrorHandler


def check_names(
    handler: BAMLErrorHandler, declarations: _baml.Declarations, functions: Sequence[str]
) -> None:
    """Check the names in the policies of *handler*, and warn of clients that will not work as expected.

    Args:
        handler: the handler whose policies name clients and functions.
        declarations: what the project declares; empty for a double, whose client names cannot be checked.
        functions: the functions of the client.

    Raises:
        ConfigurationError: a policy names a client or function that does not exist.
    """
    for function in handler.named_functions():
        if function not in functions:
            raise ConfigurationError(_unknown("per_function", "function", function, functions))
    clients = declarations.clients
    if not clients:  # a double, or a client without its source: client names cannot be checked
        return
    for place, names in handler.named_clients().items():
        for name in names:
            if name not in clients and "/" not in name:  # "openai/gpt-4o" is declared by its use
                raise ConfigurationError(_unknown(place, "client", name, tuple(clients)))
    # Only clients that a call can reach are worth a warning; a project may declare others for experiments.
    first = {
        *declarations.functions.values(),
        *itertools.chain.from_iterable(handler.named_clients().values()),
    }
    used = {leaf for client in first for leaf in declarations.leaves(client)}
    _warn_of_inner_retries(declarations, used)
    _warn_of_the_aws_sdk(declarations, used)
    _warn_of_unset(declarations, used)


def _warn_of_inner_retries(declarations: _baml.Declarations, used: Collection[str]) -> None:
    retrying = [
        client.name
        for client in declarations.clients.values()
        if client.name in used and client.max_retries and not _baml.can_switch_off(client)
    ]
    if retrying:
        warnings.warn(
            f"attempts multiply: the retry_policy of {', '.join(retrying)} cannot be switched off for guarded calls, and BAML "
            "retries what no retry can mend; take retry_policy off these clients",
            ResilienceWarning,
            stacklevel=4,
        )


def _warn_of_the_aws_sdk(declarations: _baml.Declarations, used: Collection[str]) -> None:
    """Warn of retries of the AWS SDK: up to three requests per attempt, which no option of a call switches off."""
    clients = [client.name for client in declarations.clients.values() if client.provider == "aws-bedrock"]
    asked = [name for name in clients if name in used]
    if asked and os.environ.get("AWS_MAX_ATTEMPTS") != "1":
        warnings.warn(
            f"attempts multiply: the AWS SDK retries by itself below {', '.join(asked)}, up to three requests per attempt; set "
            "the environment variable AWS_MAX_ATTEMPTS=1",
            ResilienceWarning,
            stacklevel=4,
        )


def _warn_of_unset(declarations: _baml.Declarations, used: Collection[str]) -> None:
    unset = {
        client.name: missing
        for client in declarations.clients.values()
        if client.name in used and (missing := _settings.missing_variables(client.variables))
    }
    if unset:
        missing_by_client = "; ".join(f"{client} needs {', '.join(names)}" for client, names in unset.items())
        warnings.warn(
            f"environment variables are not set: {missing_by_client}; export them, or give them in baml_options['env']",
            ResilienceWarning,
            stacklevel=4,
        )


def _unknown(place: str, kind: str, name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - for mistakes alone

    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{place} names the {kind} {name!r}, which the BAML client does not have; it has {', '.join(known)}{hint}"
