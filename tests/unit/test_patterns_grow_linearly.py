"""Regular expressions read texts that others wrote, each in time in proportion to its length.

A pattern that looks for the end of something from each of many beginnings takes the square of the time: a long text would take minutes or hours.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from resilience.history.schema import postgres_session
from resilience.redaction.url import redact_url

LENGTH = 200_000
SEARCHED = [
    ("resilience.baml.syntax", "_RAW_START", ["a", "#", "a-"]),
    ("resilience.demo.client", "_VERSION", ["\n", " "]),
    ("resilience.failure.body", "_HTML", [" ", "\n"]),
    ("resilience.failure.finish_reasons", "_VALUE", [" ", ": "]),
    ("resilience.history.reader.adhoc_sql", "_VERB", ["/*", "("]),
    ("resilience.history.reader.adhoc_sql", "_PARAMETER", ["/*", "'", '"', "'a'"]),
    ("resilience.history.schema.postgres_session", "_SETTING", ["a", "a."]),
    ("resilience.history.schema.postgres_session", "_NAME", ['"', "a", '"a', " "]),
    ("resilience.redaction.url", "_NEXT_OPTION", [" ", "-c"]),
    ("resilience.testing.dialects", "_PATHS", ["/a", "/a:"]),
    ("resilience.testing.notation", "_OUTAGE", ["a", "1"]),
]


def patterns(value: Any) -> Iterator[re.Pattern[str]]:
    """Yield the patterns in a value, at any depth."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from patterns(each)


@pytest.mark.parametrize(("module", "name", "units"), SEARCHED, ids=str)
def test_a_long_text_is_searched(module: str, name: str, units: list[str]) -> None:
    """A search for all places ends, whatever is repeated."""
    for pattern in patterns(getattr(importlib.import_module(module), name)):
        for unit in units:
            text = unit * (LENGTH // len(unit)) + "\0"
            assert sum(1 for _ in pattern.finditer(text)) <= len(text) + 1


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("app", "app"),
        (' "My App" , public', "My App"),
        ('"a""b"', 'a"b'),
        ("App", "app"),
        ('"$user", app', "me"),
        (", app", "app"),
        ('"never ends', "never ends"),
        ("a b, app", "app"),
    ],
)
def test_the_first_schema_of_a_path_is_read(path: str, schema: str) -> None:
    """Names may be quoted; a part that is no name is passed over."""
    url = sa.URL.create(
        "postgresql", username="me", query={"options": f"-csearch_path={path.replace(' ', chr(92) + ' ')}"}
    )

    assert schema == postgres_session.schema_of(url)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ("-csearch_path=app", True),
        ("  -c search_path=app,public  -c statement_timeout=5s ", True),
        ("-csearch_path=app -cpassword=x", False),
        ("x -csearch_path=app", False),
        ("-csearch_path=", False),
        ("", False),
        ("-c search_path=a" + "     -c search_path=a" * 40 + "!", False),
    ],
)
def test_options_of_a_url_are_shown_if_all_are_known(options: str, shown: bool) -> None:  # noqa: FBT001
    """One option that could hold a secret hides them all. Many blanks between options cost no time."""
    text = f"postgresql://h/db?options={options.replace(' ', '%20')}"

    assert (text if shown else "postgresql://h/db?options=[secret]") == redact_url(text)
