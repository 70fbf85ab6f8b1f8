"""Behaviours, their limits, and their notation on a command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from resilience import testing
from resilience.errors import ConfigurationError
from resilience.testing import (
    Behaviour,
    Empty,
    ErrorInBody,
    Finish,
    Hang,
    Malformed,
    Reset,
    Slow,
    Status,
    Stream,
    Truncate,
    WrongSchema,
    notation,
)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Status(199), "Status.code=199"),
        (lambda: Status(600), "Status.code=600"),
        (lambda: Status(503, delay=-1), "Status.delay=-1"),
        (lambda: Slow(-1), "Answer.delay=-1"),
        (lambda: Hang(0), "Hang.seconds=0"),
        (lambda: Truncate(-1), "Truncate.size=-1"),
        (lambda: Stream(seconds=0), "Stream.seconds=0"),
        (lambda: Stream(interval=-1), "Stream.interval=-1"),
        (lambda: Stream(delay=-1), "Stream.delay=-1"),
        (
            lambda: Stream(fault="explode"),  # type: ignore[arg-type]  # what a user without a type checker writes
            "Stream.fault='explode': give one of cut, close, end",
        ),
        (
            lambda: Stream(at="somewhere"),  # type: ignore[arg-type]  # as above
            "Stream.at='somewhere': give one of head, headers",
        ),
        (
            lambda: Stream(error="tired"),  # type: ignore[arg-type]  # as above
            "Stream.error='tired': give one of overloaded, rate_limit",
        ),
        (
            lambda: Reset("afterwards"),  # type: ignore[arg-type]  # what a user without a type checker writes
            "Reset.when='afterwards': give one of before, headers, body",
        ),
        (
            lambda: Hang(when="never"),  # type: ignore[arg-type]  # as above
            "Hang.when='never'",
        ),
    ],
)
def test_a_wrong_value_is_named(make: object, named: str) -> None:
    """Every limit is checked at construction, with an error that names field and value."""
    assert callable(make)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        make()
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("503", Status(503)),
        ("429=3", Status(429, retry_after=3)),
        ("hang", Hang()),
        ("hang=5", Hang(5)),
        ("reset", Reset()),
        ("reset=body", Reset("body")),
        ("close=headers", Reset("headers", orderly=True)),
        ("truncate", Truncate()),
        ("truncate=7", Truncate(7)),
        ("malformed", Malformed()),
        ("malformed=oops", Malformed("oops")),
        ("wrong_schema", WrongSchema()),
        ("wrong-schema", WrongSchema()),
        ("empty", Empty()),
        ("finish", Finish("length")),
        ("finish=content_filter", Finish("content_filter")),
        ("error_in_body", ErrorInBody()),
        ("error_in_body=no", ErrorInBody("no")),
        ("slow", Slow(1)),
        ("slow=0.5", Slow(0.5)),
        ("stream", Stream()),
        ("stream=stall", Stream(fault="stall")),
        ("stream=cut@event", Stream(fault="cut", at="event")),
        ("stream=overloaded@opening", Stream(error="overloaded", at="opening")),
    ],
)
def test_every_behaviour_can_be_typed(text: str, meant: Behaviour) -> None:
    """A behaviour is a status or a name, some with a value."""
    assert notation.behaviour(text) == meant


@pytest.mark.parametrize("text", ["", "nonsense", "700", "429=soon", "hang=-1", "reset=later", "slow=x"])
def test_an_unknown_behaviour_is_refused_with_the_choices(text: str) -> None:
    """The error quotes what was typed and lists the choices."""
    with pytest.raises(ConfigurationError, match=r"is no behaviour.*one of hang, reset"):
        notation.behaviour(text)


def test_an_outage_can_be_typed() -> None:
    """Client, times and behaviour are those that were typed."""
    assert notation.outage("Primary:2-7.5:429=3") == notation.PlannedOutage(
        "Primary", 2.0, 7.5, Status(429, retry_after=3)
    )


@pytest.mark.parametrize(
    "text", ["Primary", "Primary:2:503", "Primary:2-7", "Primary:1.2.3-7:503", "Primary:2-7:nonsense"]
)
def test_an_invalid_outage_is_refused(text: str) -> None:
    """The error quotes what was typed, or the part of it that is wrong."""
    with pytest.raises(ConfigurationError, match="is no"):
        notation.outage(text)


def test_the_package_offers_what_it_lists() -> None:
    """Every public name resolves, `dir` shows them all, and others are refused."""
    for name in testing.__all__:
        assert getattr(testing, name) is not None
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = testing.Nonsense


def test_the_pytest_plugin_costs_nothing_until_it_is_used() -> None:
    """Loading the plugin, as every pytest run does, imports neither h11, the simulator nor BAML."""
    program = (
        "import sys, resilience.testing.pytest_plugin\n"
        "print([name for name in ('h11', 'baml_py', 'resilience.testing.simulator') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
