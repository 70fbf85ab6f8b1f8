"""`resilience demo`: a fleet of agent processes lives through an outage of a simulated provider.

This module has only the options. The fleet, its agents and the drawing are in `resilience.demo`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Final

import typer
from rich.console import Console

from resilience.cli import options
from resilience.cli.exit_codes import PROBLEMS_FOUND, exit_on_setup_error
from resilience.cli.output import print_json
from resilience.demo import run as demo_run
from resilience.demo import table
from resilience.demo.calling import CallStyle
from resilience.demo.shared_redis import shared_redis
from resilience.errors import ConfigurationError

# `--redis` shows how one process learns of an outage from another, and what happens while Redis is away: that takes two
# processes and phases long enough to see.
_SHARING_SECONDS: Final = 5.0
_SHARING_PROCESSES: Final = 2


def demo(
    seconds: Annotated[
        float,
        typer.Option(
            min=2.0,
            max=3600.0,
            help="Seconds during which the agents start new work. Longer where calls are too slow for the phases.",
        ),
    ] = 14.0,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Number of agent processes.")] = 4,
    *,
    as_json: options.JsonObject = False,
    real: Annotated[
        bool,
        typer.Option("--real", help="Call the provider that the environment names, without an outage."),
    ] = False,
    redis: Annotated[
        bool,
        typer.Option(
            "--redis",
            help="Share the circuits through Redis, show which process learns of an outage, and kill Redis in the middle. "
            "Starts a Valkey server, unless RESILIENCE_REDIS_URL names one; that one is not killed.",
        ),
    ] = False,
    sync: Annotated[bool, typer.Option("--sync", help="Call through the sync client, in threads.")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="Call through streams.")] = False,
) -> None:
    """Run a fleet of agent processes through an outage. Exit with 0 only if every call got an answer."""
    console = Console(quiet=as_json)
    # Entered first and left last: table and server have ended before an error is printed.
    with ExitStack() as stack:
        stack.enter_context(exit_on_setup_error())
        if redis:
            _check_sharing(seconds, processes, real=real)
        shared = stack.enter_context(shared_redis()) if redis else None
        show = stack.enter_context(table.live_table(console))
        run = demo_run.run_demo(
            seconds, processes, show, real=real, redis=shared, style=CallStyle(sync=sync, stream=stream)
        )
    if as_json:
        print_json(run.as_dict())
    else:
        table.print_summary(console, run)
    raise typer.Exit(0 if run.successful else PROBLEMS_FOUND)


def _check_sharing(seconds: float, processes: int, *, real: bool) -> None:
    if real:
        msg = "--redis shows an outage of a simulated provider: leave --real out"
        raise ConfigurationError(msg)
    if seconds < _SHARING_SECONDS or processes < _SHARING_PROCESSES:
        msg = f"--redis needs at least --seconds {_SHARING_SECONDS:g} and --processes {_SHARING_PROCESSES} to have something to show"
        raise ConfigurationError(msg)
