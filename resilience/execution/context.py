"""What the attempts of one call share: its policies, the services it uses, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from typing import Any, Final, Protocol

from resilience import telemetry
from resilience.baml import AbortSignal, StreamProgress, Usage
from resilience.breaker import Breaker, BreakerPolicy
from resilience.clock import Clock
from resilience.errors import DeadlineExceededError
from resilience.execution.call_recorder import CallRecorder, EventSink, RecordSink
from resilience.execution.decision import falls_back_in_baml
from resilience.failure import ErrorCategory, Failure, OwnRules
from resilience.fallback import FallbackPolicy
from resilience.privacy import Privacy
from resilience.records.deferred import DeferredRecord
from resilience.records.fingerprint import Fingerprints
from resilience.records.ids import new_id
from resilience.records.records import NAMESPACE
from resilience.request_id import current_request_id
from resilience.retry import RetryPolicy
from resilience.telemetry import CallTrace
from resilience.tenant import current_tenant


@dataclass(frozen=True, slots=True)
class Policies:
    """The three policies that apply to the calls of one function."""

    retry: RetryPolicy
    fallback: FallbackPolicy
    breaker: BreakerPolicy


class ProbeStarter(Protocol):
    """Starts probes that run beside a call; see `async_probes.py`."""

    def start(
        self, caller: CallContext, client: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Start a probe of *client* with the arguments of the caller's call."""


def _ignore(_: DeferredRecord) -> None:
    """Keep nothing."""


@dataclass(frozen=True, slots=True)
class CallServices:
    """What every call of a handler uses and none changes.

    Attributes:
        breaker: the circuits.
        clock: the time.
        random: returns a number from 0 to 1, for the jitter.
        record: receives the records of a call; never blocks and never raises.
        privacy: how much of a call is kept, and by which rules.
        log: receives events that only the logs keep; None without logs.
        record_clean: receives the records of calls to which nothing happened; never blocks and never raises.
        log_start: as `log`, where the start of each call is logged; else None.
        fingerprints: names the kinds of errors.
        pass_through: exceptions of the application that are no failures, besides those of frameworks.
        own_rules: the project's own rule for the category of an error; None without one.
        probes: starts probes beside calls; None where nothing can.
        namespace: the namespace of the deployment.
    """

    breaker: Breaker
    clock: Clock
    random: Callable[[], float]
    record: RecordSink
    privacy: Privacy = field(default_factory=Privacy)
    log: EventSink | None = None
    record_clean: Callable[[DeferredRecord], None] = _ignore
    log_start: EventSink | None = None
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    pass_through: tuple[type[BaseException], ...] = ()
    own_rules: OwnRules | None = None
    probes: ProbeStarter | None = None
    namespace: str = NAMESPACE


@dataclass(slots=True)
class TimeLimit:
    """How long an attempt may take.

    Attributes:
        seconds: the limit; None without one.
        is_deadline: whether it is the deadline of the whole call.
    """

    seconds: float | None
    is_deadline: bool = False


_NO_LIMIT: Final = TimeLimit(None)


@dataclass(slots=True)
class CallContext:
    """How far one call has come: read and updated by the attempts on each of its clients.

    Attributes:
        services: the breaker, the clock and the sinks of records.
        policies: the policies of the function.
        function: the function's name, for records and messages.
        preferred: the client that is asked first.
        bind: returns the function that asks the named client.
        members: clients that a `fallback` strategy of BAML asks after the preferred one, before those of the policy.
        unguarded: a client whose circuit takes no part, because its name means nothing to the fleet; None for none.
        stream: how far the stream of the call has come; None for a call without a stream.
        bind_probe: returns the function that probes the named client without what belongs to the caller; None where the caller
            itself makes a due probe.
        abort: the caller's abort controller, which also ends the waits of the call; None without one.
        trace: receives what spans and metrics need; None to look for their providers now.
        recorder: turns what happens into records.
        errors: the latest exception of each client, the most recent last.
        tried: the clients asked so far, in order.
        categories: the categories of all failures so far.
        unbuildable: clients that BAML could not make a request for, because of their configuration.
        attempts: attempts made on all clients.
        retries: those of them that asked the same client again.
        usages: what each attempt used, failed ones included.
        stated_waits: seconds that each client asked to wait, as last stated; None where it stated nothing.
        time_to_first_token: of a stream that was answered: seconds from the start of the call to the first content of the answer.
        arguments: positional and keyword arguments of the call, set by the driver.
        started: start of the call on the monotonic clock, in seconds.
        started_at: the same moment in epoch seconds.
        now: the monotonic time at the latest resumption of the engine. The driver sets it; the engine reads no clock.
        interrupted: whether the call was ended from outside: by a cancellation, by a signal handler that raised while the caller
            waited, or by the caller's abort controller during a wait.
    """

    services: CallServices
    policies: Policies
    function: str
    preferred: str
    bind: Callable[[str], Callable[..., Any]]
    members: tuple[str, ...] = ()
    unguarded: str | None = None
    stream: StreamProgress | None = None
    bind_probe: Callable[[str], Callable[..., Any]] | None = None
    abort: AbortSignal | None = None
    trace: InitVar[CallTrace | None] = None
    recorder: CallRecorder = field(init=False)
    errors: dict[str, Exception] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)
    categories: set[ErrorCategory] = field(default_factory=set)
    unbuildable: frozenset[str] = frozenset()
    attempts: int = 0
    retries: int = 0
    usages: list[Usage] = field(default_factory=list)
    stated_waits: dict[str, float | None] = field(default_factory=dict)
    time_to_first_token: float | None = None
    arguments: tuple[Any, Any] = ((), {})
    started: float = 0.0
    started_at: float = 0.0
    now: float = 0.0
    interrupted: bool = False

    def __post_init__(self, trace: CallTrace | None) -> None:
        # The request id, the tenant and the span are read here, in the task or thread of the caller: later steps may run elsewhere.
        services, call_id = self.services, new_id()
        self.recorder = CallRecorder(
            services.record,
            services.clock,
            call_id,
            current_request_id() or call_id,
            self.function,
            services.privacy,
            trace or telemetry.trace(self.function, self.preferred, services.privacy.keeps_texts),
            services.log,
            services.fingerprints,
            services.log_start,
            namespace=services.namespace,
            tenant=current_tenant(),
        )

    def follow(self, stream: StreamProgress) -> None:
        """Make this the call of *stream*."""
        self.stream, self.recorder.streamed = stream, True

    def start(self, now: float, started_at: float) -> None:
        """Set the start of the call.

        Args:
            now: the monotonic time in seconds.
            started_at: the same moment in epoch seconds.
        """
        # Both readings at once: `time()` derives later times of day from the monotonic clock, which no clock change moves.
        self.started = self.now = now
        self.started_at = started_at

    def time(self) -> float:
        """Return the time in epoch seconds at the latest resumption."""
        return self.started_at + self.now - self.started

    def retry_after(self) -> float | None:
        """Return the shortest wait in seconds that a client stated last; None when none did."""
        return min((wait for wait in self.stated_waits.values() if wait is not None), default=None)

    def candidates(self, failure: Failure) -> tuple[str, ...]:
        """Return the clients that may be asked after *failure*, in order: members of the strategy, then of the policy."""
        fallback, tried = self.policies.fallback, self.tried
        # A client that cannot be built has a fault of its own, whatever category its error got.
        unbuildable = tried[-1] in self.unbuildable
        # So has one that refuses every request as wrong, whatever its words.
        in_policy = fallback.allows(failure.category) or unbuildable or failure.corrected
        # Members of a strategy follow BAML's rule, since the project relies on it: it goes on after a 400, and not after an
        # answer that does not parse. A policy that names clients of its own adds its rule to that.
        by_policy = in_policy and bool(fallback.clients)
        too_long = failure.category is ErrorCategory.CONTEXT_LENGTH  # for one client; another may have room
        members = self.members if unbuildable or by_policy or too_long or falls_back_in_baml(failure) else ()
        backups = fallback.candidates(self.preferred, self.categories, tried) if in_policy else ()
        first = fallback.context_clients if too_long else ()
        ordered = (*(client for client in (*first, *members) if client not in tried), *backups)
        return tuple(dict.fromkeys(ordered))

    def is_free(self, client: str) -> bool:
        """Return whether the circuit of *client* would admit an attempt now."""
        return client == self.unguarded or self.services.breaker.is_call_permitted(client)

    def has_backups(self) -> bool:
        """Return whether any other client is named, by a strategy or by the policy."""
        return bool(self.members or self.policies.fallback.named())

    def has_circuit(self, client: str) -> bool:
        """Return whether the circuit of *client* takes part in this call."""
        return client != self.unguarded

    def remaining(self) -> float | None:
        """Return the seconds until the call's deadline; None without one."""
        deadline = self.policies.retry.deadline
        return None if deadline is None else self.started + deadline - self.now

    def attempt_limit(self) -> TimeLimit:
        """Return how long the next attempt may take: its own limit, or what is left of the deadline if that is less.

        An attempt of a stream has no limit here but the deadline. It watches its own limits, which end with its content.
        """
        # One timer per attempt is enough: the shorter of the two limits decides, and the engine knows which one it was.
        limit = self.policies.retry.attempt_timeout if self.stream is None else None
        remaining = self.remaining()
        if remaining is not None and (limit is None or remaining <= limit):
            return TimeLimit(remaining, is_deadline=True)
        return _NO_LIMIT if limit is None else TimeLimit(limit)

    def check_deadline(self) -> None:
        """Raise if the deadline has passed.

        Raises:
            DeadlineExceededError: it has; its cause is the latest error of a client.
        """
        deadline = self.policies.retry.deadline
        if deadline is not None and self.now >= self.started + deadline:
            raise self.deadline_error() from self.last_error()

    def check_abort(self) -> None:
        """Raise BAML's own error if the caller has aborted the call, which ends as cancelled."""
        if self.abort is not None and self.abort.is_set:
            self.interrupted = True
            raise self.abort.error()

    def deadline_error(self) -> DeadlineExceededError:
        """Return the error for a call that reached its deadline."""
        return DeadlineExceededError(self.function, self.policies.retry.deadline or 0.0)

    def last_error(self) -> Exception | None:
        """Return the latest exception of a client; None before the first."""
        return next(reversed(self.errors.values()), None)
