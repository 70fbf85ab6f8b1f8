"""What the error for an unknown argument says."""

from __future__ import annotations

from typing import Any

import pytest

from resilience import BAMLErrorHandler, BAMLWrapper, RetryPolicy, protect


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [
        ("max_retries", "retry=RetryPolicy(max_retries=...)"),
        ("attempt_timeout", "retry=RetryPolicy(attempt_timeout=...)"),
        ("base_delay", "retry=RetryPolicy(initial_delay=...)"),
        ("circuit_breaker_threshold", "breaker=BreakerPolicy(consecutive_failures=...)"),
        ("allowed_fails", "breaker=BreakerPolicy(consecutive_failures=...)"),
        ("cooldown_time", "breaker=BreakerPolicy(open_for=...)"),
        ("context_window_fallbacks", "fallback=FallbackPolicy(context_clients=...)"),
        ("stop", "retry=RetryPolicy(max_retries=..., deadline=...)"),
        ("open_for", "breaker=BreakerPolicy(open_for=...)"),
        ("clients", "fallback=FallbackPolicy(clients=...)"),
        ("redis_url", "settings=Settings(redis_url=...)"),
        ("patience", "retry=RetryPolicy(retry_modes=...)"),
    ],
)
def test_a_misplaced_argument_names_its_place(argument: str, remedy: str) -> None:
    """A field of a policy or a name of another library says what to write instead, in both functions."""
    given: dict[str, Any] = {argument: 3}

    with pytest.raises(TypeError) as handler:
        BAMLErrorHandler(**given)
    with pytest.raises(TypeError) as guard:
        protect(object(), **given)

    assert str(handler.value).endswith(f"unexpected keyword argument {argument!r}: write {remedy}")
    assert str(guard.value).endswith(
        f"unexpected keyword argument {argument!r}: write BAMLErrorHandler({remedy})"
    )


def test_a_policy_given_to_protect_belongs_to_the_handler() -> None:
    """protect(b, retry=...) says that the handler takes it."""
    given: dict[str, Any] = {"retry": None}

    with pytest.raises(TypeError, match=r"write BAMLErrorHandler\(retry=RetryPolicy\(\.\.\.\)\)"):
        protect(object(), **given)


@pytest.mark.parametrize(("argument", "meant"), [("setings", "settings"), ("fingerprints", "fingerprint")])
def test_a_slip_of_the_pen_names_the_argument(argument: str, meant: str) -> None:
    """An argument that is almost right is named; one like no other is only refused."""
    given: dict[str, Any] = {argument: 3}

    with pytest.raises(TypeError, match=f"did you mean '{meant}'"):
        BAMLErrorHandler(**given)
    with pytest.raises(TypeError, match=r"'zzz'$"):
        BAMLErrorHandler(zzz=1)  # type: ignore[arg-type] # the mistake is the test


def test_a_policy_in_the_place_of_the_handler_is_refused() -> None:
    """`protect(b, RetryPolicy())` says that a policy belongs into a handler; other values are refused by their type."""
    with pytest.raises(TypeError, match=r"give BAMLErrorHandler\(retry=RetryPolicy\(\.\.\.\)\)"):
        protect(object(), RetryPolicy())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"BAMLWrapper\(error_handler=int\): give a BAMLErrorHandler"):
        BAMLWrapper(error_handler=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"retry": 3}, "BAMLErrorHandler(retry=3): give retry=RetryPolicy(...)"),
        ({"fallback": ("B",)}, "BAMLErrorHandler(fallback=('B',)): give fallback=FallbackPolicy(...)"),
        ({"breaker": RetryPolicy}, "give breaker=BreakerPolicy(...)"),
        (
            {"settings": {"redis_url": "redis://:secret@host"}},
            "BAMLErrorHandler(settings=a dict): give settings=Settings(...)",
        ),
        ({"logs": "logs/"}, "BAMLErrorHandler(logs='logs/'): give logs=LogPolicy(...)"),
    ],
)
def test_a_value_of_another_type_is_refused_at_once(given: dict[str, Any], message: str) -> None:
    """A policy of the wrong type names field, value and remedy when the handler is made, not in the first outage."""
    with pytest.raises(TypeError) as refused:
        BAMLErrorHandler(**given)

    assert str(refused.value).endswith(message)
