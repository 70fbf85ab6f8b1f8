"""Values of the history: ids, fingerprints, times, URLs."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st

from resilience.errors import ConfigurationError
from resilience.failure import ErrorCategory, Failure
from resilience.history import database_url, fingerprint, new_id
from resilience.history.schema import urls
from resilience.records.fingerprint import normalised
from resilience.redaction import redact_url
from resilience.times import to_utc

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)


def failure(**changes: Any) -> Failure:
    given: dict[str, Any] = {
        "category": ErrorCategory.RATE_LIMIT,
        "recoverable": True,
        "counts_against_client": False,
        "status": 429,
        "provider_code": "rate_limit_exceeded",
        "message": "Limit 30000, Used 14567. Please try again in 18.642s.",
        "exception_type": "BamlClientHttpError",
    }
    return Failure(**given | changes)


def test_ids_are_uuid7_and_sort_by_age() -> None:
    """Ids of one process are distinct UUIDv7s that sort in the order they were made."""
    ids = [new_id() for _ in range(100_000)]

    assert ids == sorted(set(ids))
    assert all(re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", made) for made in ids)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_ids_of_its_own() -> None:
    """Parent and child share no id, nor the random half of one, which would collide in the same millisecond."""
    new_id()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, "".join(new_id() for _ in range(1000)).encode())
        os._exit(0)
    os.close(write)
    ours = {new_id()[16:] for _ in range(1000)}
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    theirs = {text[at + 16 : at + 32] for at in range(0, len(text), 32)}

    assert len(theirs) == 1000
    assert ours.isdisjoint(theirs)


def test_errors_of_one_kind_have_one_fingerprint() -> None:
    """Numbers, ids, times, URLs and quotations make no difference."""
    one = failure(
        message='Limit 30000 for org-AbCdEf at 2025-06-01T12:00:00Z "gpt-4o", try again in 18.642s. req_0123abcd'
    )
    other = failure(
        message='Limit 5 for org-Zyxwvu at 2026-01-01T00:00:00Z "gpt-5", try again in 1m30s. req_4567efgh'
    )

    assert fingerprint(one, "F") == fingerprint(other, "F")
    assert re.fullmatch("[0-9a-f]{32}", fingerprint(one, "F"))


@pytest.mark.parametrize(
    "change",
    [
        {"category": ErrorCategory.TIMEOUT},
        {"exception_type": "TimeoutError"},
        {"status": 503},
        {"provider_code": None},
        {"message": "Overloaded"},
    ],
    ids=str,
)
def test_each_part_of_a_fingerprint_counts(change: dict[str, Any]) -> None:
    """Category, exception type, status, provider code and wording each make a difference."""
    assert fingerprint(failure(), "F") != fingerprint(failure(**change), "F")


def test_the_function_counts_only_where_the_answer_was_wrong() -> None:
    """A rate limit is one kind for all functions; an invalid answer is one kind for each function."""
    wrong = failure(category=ErrorCategory.OUTPUT_INVALID)

    assert fingerprint(failure(), "F") == fingerprint(failure(), "G")
    assert fingerprint(wrong, "F") != fingerprint(wrong, "G")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("see https://host/path?x=1 now", "see <url> now"),
        ("write to [email]", "write to [email]"),
        ("id 550e8400-e29b-41d4-a716-446655440000 gone", "id <uuid> gone"),
        ("request req_011CSHoEeqs5 and chatcmpl-9aBcDeF", "request <id> and <id>"),
        ("at 2025-06-01 12:00:00.123+00:00 sharp", "at <time> sharp"),
        ("pointer 0xdeadbeef, hash 0123abcdef", "pointer <hex>, hash <hex>"),
        (
            "again in 6m0s or 18.642s or 20ms or 3 seconds",
            "again in <duration> or <duration> or <duration> or <duration>",
        ),
        ("Limit 30000, used 1.5 of 2,000", "Limit <number>, used <number> of <number>"),
        ("model \"gpt-4o\" and 'x'", "model <text> and <text>"),
        ("  first line \nsecond line", "first line "),
        ("beefcafe facade is no number", "beefcafe facade is no number"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_what_varies_is_named_by_its_kind(message: str, expected: str) -> None:
    """Normalising keeps the words of the first line and replaces what varies."""
    assert expected == normalised(message)


@pytest.mark.parametrize(
    "text", ["a" * 50_000, "1" * 50_000, "a@" * 25_000, "'" * 50_000, "1m" * 25_000, "http://" * 7000]
)
def test_no_message_makes_a_fingerprint_slow(text: str) -> None:
    """A thousand hostile messages of 50 kB get their fingerprints within the timeout of this test."""
    assert len({fingerprint(failure(message=text), "F") for _ in range(1000)}) == 1


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (None, None),
        (NOW, NOW),
        (NOW.astimezone(timezone(timedelta(hours=5))), NOW),
        (timedelta(hours=1), NOW - timedelta(hours=1)),
        (90, NOW - timedelta(seconds=90)),
        (0.5, NOW - timedelta(seconds=0.5)),
        (1e300, datetime.min.replace(tzinfo=UTC)),
    ],
    ids=str,
)
def test_a_time_is_absolute_or_relative(since: Any, expected: datetime | None) -> None:
    """Aware datetimes, timedeltas and seconds all become a UTC datetime."""
    found = to_utc("since", since, NOW)

    assert expected == found
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    "since", [NOW.replace(tzinfo=None), -1, float("nan"), timedelta(seconds=-1), "1h"], ids=str
)
def test_a_moment_that_means_nothing_is_refused(since: Any) -> None:
    """A time without a timezone, a negative one or another type is an error that names the argument and the remedy."""
    with pytest.raises(ValueError, match=r"since=.*give"):
        to_utc("since", since, NOW)


@pytest.mark.parametrize(
    ("url", "writing", "reading"),
    [
        ("sqlite:////var/x.db", "sqlite+pysqlite:////var/x.db", "sqlite+aiosqlite:////var/x.db"),
        ("sqlite+aiosqlite:////var/x.db", "sqlite+pysqlite:////var/x.db", "sqlite+aiosqlite:////var/x.db"),
        ("postgresql://h/d", "postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+asyncpg://h/d", "postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
    ],
)
def test_one_url_serves_the_writer_and_the_reader(url: str, writing: str, reading: str) -> None:
    """Each side uses its own driver, whichever one the URL names."""
    parsed = urls.parse(url)

    assert writing == urls.writing(parsed).render_as_string()
    assert reading == urls.reading(parsed).render_as_string()


@pytest.mark.parametrize(
    "url",
    [
        "not a url",
        "mysql://h/d",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql+psycopg://u:hunter2@h:port/d",
    ],
)
def test_a_url_the_history_cannot_use_is_refused_with_an_example(url: str) -> None:
    """A wrong URL is a configuration error with an example, and never shows a password."""
    with pytest.raises(ConfigurationError, match=r"give .*sqlite:////") as caught:
        urls.parse(url)

    assert "hunter2" not in str(caught.value)


URLS = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            (
                *(
                    "sqlite",
                    "postgresql",
                    "postgres",
                    "mysql",
                    "+psycopg",
                    "://",
                    "/",
                    ":",
                    "@",
                    "[::1]",
                    "?",
                    "=",
                ),
                *("h", "5432", "user", "p%40ss", "~", ".", "a b", "&", ":memory:", "#", "\n", "é"),
            )
        ),
        max_size=12,
    ),
)


@given(URLS)
@example("sqlite+aiosqlite:////tmp/x.db?timeout=3")
@example("postgres://u:p@w/rd@[::1]:5432/d?options=-csearch_path%3Dx")
def test_what_is_accepted_without_sqlalchemy_is_what_sqlalchemy_can_read(url: str) -> None:
    """A URL is checked before SQLAlchemy is imported: each that passes can be read, as the same kind, and no valid one is refused."""
    try:
        backend = sa.make_url(url).get_backend_name()
    except (sa.exc.ArgumentError, ValueError):
        backend = "unreadable"
    try:
        checked = database_url.check(url)
    except ConfigurationError:
        # Stricter in one thing: a file has no host.
        assert backend not in {"postgresql", "postgres"}
        assert backend != "sqlite" or not re.match(r"sqlite:///(?!\?|:memory:(\?|\Z))[^?]", url)
    else:
        assert checked.is_sqlite == (backend == "sqlite")
        assert checked.is_sqlite or backend in {"postgresql", "postgres"}


def test_a_url_is_shown_without_its_password() -> None:
    """A URL in messages has no password, not even one in a query parameter, and is spelled as `config show` spells it."""
    for url in ("postgresql://u:hunter2@h/d", "postgresql://h/d?password=hunter2&user=u"):
        assert "hunter2" not in urls.shown(urls.parse(url))
        assert redact_url(url) == urls.shown(urls.parse(url)).replace("+psycopg", "")


def test_the_path_of_a_url_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative path means the same file after the process changes its directory."""
    monkeypatch.chdir(tmp_path)

    assert urls.path(urls.parse("sqlite:///x.db")) == tmp_path / "x.db"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert urls.parse("sqlite:///~/x.db").database == str(tmp_path / "x.db")
