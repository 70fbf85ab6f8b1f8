"""`resilience explain-error`: what the library makes of one response body or error text, and why.

For an error that was handled in an unexpected way: paste the body, read which evidence decided, and either report it or
override it with a function of your own (`RESILIENCE_CLASSIFY`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from resilience.cli import options
from resilience.cli.exit_codes import SETUP_ERROR, exit_on_setup_error
from resilience.cli.output import note, print_json, print_rows
from resilience.errors import ConfigurationError
from resilience.failure import Evidence, Failure, classify, classify_evidence

_MAX_INPUT = 1_000_000
"""Characters of standard input that are read; classification itself looks at fewer."""


def explain_error(
    *,
    status: Annotated[int | None, typer.Option(help="HTTP status of the response, if there was one.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(help='Response header, as "name: value". May be repeated.')
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Read a response body or an error text from standard input; print its category and why.

    Example: resilience explain-error --status 429 < body.json
    """
    text = sys.stdin.read(_MAX_INPUT)
    with exit_on_setup_error():
        headers = dict(map(_pair, header or []))
    if not text.strip() and status is None:
        note("nothing to explain: give the body or the text of an error on standard input, or --status")
        raise typer.Exit(SETUP_ERROR)
    failure = _failure(text, status, headers)
    if as_json:
        print_json({**asdict(failure), "category": failure.category.value})
        return
    rows = [*_facts(failure), *(("because", reason) for reason in failure.because)]
    print_rows(("field", "value"), rows)


def _pair(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        msg = f'--header {line!r}: give "name: value", such as "retry-after: 20"'
        raise ConfigurationError(msg)
    return name.strip().lower(), value.strip()


def _failure(text: str, status: int | None, headers: Mapping[str, str]) -> Failure:
    """Return what the rules make of a response; without a status and headers, of an exception with that text."""
    if status is None and not headers:
        return classify(Exception(text))
    return classify_evidence(Evidence(status=status, headers=headers, body=text))


def _facts(failure: Failure) -> list[tuple[str, object]]:
    rules = failure.rules
    return [
        ("category", failure.category.value),
        ("recoverable", failure.recoverable),
        ("same client again", rules.retry_mode.value),
        ("falls back", rules.allow_fallback),
        ("counts as a failure", failure.counts_against_client),
        ("starts a cool-down", failure.starts_cooldown),
        ("stated wait (s)", failure.retry_after),
        ("provider code", failure.provider_code),
        ("message", failure.message),
    ]
