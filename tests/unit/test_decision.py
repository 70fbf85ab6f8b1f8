"""decide(): what each row of the category table leads to, and the limits of the policy."""

from __future__ import annotations

from typing import Any

import pytest

from resilience.execution.decision import AttemptState, Decision, Fail, Fallback, Retry, RetryDenied, decide
from resilience.failure import CATEGORY_RULES, ErrorCategory, Failure, RetryMode
from resilience.fallback import FallbackPolicy
from resilience.retry import RetryPolicy

C = ErrorCategory
RETRY = RetryPolicy(jitter=False, initial_delay=1.0)
FALLBACK = FallbackPolicy(clients=("B",))


def failure(category: ErrorCategory, **fields: Any) -> Failure:
    rules = CATEGORY_RULES[category]
    return Failure(
        category=category,
        recoverable=rules.recoverable,
        counts_against_client=rules.counts_as_failure,
        **fields,
    )


def step(
    category: ErrorCategory, *, retry: RetryPolicy = RETRY, fallback: FallbackPolicy = FALLBACK, **state: Any
) -> Decision:
    fields = {name: state.pop(name) for name in ("retry_after", "should_retry") if name in state}
    state["more"] = state.get("more", False) and fallback.allows(category)
    return decide(AttemptState(failure=failure(category, **fields), **state), retry)


@pytest.mark.parametrize(
    ("category", "with_a_free_client", "alone"),
    [
        (C.TIMEOUT, Fallback(), Retry(1.0)),
        (C.RATE_LIMIT, Fallback(), Retry(1.0)),
        (C.SERVICE_UNAVAILABLE, Fallback(), Retry(1.0)),
        (C.OVERLOADED, Fallback(), Retry(1.0)),
        (C.SERVER_ERROR, Retry(1.0), Retry(1.0)),
        (C.NETWORK, Retry(0.0), Retry(0.0)),
        (C.OUTPUT_INVALID, Retry(0.0), Retry(0.0)),
        (C.OUTPUT_TRUNCATED, Fallback(), Fail()),
        (C.INVALID_REQUEST, Fail(), Fail()),
        (C.CONTEXT_LENGTH, Fallback(), Fail()),
        (C.CONTENT_POLICY, Fail(), Fail()),
        (C.AUTHENTICATION, Fail(), Fail()),
        (C.PERMISSION, Fail(), Fail()),
        (C.NOT_FOUND, Fallback(), Fail()),
        (C.QUOTA_EXHAUSTED, Fallback(), Fail()),
        (C.CIRCUIT_OPEN, Fallback(), Fail()),
        (C.CANCELLED, Fail(), Fail()),
        (C.UNKNOWN, Retry(1.0), Retry(1.0)),
    ],
)
def test_the_first_failure_of_each_category(
    category: ErrorCategory, with_a_free_client: Decision, alone: Decision
) -> None:
    """The first failure of each category, with a free backup and without any."""
    assert with_a_free_client == step(category, more=True, free=True)
    assert alone == step(category)


@pytest.mark.parametrize("category", list(C))
def test_no_category_is_retried_beyond_its_limit(category: ErrorCategory) -> None:
    """The same client is not asked again after max_retries (max_output_retries for unusable answers)."""
    spent: dict[str, Any] = {"retries": 3, "output_retries": 1 if category is C.OUTPUT_INVALID else 0}

    assert not isinstance(step(category, **spent), Retry)
    assert not isinstance(step(category, more=True, free=True, **spent), Retry)


def test_a_server_error_gets_one_retry_while_a_backup_is_free() -> None:
    """500 and 502 go to the next client after one retry, and use the whole limit when there is none."""
    assert Fallback() == step(C.SERVER_ERROR, retries=1, more=True, free=True)
    assert Retry(2.0) == step(C.SERVER_ERROR, retries=1)


def test_a_dropped_connection_is_tried_at_once_but_not_waited_for() -> None:
    """The second network retry would have to wait, so a free backup goes first; alone it waits."""
    assert Fallback() == step(C.NETWORK, retries=1, more=True, free=True)
    assert Retry(2.0) == step(C.NETWORK, retries=1)


def test_backups_with_open_circuits_are_not_free() -> None:
    """With other clients but none free, a 503 is retried here first and then falls back."""
    assert Retry(1.0) == step(C.SERVICE_UNAVAILABLE, more=True, free=False)
    assert Fallback() == step(C.SERVICE_UNAVAILABLE, more=True, free=False, retries=3)


def test_a_stated_wait_is_a_floor_for_the_backoff() -> None:
    """Retry-After 7 s makes the wait at least 7 s; a shorter one does not shorten the backoff."""
    assert Retry(7.0) == step(C.RATE_LIMIT, retry_after=7.0)
    assert Retry(4.0) == step(C.RATE_LIMIT, retry_after=0.5, retries=2)


def test_a_stated_wait_beyond_the_limit_is_not_slept_out() -> None:
    """Retry-After above max_retry_after means a fallback or the end now, with the reason (litellm#3274, gajae-code#5396)."""
    assert Fail(RetryDenied.RETRY_AFTER) == step(C.RATE_LIMIT, retry_after=61.0)
    assert Fallback(RetryDenied.RETRY_AFTER) == step(C.RATE_LIMIT, retry_after=61.0, more=True)
    assert Fail(RetryDenied.RETRY_AFTER) == step(C.RATE_LIMIT, retry_after=61.0, remaining=1.0, budget=False)


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    """A wait that would outlast the call's deadline means a fallback or the end now, with the reason."""
    assert Fail(RetryDenied.DEADLINE) == step(C.TIMEOUT, remaining=1.0)
    assert Fallback(RetryDenied.DEADLINE) == step(C.TIMEOUT, remaining=0.9, more=True)
    assert Fail(RetryDenied.DEADLINE) == step(C.TIMEOUT, remaining=0.9, budget=False)
    assert Retry(1.0) == step(C.TIMEOUT, remaining=1.1)


def test_an_empty_budget_makes_no_retry() -> None:
    """Without a retry left in the budget the call falls back, also when no client is free, or fails, with the reason."""
    assert Fail(RetryDenied.BUDGET) == step(C.SERVER_ERROR, budget=False)
    assert Fallback(RetryDenied.BUDGET) == step(C.SERVER_ERROR, budget=False, more=True, free=True)
    assert Fallback(RetryDenied.BUDGET) == step(C.TIMEOUT, budget=False, more=True)
    assert Fail(RetryDenied.BUDGET) == step(C.OUTPUT_INVALID, budget=False)


def test_where_there_would_be_no_retry_none_was_denied() -> None:
    """No retry was denied where the category, max_retries or a free client rules it out anyway."""
    assert Fail() == step(C.INVALID_REQUEST, budget=False)
    assert Fail() == step(C.SERVER_ERROR, budget=False, retries=3)
    assert Fallback() == step(C.TIMEOUT, budget=False, more=True, free=True)
    assert Fallback() == step(C.NETWORK, budget=False, more=True, free=True, retries=1)


def test_x_should_retry_lifts_never_and_no_more() -> None:
    """True retries a 400 where no other client is free, and asks no busy client before its free backup; false forbids both."""
    assert isinstance(step(C.INVALID_REQUEST, should_retry=True), Retry)
    assert Fallback() == step(C.OVERLOADED, should_retry=True, more=True, free=True)
    assert Fallback() == step(C.RATE_LIMIT, should_retry=True, retry_after=1.0, more=True, free=True)
    assert Fallback() == step(C.NOT_FOUND, should_retry=True, more=True, free=True)
    assert Fail() == step(C.SERVER_ERROR, should_retry=False)
    assert Fallback() == step(C.SERVER_ERROR, should_retry=False, more=True)


def test_should_retry_does_not_retry_an_unpaid_bill() -> None:
    """BerriAI/litellm#32785: quota_exhausted is not retried although OpenAI sends x-should-retry: true with it."""
    assert Fail() == step(C.QUOTA_EXHAUSTED, should_retry=True)
    assert Fallback() == step(C.QUOTA_EXHAUSTED, should_retry=True, more=True)


def test_every_cell_can_be_overridden() -> None:
    """RetryPolicy.retry_modes and FallbackPolicy.on change the table's answers."""
    patient = RetryPolicy(
        jitter=False, retry_modes={C.SERVICE_UNAVAILABLE: RetryMode.ALWAYS, C.NETWORK: RetryMode.NEVER}
    )
    stay = FallbackPolicy(clients=("B",), on=frozenset({C.AUTHENTICATION}))

    assert Retry(1.0) == step(C.SERVICE_UNAVAILABLE, retry=patient, more=True, free=True)
    assert Fallback() == step(C.NETWORK, retry=patient, more=True, free=True)
    assert Fallback() == step(C.AUTHENTICATION, fallback=stay, more=True, free=True)
    assert Fail() == step(C.NOT_FOUND, fallback=stay, more=True, free=True)


def test_jitter_uses_the_given_sample() -> None:
    """The decision draws no random number: a sample of 0.25 gives a quarter of the longest wait."""
    assert Retry(0.25) == step(C.TIMEOUT, retry=RetryPolicy(), jitter_sample=0.25)


@pytest.mark.parametrize(
    ("waited", "expected"),
    [(0.0, Retry(2.0)), (58.0, Retry(2.0)), (58.1, Fail(RetryDenied.RETRY_AFTER))],
)
def test_waits_for_a_circuit_are_no_retries(waited: float, expected: Decision) -> None:
    """A refusal that ends soon is waited for, as often as the circuit refuses, at most max_retry_after in all."""
    state: dict[str, Any] = {"retry_after": 2.0, "ends_soon": True, "retries": 3, "refusals": 9}

    assert expected == step(C.CIRCUIT_OPEN, retry=RetryPolicy(), waited=waited, jitter_sample=1.0, **state)
    assert Fallback() == step(C.CIRCUIT_OPEN, waited=waited, more=True, free=True, **state)
    assert Fail() == step(C.CIRCUIT_OPEN, retry=RetryPolicy(max_retries=0), waited=waited, **state)


def test_a_wait_chosen_by_the_policy_goes_on_although_a_backup_is_free() -> None:
    """A call that waits for this client by its policy is not sent to the backup because the cool-down lasts a little longer."""
    state: dict[str, Any] = {"retry_after": 0.25, "ends_soon": True, "more": True, "free": True}

    assert Retry(0.25) == step(C.CIRCUIT_OPEN, is_committed=True, **state)
    assert Fallback() == step(C.CIRCUIT_OPEN, **state)


def test_the_circuit_spreads_the_end_of_a_stated_wait() -> None:
    """Where the circuit holds the cool-down, the wait has no jitter of its own and takes nothing from the retry budget."""
    cooling: dict[str, Any] = {"retry": RetryPolicy(), "retry_after": 10.0, "jitter_sample": 0.5}

    assert Retry(10.5) == step(C.RATE_LIMIT, **cooling)
    assert Retry(10.0) == step(C.RATE_LIMIT, is_cooldown_shared=True, budget=False, **cooling)
    assert Fail(RetryDenied.DEADLINE) == step(C.RATE_LIMIT, is_cooldown_shared=True, remaining=9.0, **cooling)


@pytest.mark.parametrize(
    ("silence", "with_a_free_client", "alone"),
    [(5.0, Retry(0.0), Retry(0.0)), (5.1, Fallback(), Retry(1.0))],
)
def test_a_connection_lost_after_a_silence_is_a_time_out(
    silence: float, with_a_free_client: Decision, alone: Decision
) -> None:
    """A connection lost within 5 s is asked again at once; later it is a silence, which is not asked twice beside a free backup."""
    assert with_a_free_client == step(C.NETWORK, silence=silence, more=True, free=True)
    assert alone == step(C.NETWORK, silence=silence)


def test_silence_follows_the_policy_for_time_outs() -> None:
    """Who asks silent clients again by retry_modes does so after a connection lost in silence too."""
    stubborn = RetryPolicy(jitter=False, retry_modes={C.TIMEOUT: RetryMode.ALWAYS})

    assert Retry(1.0) == step(C.NETWORK, retry=stubborn, silence=60.0, more=True, free=True)


@pytest.mark.parametrize(
    ("restart", "state", "decision"),
    [
        ("anytime", {"stream_began": True, "content_shown": True}, Fallback()),
        ("before_content", {"stream_began": True, "content_shown": True}, Fail()),
        ("before_content", {"stream_began": True}, Retry(0.0)),
        ("never", {"stream_began": True}, Fail()),
        ("never", {}, Retry(0.0)),
    ],
)
def test_a_stream_is_restarted_as_the_policy_says(
    restart: str, state: dict[str, Any], decision: Decision
) -> None:
    """A stream that has shown content goes on with the next client or not at all; no other call is concerned."""
    retry = RetryPolicy(jitter=False, stream_restart=restart)

    assert decision == step(C.NETWORK, retry=retry, more=True, free=True, **state)
