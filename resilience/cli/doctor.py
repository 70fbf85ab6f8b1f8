"""`resilience doctor`: every check of a set-up, with a remedy for each problem.

Exit codes: 0 everything works, warnings included; 1 something does not work. So a deployment can run it before it starts agents.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import typer
from rich.console import Console
from rich.text import Text

from resilience.cli import options
from resilience.cli.exit_codes import PROBLEMS_FOUND
from resilience.cli.output import print_json
from resilience.doctor import CheckVerdict, Finding, examine
from resilience.terminal import escape

_COLOURS: Final = {CheckVerdict.OK: "green", CheckVerdict.WARN: "yellow", CheckVerdict.FAIL: "red"}


def doctor(*, as_json: options.JsonArray = False) -> None:
    """Check store, history, logs, clients and forks with this project's settings. Exit with 1 if something does not work."""
    findings = []
    # Not wrapped at the width: a remedy is often a command to copy, and `grep` needs a finding on one line.
    console = Console(soft_wrap=True, highlight=False)
    for finding in examine():
        findings.append(finding)
        if not as_json:  # one by one: a server that does not answer takes seconds
            console.print(_line(finding))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings], indent=2)
    failed = any(finding.verdict is CheckVerdict.FAIL for finding in findings)
    raise typer.Exit(PROBLEMS_FOUND if failed else 0)


def _line(finding: Finding) -> Text:
    """Return a finding for people: verdict, subject, message, and the remedy on a second line."""
    line = Text()
    line.append(f"{finding.verdict:<5}", style=_COLOURS[finding.verdict])
    line.append(f"{finding.subject:<9} {escape(finding.message)}")
    if finding.remedy:
        line.append(f"\n{'':<15}-> {escape(finding.remedy)}")
    return line
