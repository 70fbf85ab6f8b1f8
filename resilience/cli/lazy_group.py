"""A group of commands whose modules are imported when a command runs.

A probe, a completion and `--watch` start the command line often. Importing every command takes seconds of CPU on a small machine,
and each command needs only its own part of the library.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from resilience.cli import location_options


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is, and what the list of commands says about it.

    Attributes:
        module: the module to import.
        attribute: a function, or a `typer.Typer` for a group.
        summary: one sentence, equal to the first of the command's own help text.
        placed: whether it works on the place that `--at` and `--namespace` name.
    """

    module: str
    attribute: str
    summary: str
    placed: bool = True


class _LazyCommands(MutableMapping[str, Any]):
    """The commands of a group by name. Reading one imports its module."""

    def __init__(self, sources: Mapping[str, LazyCommand]) -> None:
        self._sources = dict(sources)
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._sources[name])
            if self._sources[name].placed:
                _place(self._loaded[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        self._loaded.pop(name, None)
        self._sources.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._sources, **self._loaded})

    def __len__(self) -> int:
        return len({**self._sources, **self._loaded})


def _load(name: str, source: LazyCommand) -> Any:
    """Import a command and return it as Click knows it."""
    loaded = getattr(importlib.import_module(source.module), source.attribute)
    if isinstance(loaded, typer.Typer):
        group = typer.main.get_group(loaded)
        group.name = name
        return group
    # No completion here: its two options belong to the whole command line.
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(loaded)
    return typer.main.get_command(single)


def _place(command: Any) -> None:
    """Give a command, and all commands of a group, the options that name a place: people add them at the end."""
    command.params.extend(location_options.options())
    for each in getattr(command, "commands", {}).values():
        _place(each)


class LazyGroup(TyperGroup):
    """A group with the commands of `SOURCES`, in that order. A subclass names them."""

    SOURCES: Mapping[str, LazyCommand] = {}

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands = _LazyCommands(self.SOURCES)
        self._lists_only: bool = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature of Click
        """Return the names of all commands, without importing any."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command. While the help is printed, a stand-in with the summary is enough."""
        if self._lists_only and cmd_name in self.SOURCES:
            return TyperCommand(cmd_name, help=self.SOURCES[cmd_name].summary)
        return super().get_command(ctx, cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help from the summaries."""
        self._lists_only = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._lists_only = False


_PACKAGE: Final = "resilience.cli"


def in_package(module: str, attribute: str, summary: str, *, placed: bool = True) -> LazyCommand:
    """Return a command of a module of this package. The arguments are those of `LazyCommand`."""
    return LazyCommand(f"{_PACKAGE}.{module}", attribute, summary, placed)
