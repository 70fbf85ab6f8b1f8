"""`resilience status`: how the fleet is, on one screen.

The first command in an incident. It answers in sentences what is broken, since when, whether callers notice and what to do, and
shows the numbers below. Everything on it is one `Fleet`, read once from the store and the history.

Exit codes, for probes: 0 well; 2 a client is refused, or the store or the history is away; 3 nothing could be read.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from resilience.cli import location_options, options
from resilience.cli.output import note, print_json, print_line, print_screen
from resilience.cli.status_screen import ScreenLayout, screen
from resilience.config.settings import Settings
from resilience.errors import ConfigurationError
from resilience.ops.fleet import Fleet
from resilience.ops.next_steps import next_steps
from resilience.ops.reading import read
from resilience.ops.verdict import FleetVerdict, sentences, verdict
from resilience.redaction import redact_secrets

_EVERY: Final = 2.0
"""Seconds between two screens of `--watch`."""
_EXIT_CODES: Final = {FleetVerdict.WELL: 0, FleetVerdict.TROUBLED: 2, FleetVerdict.UNREADABLE: 3}


def status(
    context: typer.Context,
    *,
    since: Annotated[
        Any,
        typer.Option(
            help="Start of the window: 1m, 15m or 24h ago, or a time. By default the last minute, or more if no call is so new.",
            metavar="TIME",
            parser=options.parse_moment,
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Draw it again every 2 seconds until Ctrl-C.")
    ] = False,
    output: options.ObjectOutput = None,
    as_json: options.JsonObject = False,
) -> None:
    """Show how the fleet is: what is broken, since when, whether callers notice, and what to do next.

    Exit codes: 0 well; 2 a client is not asked because of its circuit or a
    cool-down, or the store or the history is away; 3 nothing could be read.

    Example: resilience status --since 15m
    """
    command, wants_json = _command(context), as_json or output is options.ObjectFormat.JSON
    try:
        while True:
            code = _show(since, command, as_json=wants_json, watch=watch)
            if not watch:
                raise typer.Exit(code)
            time.sleep(_EVERY)
    except KeyboardInterrupt:
        return


def _show(since: datetime | timedelta | None, command: str, *, as_json: bool, watch: bool) -> int:
    """Read and print the fleet once; return the exit code."""
    try:
        fleet = read(Settings().complete(), since=since)
    except ConfigurationError as exc:
        note(redact_secrets(str(exc)))
        return _EXIT_CODES[FleetVerdict.UNREADABLE]
    if as_json:
        print_json(_as_object(fleet))
    else:
        _draw(fleet, command, watch=watch)
        if verdict(fleet) is FleetVerdict.UNREADABLE and (
            hint := options.demo_below(Path(fleet.history).parent)
        ):
            note(hint.removeprefix("; "))
    sys.stdout.flush()
    return _EXIT_CODES[verdict(fleet)]


def _draw(fleet: Fleet, command: str, *, watch: bool) -> None:
    console = Console(highlight=False)
    lines = screen(fleet, ScreenLayout(width=console.width, unicode=_has_unicode(), command=command))
    in_place = watch and console.is_terminal
    if in_place:
        console.clear()
    print_screen(lines, console)
    if watch and not in_place:
        print_line("")


def _has_unicode() -> bool:
    # By trying: LANG, PYTHONIOENCODING and the kind of the stream all have a part in it, and the stream knows the result.
    try:
        "▁█…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _command(context: typer.Context) -> str:
    """Return the words that begin a command on the same place, for pasting.

    A command without them would look into another folder, and find other circuits or none.

    Args:
        context: the context of Click, which has the options that were given.
    """
    words = ["resilience"]
    for name, value in location_options.words(context).items():
        words += [f"--{name}", shlex.quote(value)]
    return " ".join(words)


def _as_object(fleet: Fleet) -> dict[str, Any]:
    return {
        "verdict": verdict(fleet).value,
        "sentences": [sentence.text for sentence in sentences(fleet)],
        "next": [dataclasses.asdict(step) for step in next_steps(fleet)],
        **dataclasses.asdict(fleet),
    }
