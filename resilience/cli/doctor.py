"""`resilience doctor`: looks at everything a set-up needs, and says how to mend it."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from resilience.doctor import Finding, Verdict, examine

_COLOURS: Final = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array and nothing else.")] = False,
) -> None:
    """Examine stores, history, logs, clients and forks with the settings of this place; exit 1 when something does not work."""
    findings = []
    console = Console(soft_wrap=True, highlight=False)
    for finding in examine():
        findings.append(finding)
        if not as_json:
            console.print(_line(finding))
    if as_json:
        sys.stdout.write(json.dumps([dataclasses.asdict(each) for each in findings], indent=2) + "\n")
    raise typer.Exit(1 if any(each.verdict is Verdict.FAIL for each in findings) else 0)


def _line(finding: Finding) -> Text:
    line = Text()
    line.append(f"{finding.verdict:<5}", style=_COLOURS[finding.verdict])
    line.append(f"{finding.subject:<9} {finding.says}")
    if finding.remedy:
        line.append(f"\n{'':<15}-> {finding.remedy}")
    return line
