"""The execution of a call on a held clock: which client, how often, how long, and what is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from resilience import (
    AllClientsFailedError,
    BAMLErrorHandler,
    BreakerPolicy,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorCategory,
    FallbackPolicy,
    ForkedRuntimeError,
    RetryPolicy,
    Settings,
)
from resilience.baml import StreamProgress
from resilience.errors import AttemptTimeoutError, ConfigurationError, OutputTruncatedError
from resilience.execution.async_driver import call_async
from resilience.failure import RetryMode
from resilience.function_policies import FunctionPolicies
from resilience.history import Action, to_json
from resilience.tenant import tenant
from resilience.testing import ManualClock

AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]


class ProviderError(Exception):
    """An error as SDKs raise it."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.response = type(
            "Response",
            (),
            {
                "status_code": status,
                "headers": {k.replace("_", "-"): v for k, v in headers.items()},
                "text": "",
            },
        )()


class Fleet:
    """Clients that follow a script and then answer."""

    def __init__(self, **scripts: list[Any]) -> None:
        self.scripts = {name: list(script) for name, script in scripts.items()}
        self.asked: list[str] = []

    def __call__(self, client: str) -> AsyncFunction:
        async def ask(*args: Any, **kwargs: Any) -> Any:
            self.asked.append(client)
            script = self.scripts.get(client, [])
            step = script.pop(0) if script else f"answer of {client}"
            if isinstance(step, BaseException):
                raise step
            if callable(step):
                step = await step()
            return step

        return ask


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def make(clock: ManualClock, tmp_path: Any) -> AsyncIterator[Callable[..., BAMLErrorHandler]]:
    handlers: list[BAMLErrorHandler] = []

    def build(**policies: Any) -> BAMLErrorHandler:
        policies.setdefault("retry", RetryPolicy(jitter=False))
        policies.setdefault("breaker", BreakerPolicy(open_jitter=0.0))
        policies.setdefault("fallback", FallbackPolicy(clients=("B",)))
        settings = Settings(store_url="memory://", database_url=f"sqlite:///{tmp_path}/history.db")
        handlers.append(BAMLErrorHandler(settings=settings, clock=clock, random=lambda: 0.5, **policies))
        return handlers[-1]

    yield build
    for handler in handlers:
        await handler.aclose()


async def test_a_clean_call_asks_once_and_keeps_no_error(make: Any) -> None:
    """The first client's answer comes back with its name, and the history of errors stays empty."""
    fleet, handler = Fleet(), make()

    assert ("answer of A", "A") == await handler.call_with_fallback(fleet, "F", "A", 1, x=2)
    assert ["A"] == fleet.asked
    assert [] == handler.get_error_history()


async def test_the_row_of_a_call_says_for_whom_and_by_whom(make: Any, clock: ManualClock) -> None:
    """Clean and recovered calls have the tenant of their task and the duration of the attempt that answered; a later call has neither."""

    async def slowly() -> str:
        clock.advance(2.0)
        return "ok"

    handler = make()
    with tenant("acme"):
        await handler.call_with_fallback(Fleet(A=[slowly]), "F", "A")
        await handler.call_with_fallback(Fleet(A=[ProviderError(429)], B=[slowly]), "F", "A")
    await handler.call_with_fallback(Fleet(), "F", "B")
    recovered, clean = await handler.history.calls(tenant="acme")
    rates = {rate.client: rate for rate in await handler.history.rates(since=None)}

    assert [("B", 2.0), ("A", 2.0)] == [
        (call.client_final, call.answer_duration) for call in (recovered, clean)
    ]
    assert {"resilience"} == {row.namespace for row in (recovered, clean, *await handler.history.errors())}
    assert len(await handler.history.calls()) == 3
    assert [(1, 2), (2, 1)] == [(rates[name].answered_calls, rates[name].calls) for name in ("A", "B")]


async def test_arguments_reach_the_function_unchanged(make: Any) -> None:
    """Positional and keyword arguments are passed on, those named like our own parameters' values included."""
    seen: list[Any] = []

    async def ask(*args: Any, **kwargs: Any) -> str:
        seen.append((args, kwargs))
        return "ok"

    assert await make().call_with_retry(ask, "A", "F", 1, [2], client="x", retry=3) == "ok"
    assert seen == [((1, [2]), {"client": "x", "retry": 3})]


async def test_a_503_goes_to_the_free_backup_at_once(make: Any, clock: ManualClock) -> None:
    """service_unavailable with a free backup: no wait, one attempt on each, and one error with action fallback."""
    fleet, handler = Fleet(A=[ProviderError(503)]), make()

    assert ("answer of B", "B") == await handler.call_with_fallback(fleet, "F", "A")
    assert ["A", "B"] == fleet.asked
    assert [] == clock.sleeps
    (record,) = handler.get_error_history()
    assert (ErrorCategory.SERVICE_UNAVAILABLE, 503, "A", 1, Action.FALLBACK) == (
        record.category,
        record.status,
        record.client,
        record.attempt,
        record.action,
    )
    summary = handler.get_fallback_summary()
    assert (1, 1, 1.0) == (
        summary["total_fallbacks"],
        summary["successful_fallbacks"],
        summary["success_rate"],
    )


async def test_alone_a_client_is_asked_four_times_with_doubling_waits(make: Any, clock: ManualClock) -> None:
    """max_retries 3 makes up to 4 attempts with waits of 1, 2 and 4 s; the caller gets the last error."""
    errors = [ProviderError(503) for _ in range(4)]
    fleet, handler = (
        Fleet(A=errors),
        make(fallback=FallbackPolicy(), breaker=BreakerPolicy(consecutive_failures=50)),
    )

    with pytest.raises(ProviderError) as caught:
        await handler.call_with_fallback(fleet, "F", "A")

    assert caught.value is errors[-1]
    assert [1.0, 2.0, 4.0] == clock.sleeps
    assert ["A"] * 4 == fleet.asked
    assert [Action.RAISE, Action.RETRY, Action.RETRY, Action.RETRY] == [
        r.action for r in handler.get_error_history()
    ]
    assert [None, 4.0, 2.0, 1.0] == [r.backoff for r in handler.get_error_history()]


async def test_when_every_client_fails_each_cause_is_reported(make: Any) -> None:
    """AllClientsFailedError groups one cause per client in the order they were tried, with the shortest stated wait."""
    first, second = ProviderError(529), ProviderError(401)
    fleet = Fleet(A=[first], B=[second])
    handler = make()

    with pytest.raises(AllClientsFailedError) as caught:
        await handler.call_with_fallback(fleet, "F", "A")

    assert {"A": first, "B": second} == caught.value.by_client
    assert caught.value.last is second


async def test_a_callers_mistake_is_raised_at_once_as_it_is(make: Any) -> None:
    """invalid_request asks no second client and raises the client's own exception object."""
    mistake = ProviderError(400)
    fleet = Fleet(A=[mistake])

    with pytest.raises(ProviderError) as caught:
        await make().call_with_fallback(fleet, "F", "A")

    assert caught.value is mistake
    assert ["A"] == fleet.asked


async def test_five_failures_in_a_row_open_the_circuit(make: Any) -> None:
    """After five consecutive failures the client is not asked; the refusal names reason and wait."""
    fleet = Fleet(A=[ProviderError(503) for _ in range(9)])
    handler = make(fallback=FallbackPolicy(), retry=RetryPolicy(max_retries=0))
    for _ in range(5):
        with pytest.raises(ProviderError):
            await handler.call_with_fallback(fleet, "F", "A")
    await _until(lambda: handler.circuits["A"].state == "open")

    with pytest.raises(CircuitOpenError) as refused:
        await handler.call_with_fallback(fleet, "F", "A")

    assert len(fleet.asked) == 5
    assert refused.value.reason == "service_unavailable"
    assert refused.value.retry_after == pytest.approx(10.5, abs=1.5)
    newest = handler.get_error_history(limit=1)[0]
    assert (ErrorCategory.CIRCUIT_OPEN, Action.RAISE) == (newest.category, newest.action)


async def test_an_open_circuit_leads_straight_to_the_backup(make: Any) -> None:
    """While A's circuit is open calls go to B without asking A, counted as fallbacks and not as errors."""
    fleet = Fleet(A=[ProviderError(503) for _ in range(9)])
    handler = make()
    for _ in range(5):
        await handler.call_with_fallback(fleet, "F", "A")
    await _until(lambda: handler.circuits["A"].state == "open")
    errors = len(handler.get_error_history())

    assert await handler.call_with_fallback(fleet, "F", "A") == ("answer of B", "B")
    assert fleet.asked.count("A") == 5
    assert len(handler.get_error_history()) == errors
    assert handler.get_fallback_summary()["total_fallbacks"] == 6


async def test_a_rate_limit_starts_a_cooldown_and_is_waited_for_when_alone(
    make: Any, clock: ManualClock
) -> None:
    """429 with Retry-After 7: the next attempt comes no sooner than 7 s later, and succeeds."""
    fleet = Fleet(A=[ProviderError(429, retry_after="7")])
    handler = make(fallback=FallbackPolicy())

    assert await handler.call_with_fallback(fleet, "F", "A") == ("answer of A", "A")
    assert sum(clock.sleeps) >= 7.0
    assert len(fleet.asked) == 2


async def test_other_calls_wait_for_the_cooldown_too_when_alone(make: Any, clock: ManualClock) -> None:
    """A call that comes during the cool-down of the only client waits it out instead of failing."""
    fleet = Fleet(A=[ProviderError(429, retry_after="7")])
    handler = make(fallback=FallbackPolicy(), retry=RetryPolicy(jitter=False, max_retries=0))
    with pytest.raises(ProviderError):
        await handler.call_with_fallback(fleet, "F", "A")
    patient = FunctionPolicies(retry=RetryPolicy(jitter=False))
    waiting = make(
        fallback=FallbackPolicy(), retry=RetryPolicy(jitter=False, max_retries=0), per_function={"F": patient}
    )

    assert await waiting.call_with_fallback(fleet, "F", "A") == ("answer of A", "A")
    assert sum(clock.sleeps) >= 6.0
    assert len(fleet.asked) == 2


async def test_a_client_in_cooldown_is_skipped_while_a_backup_is_free(make: Any, clock: ManualClock) -> None:
    """After one 429 no further call asks A during its cool-down; B answers without a wait."""
    fleet, handler = Fleet(A=[ProviderError(429, retry_after="7")]), make()
    answers = [await handler.call_with_fallback(fleet, "F", "A") for _ in range(5)]

    assert [("answer of B", "B")] * 5 == answers
    assert fleet.asked.count("A") == 1
    assert [] == clock.sleeps


async def test_the_refusal_of_a_fork_is_no_client_s_failure(make: Any, clock: ManualClock) -> None:
    """In a child that cannot call BAML the caller gets that error itself, also where the circuit of another client refused first."""
    refused = ForkedRuntimeError("called before the fork")
    fleet, handler = Fleet(A=[ProviderError(429, retry_after="7")], B=[1, refused]), make()
    await handler.call_with_fallback(fleet, "F", "A")
    with pytest.raises(ForkedRuntimeError) as raised:
        await handler.call_with_fallback(fleet, "F", "A")

    assert raised.value is refused


async def test_a_stated_wait_is_one_wait(make: Any, clock: ManualClock) -> None:
    """A call whose policy waits for the client is admitted at the end of the cool-down, although a backup is free."""
    fleet = Fleet(A=[ProviderError(429, retry_after="7")])
    handler = make(retry=RetryPolicy(retry_modes={ErrorCategory.RATE_LIMIT: RetryMode.ALWAYS}))

    assert ("answer of A", "A") == await handler.call_with_fallback(fleet, "F", "A")
    assert ["A", "A"] == fleet.asked
    (record,) = handler.get_error_history()  # the refusals until the circuit's own end are no errors
    assert (ErrorCategory.RATE_LIMIT, Action.RETRY, 7.0) == (record.category, record.action, record.backoff)


async def test_waits_for_a_cooldown_take_nothing_from_the_retry_budget(make: Any, clock: ManualClock) -> None:
    """Callers that wait for the cool-down of their only client are answered, also where the retry budget is empty."""
    # Three, since the ramp may let the same caller try first each time, and each has three retries.
    fleet = Fleet(A=[ProviderError(429, retry_after="2") for _ in range(3)])
    handler = make(
        fallback=FallbackPolicy(),
        breaker=BreakerPolicy(open_jitter=0.0, retry_ratio=0.0, retry_floor=0, retry_burst=1),
    )

    answers = await asyncio.gather(*(handler.call_with_fallback(fleet, "F", "A") for _ in range(6)))

    assert [("answer of A", "A")] * 6 == answers


async def test_a_connection_lost_in_silence_is_not_asked_twice(make: Any, clock: ManualClock) -> None:
    """A client that says nothing for 6 s and hangs up is left for the backup; one that hangs up at once is asked again."""

    async def hang_up(seconds: float) -> None:
        await clock.sleep(seconds)
        raise ConnectionResetError

    silent = Fleet(A=[lambda: hang_up(6.0)])
    abrupt = Fleet(A=[lambda: hang_up(0.1)])
    handler = make()

    assert ("answer of B", "B") == await handler.call_with_fallback(silent, "F", "A")
    assert ("answer of A", "A") == await handler.call_with_fallback(abrupt, "F", "A")
    assert ["A", "B"] == silent.asked


async def test_a_small_backup_does_not_end_the_call(make: Any) -> None:
    """A backup with too little room leads to the next client, whatever the first client's failure was."""
    fleet = Fleet(A=[ProviderError(503)], Small=[ProviderError(413)])
    handler = make(fallback=FallbackPolicy(clients=("Small", "Large")))

    assert ("answer of Large", "Large") == await handler.call_with_fallback(fleet, "F", "A")
    assert ["A", "Small", "Large"] == fleet.asked


async def test_after_a_small_backup_a_busy_client_is_asked_again(make: Any, clock: ManualClock) -> None:
    """Where only a client with too little room was left, the busy one gets the retries it has left, after its stated wait."""
    fleet = Fleet(A=[ProviderError(429, retry_after="2")], Small=[ProviderError(413)])
    handler = make(fallback=FallbackPolicy(clients=("Small",)))

    assert ("answer of A", "A") == await handler.call_with_fallback(fleet, "F", "A")
    assert ["A", "Small", "A"] == fleet.asked
    assert sum(clock.sleeps) >= 2.0

    clock.advance(2.0)  # the ramp after the cool-down is over
    hopeless = Fleet(A=[ProviderError(503)] * 9, Small=[ProviderError(413)] * 9)
    with pytest.raises(AllClientsFailedError):
        await handler.call_with_fallback(hopeless, "F", "A")
    assert ["A", "Small", "A", "A", "A"] == hopeless.asked


@pytest.mark.parametrize(
    "unusable",
    [ProviderError(404), ProviderError(402), OutputTruncatedError("B")],
    ids=["no such model", "no credit", "cut"],
)
async def test_after_an_unusable_backup_a_busy_client_is_asked_again(make: Any, unusable: Exception) -> None:
    """A backup that has not the model, no credit or too short an answer does not take the busy client its retries."""
    fleet = Fleet(A=[ProviderError(503)], B=[unusable] * 9)

    assert ("answer of A", "A") == await make().call_with_fallback(fleet, "F", "A")
    assert ["A", "B", "A"] == fleet.asked


async def test_long_requests_go_to_context_clients(make: Any) -> None:
    """After context_length the context_clients are asked first."""
    too_long = ProviderError(413)
    fleet = Fleet(A=[too_long])
    handler = make(fallback=FallbackPolicy(clients=("B",), context_clients=("Long",)))

    assert await handler.call_with_fallback(fleet, "F", "A") == ("answer of Long", "Long")
    assert ["A", "Long"] == fleet.asked


async def test_per_function_policies_replace_the_handlers_own(make: Any) -> None:
    """A function with policies of its own uses them; others use the handler's."""
    fleet = Fleet(A=[ProviderError(503), ProviderError(503)])
    handler = make(per_function={"Stubborn": {"fallback": FallbackPolicy()}})

    assert await handler.call_with_fallback(fleet, "Other", "A") == ("answer of B", "B")
    assert await handler.call_with_fallback(fleet, "Stubborn", "A") == ("answer of A", "A")


@pytest.mark.parametrize("wrong", [{"retries": 3}, {"retry": 3}])
def test_wrong_per_function_policies_are_named(wrong: dict[str, Any]) -> None:
    """An unknown key or a value of the wrong type is an error that names function and remedy."""
    with pytest.raises(ConfigurationError, match=r"per_function\['F'\]"):
        BAMLErrorHandler(per_function={"F": wrong})


async def test_an_attempt_that_takes_too_long_is_cancelled_and_counted(make: Any) -> None:
    """attempt_timeout cancels the attempt, counts as timeout, and the backup answers."""
    cancelled = asyncio.Event()

    async def hang() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "never"

    fleet = Fleet(A=[hang])
    handler = make(retry=RetryPolicy(attempt_timeout=0.1))

    assert await handler.call_with_fallback(fleet, "F", "A") == ("answer of B", "B")
    assert cancelled.is_set()
    (record,) = handler.get_error_history()
    assert (ErrorCategory.TIMEOUT, AttemptTimeoutError.__name__) == (record.category, record.exception_type)


async def test_the_deadline_spans_everything(make: Any) -> None:
    """A call that cannot end in time raises DeadlineExceededError from the last cause."""

    async def hang() -> None:
        await asyncio.Event().wait()

    refused = ProviderError(503)
    fleet = Fleet(A=[refused], B=[hang])
    handler = make(retry=RetryPolicy(deadline=1.0))

    with pytest.raises(DeadlineExceededError) as caught:
        await handler.call_with_fallback(fleet, "F", "A")

    assert caught.value.__cause__ is refused
    assert isinstance(caught.value, TimeoutError)


async def test_cancellation_goes_through_and_counts_for_nothing(make: Any) -> None:
    """A cancelled call raises CancelledError, leaves the circuit as it was and is recorded as cancelled."""

    async def hang() -> None:
        await asyncio.Event().wait()

    handler = make()
    fleet = Fleet(A=[hang] * 8)
    for _ in range(8):
        task = asyncio.create_task(handler.call_with_fallback(fleet, "F", "A"))
        await _until(lambda: bool(fleet.asked))
        fleet.asked.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert await handler.call_with_fallback(fleet, "F", "A") == ("answer of A", "A")
    assert [] == handler.get_error_history()
    await kept(handler)
    outcomes = [call.outcome for call in await handler.history.calls()]
    assert outcomes == ["ok", *["cancelled"] * 8]


async def test_a_callers_timeout_works_as_without_us(make: Any) -> None:
    """asyncio.timeout around a call raises TimeoutError, during an attempt and during a wait."""

    async def hang() -> None:
        await asyncio.Event().wait()

    handler = make()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await handler.call_with_fallback(Fleet(A=[hang]), "F", "A")

    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr] # a test runs in a task


async def test_an_unshared_call_takes_no_part_in_circuits(make: Any) -> None:
    """A call on the caller's own client is retried and recorded, but its failures open no circuit and none refuses it."""
    fleet = Fleet(own=[ProviderError(503) for _ in range(8)])
    handler = make(retry=RetryPolicy(max_retries=0))
    for _ in range(8):
        with pytest.raises(ProviderError):
            await call_async(
                handler.prepare_call(fleet, "F", "own", allow_fallback=False, unguarded="own"), (), {}
            )

    call = handler.prepare_call(fleet, "F", "own", allow_fallback=False, unguarded="own")
    assert await call_async(call, (), {}) == ("answer of own", "own")
    assert "own" not in handler.circuits


async def test_records_of_one_call_share_its_id(make: Any) -> None:
    """Errors, fallback and call carry one request id, in memory and in SQL."""
    fleet = Fleet(A=[ProviderError(500), ProviderError(500)])
    handler = make()
    await handler.call_with_fallback(fleet, "F", "A")
    await kept(handler)

    (call,) = await handler.history.calls()
    errors = await handler.history.errors()
    (fallback,) = await handler.history.fallbacks()
    assert {call.request_id} == {error.request_id for error in errors} == {fallback.request_id}
    assert (3, 1, 1, "A", "B", "recovered_fallback") == (
        call.attempts,
        call.retries,
        call.fallbacks,
        call.client,
        call.client_final,
        call.outcome,
    )
    assert errors == handler.get_error_history()


async def test_a_handler_can_be_closed_and_used_again(make: Any) -> None:
    """aclose() closes; the next call opens again; closing twice is harmless."""
    handler = make()
    async with handler as same:
        assert same is handler
        await handler.call_with_fallback(Fleet(), "F", "A")
    await handler.aclose()

    assert await handler.call_with_fallback(Fleet(), "F", "A") == ("answer of A", "A")


async def test_handlers_with_equal_settings_share_a_runtime(make: Any) -> None:
    """Two handlers with equal settings see one circuit, but keep their own recent errors."""
    one, other = make(retry=RetryPolicy(max_retries=0)), make(retry=RetryPolicy(max_retries=0))
    fleet = Fleet(A=[ProviderError(503) for _ in range(5)])
    for _ in range(5):
        await one.call_with_fallback(fleet, "F", "A")
    await _until(lambda: one.circuits["A"].state == "open")

    assert other.circuits["A"].state == "open"
    assert [] == other.get_error_history()
    one.clear_history()
    assert [] == one.get_error_history()


async def kept(handler: BAMLErrorHandler) -> None:
    """Write everything to the history, however long that takes; closing alone waits for two seconds."""
    assert await handler._open().recorder.aflush(60)


async def _until(true: Callable[[], bool]) -> None:
    """Wait for another thread, at most 30 s."""
    async with asyncio.timeout(240):
        while not true():  # noqa: ASYNC110 - another thread makes it true
            await asyncio.sleep(0.005)


async def test_records_and_summaries_turn_into_json(make: Any) -> None:
    """One call turns a record, a list of records or a summary into JSON that any parser reads."""
    handler = make(retry=RetryPolicy(max_retries=0))
    with pytest.raises(ProviderError):
        await handler.call_with_retry(Fleet(A=[ProviderError(503)])("A"), "A", "F")

    (record,) = json.loads(to_json(handler.get_error_history()))
    summary = json.loads(to_json(handler.get_error_summary(), indent=2))

    assert ("A", "service_unavailable", 503) == (record["client"], record["category"], record["status"])
    assert record["occurred_at"].endswith("+00:00")
    assert [record] == summary["recent_errors"]


def test_what_has_no_form_in_json_is_null_or_an_error() -> None:
    """Numbers that JSON does not have become null; bytes and what contains itself are a TypeError."""
    itself: dict[str, Any] = {}
    itself["again"] = [itself]

    assert '{"a": [null, null, 1.5]}' == to_json({"a": (float("nan"), float("inf"), 1.5)})
    for value in ({"a": b"x"}, itself):
        with pytest.raises(TypeError):
            to_json(value)


async def test_circuits_are_reset_from_python(make: Any) -> None:
    """One circuit or all of them are closed again for the fleet, and the client is asked at once."""
    fleet = Fleet(A=[ProviderError(503)] * 8, B=[ProviderError(503)] * 8)
    handler = make(retry=RetryPolicy(max_retries=0))
    for client in "AB":
        for _ in range(8):
            with pytest.raises((ProviderError, CircuitOpenError)):
                await handler.call_with_retry(fleet(client), client, "F")

    assert {"open"} == {str(circuit.state) for circuit in handler.circuits.values()}
    assert ("A",) == await handler.reset_circuits("A", reason="mended")
    assert {"A", "B"} == set(await handler.reset_circuits())
    assert {"closed"} == {str(circuit.state) for circuit in handler.circuits.values()}


async def test_a_refusal_without_any_backup_says_so(make: Any) -> None:
    """The CircuitOpenError of a call that names no other client carries a note on how to name one."""
    fleet = Fleet(A=[ProviderError(503)] * 8)
    handler = make(retry=RetryPolicy(max_retries=0), fallback=FallbackPolicy())
    for _ in range(8):
        with contextlib.suppress(ProviderError, CircuitOpenError):
            await handler.call_with_fallback(fleet, "F", "A")

    with pytest.raises(CircuitOpenError) as refused:
        await handler.call_with_fallback(fleet, "F", "A")

    assert "FallbackPolicy(clients=...)" in "".join(refused.value.__notes__)


@pytest.mark.parametrize(("first_token", "slow"), [(0.5, 0), (5.0, 1), (None, 1)])
async def test_a_slow_stream_is_one_that_begins_late(
    make: Any, clock: ManualClock, first_token: float | None, slow: int
) -> None:
    """`slow_call_duration` is compared with the time to the first content: a long answer is not a slow client."""
    handler = make(breaker=BreakerPolicy(slow_call_duration=2.0))
    progress = StreamProgress(lambda: None)

    async def stream() -> str:
        clock.advance(100.0)
        progress.time_to_first_token = first_token
        return "answer"

    call = handler.prepare_call(lambda _: stream, "F", "A")
    call.stream = progress
    await call_async(call, (), {})

    assert handler._open().breaker.flush(20.0)
    assert slow == handler.circuits["A"].slow
