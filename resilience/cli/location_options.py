"""The options `--at` and `--namespace`, which stand before or after a command."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final

import typer

from resilience.cli import completion, location

_PANEL: Final = "Place"


def _take_at(context: typer.Context, value: str | None) -> str | None:
    return _take(context, "at", value)


def _take_namespace(context: typer.Context, value: str | None) -> str | None:
    return _take(context, "namespace", value)


def _take(context: typer.Context, name: str, value: str | None) -> str | None:
    """Work on a place from here to the end of the command. One after the command replaces one before it."""
    if value is not None:
        completion.place_of(context)[name] = value
        # A completion parses the words without running anything, and uses the place itself.
        if not context.resilient_parsing:
            context.call_on_close(location.use(**{"at": None, "namespace": None, name: value}))
    return value


At = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|URL",
        callback=_take_at,
        rich_help_panel=_PANEL,
        help="Work on this place: a project, a folder or file with a history, or the URL of a Redis or a database.",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        callback=_take_namespace,
        autocompletion=completion.namespaces,
        rich_help_panel=_PANEL,
        help="Work on the circuits and rows of this deployment.",
    ),
]


@cache
def options() -> list[Any]:
    """Return the two options as Click knows them, to be added to a command. Their values go to no function."""

    def holder(*, at: At = None, namespace: Namespace = None) -> None:
        """Hold the options."""

    holding = typer.Typer(add_completion=False)
    holding.command()(holder)
    found = [item for item in typer.main.get_command(holding).params if item.name in {"at", "namespace"}]
    for option in found:
        option.expose_value = False
    return found


def words(context: typer.Context) -> dict[str, str]:
    """Return the values of the two options that were given, before or after the command."""
    return completion.place_of(context)
