"""`resilience demo`: the fleet that survives an outage before your eyes."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import Annotated, Final

import typer
from rich.console import Console

from resilience.cli.exit_codes import explained
from resilience.demo import fleet, table
from resilience.demo.server import shared_redis
from resilience.errors import ConfigurationError

_SHARING_SECONDS: Final = 5.0
_SHARING_PROCESSES: Final = 2


def demo(
    seconds: Annotated[
        float, typer.Option(min=2.0, max=3600.0, help="How long the agents begin new work.")
    ] = 14.0,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Agent processes.")] = 4,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    real: Annotated[
        bool, typer.Option("--real", help="Ask the provider your environment names, without an outage.")
    ] = False,
    redis: Annotated[
        bool,
        typer.Option(
            "--redis",
            help="Share the circuits through Redis: show who learns of an outage, and kill Redis in the middle. Starts a Valkey "
            "of its own unless RESILIENCE_REDIS_URL names a server, which is left alone.",
        ),
    ] = False,
) -> None:
    """Run a fleet of agent processes through an outage; exit 0 only if every call got an answer."""
    console = Console(quiet=as_json)
    with ExitStack() as stack:
        stack.enter_context(explained())
        if redis:
            _check_sharing(seconds, processes, real=real)
        shared = stack.enter_context(shared_redis()) if redis else None
        show = stack.enter_context(table.shown(console))
        run = fleet.play(seconds, processes, show, real=real, redis=shared)
    if as_json:
        sys.stdout.write(json.dumps(run.as_dict()) + "\n")
    else:
        table.tell(console, run)
    raise typer.Exit(0 if run.whole else 1)


def _check_sharing(seconds: float, processes: int, *, real: bool) -> None:
    if real:
        msg = "--redis shows an outage of a simulated provider: leave --real out"
        raise ConfigurationError(msg)
    if seconds < _SHARING_SECONDS or processes < _SHARING_PROCESSES:
        msg = f"--redis needs --seconds {_SHARING_SECONDS:g} and --processes {_SHARING_PROCESSES}, or more, to have something to show"
        raise ConfigurationError(msg)
