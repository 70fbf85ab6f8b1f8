"""`resilience explain-error` and `resilience errors unknown`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.history_table_rows import keep
from typer.testing import CliRunner, Result

from resilience.cli import app
from resilience.history.schema import migrations

BODY = '{"error":{"message":"Your prepaid balance is depleted"}}'


def run(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(app, ["explain-error", *arguments], input=text)


def test_the_category_and_its_reasons() -> None:
    """A body on standard input is explained: the category, what follows from it, and the evidence for and against it."""
    result = run("--status", "429", text=BODY)

    assert result.exit_code == 0
    assert "quota_exhausted" in result.stdout
    assert "money and spent/lacking" in result.stdout
    assert "against it: status 429" in result.stdout


def test_headers_are_evidence() -> None:
    """Headers take part, also without a status."""
    result = run("--header", "Retry-After: 7", "--status", "429", "--json", text="slow down")

    assert json.loads(result.stdout)["retry_after"] == 7


def test_a_text_is_explained_as_an_exception() -> None:
    """Without a status the text is that of an exception, whose own words are not shown: they may be a prompt's."""
    fields = json.loads(run("--json", text="Invalid request (400) zx9canary").stdout)

    assert fields["category"] == "invalid_request"
    assert "zx9canary" not in json.dumps(fields)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "nothing to explain"), (["--header", "nonsense", "--status", "400"], "name: value")],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    """Empty input and a header without a value exit with 2 and the remedy."""
    result = run(*arguments)

    assert result.exit_code == 2
    assert said in result.output


def test_unknown_kinds_with_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`errors unknown` lists the kinds of errors that no rule understood, with counts, and no others."""
    url = f"sqlite:///{tmp_path}/resilience.db"
    migrations.upgrade(url)
    monkeypatch.setenv("RESILIENCE_DATABASE_URL", url)
    keep(
        url,
        "errors",
        *({"event_id": str(n) * 32, "category": "unknown", "fingerprint": "f" * 32} for n in range(3)),
        {"event_id": "e" * 32, "category": "timeout", "fingerprint": "a" * 32},
    )
    result = CliRunner().invoke(app, ["errors", "unknown", "--since", "3650d", "--json"])
    groups = json.loads(result.stdout)

    assert [(group["category"], group["errors"]) for group in groups] == [("unknown", 3)]
