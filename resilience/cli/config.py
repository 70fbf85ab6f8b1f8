"""`resilience config show`: the settings in effect, and where each was set.

It answers "why does it do that here?". So it reads the settings as a process started in this folder would, and says for each
value which source it is from.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from resilience.cli import options
from resilience.cli.exit_codes import exit_on_setup_error
from resilience.cli.output import print_json, print_rows
from resilience.config.effective import effective_settings

# Rich takes square brackets in a help text for its markup and drops them, so TOML tables are named without.
app = typer.Typer(
    help="Show the settings. The first source that has a setting wins: keyword arguments, the environment, .env, "
    "resilience.toml, the table tool.resilience of pyproject.toml.",
    no_args_is_help=True,
)


@app.callback()
def config() -> None:
    """Keep `show` a subcommand: Typer would drop the name of a single command."""


@app.command()
def show(
    *,
    changed: Annotated[
        bool, typer.Option("--changed", help="Leave out settings with their default.")
    ] = False,
    as_json: options.JsonArray = False,
) -> None:
    """Print every setting of a process started here, with its source. Secrets are masked.

    Keyword arguments of a program are not known here: they are set when a
    handler is made.
    """
    with exit_on_setup_error():
        settings = [setting for setting in effective_settings() if not changed or setting.source != "default"]
    if as_json:
        print_json([dataclasses.asdict(setting) for setting in settings], indent=2)
        return
    # Values that are not text are printed as JSON, and not as Python: `null`, `true` and lists are what TOML and .env
    # files resemble most.
    rows = [
        (
            setting.name,
            setting.value if isinstance(setting.value, str) else json.dumps(setting.value),
            setting.source,
        )
        for setting in settings
    ]
    print_rows(("setting", "value", "from"), rows)
