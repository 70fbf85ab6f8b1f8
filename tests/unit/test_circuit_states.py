"""The state machine of a circuit, state by state."""

from __future__ import annotations

from copy import deepcopy

import pytest
from support.circuit_bench import START, Bench

from resilience.breaker.circuit import observe, step
from resilience.breaker.messages import Batch, Operation, Order, Outcome, StepRequest, TransitionRule
from resilience.breaker.policy import BreakerPolicy
from resilience.breaker.state import CircuitData, CircuitState

CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, DISABLED = CircuitState


class TestClosed:
    def test_opens_at_the_nth_failure_in_a_row_and_not_before(self) -> None:
        """The circuit opens at the N-th failure in a row, and not at the one before."""
        bench = Bench(consecutive_failures=5)
        assert bench.fail(4).state is CLOSED
        reply = bench.fail()
        assert (reply.state, reply.wait_ms, reply.reason) == (OPEN, 30_000, "timeout")
        assert [(t.from_state, t.to_state, t.rule, t.calls, t.failures) for t in reply.transitions] == [
            (CLOSED, OPEN, TransitionRule.CONSECUTIVE, 5, 5)
        ]

    def test_a_success_ends_the_row(self) -> None:
        """A success between failures starts the count of failures in a row again."""
        bench = Bench(consecutive_failures=3, min_calls=100)
        bench.fail(2)
        bench.succeed()
        assert bench.fail(2).state is CLOSED
        assert bench.view().streak == 2
        assert bench.fail().state is OPEN

    def test_a_row_must_lie_within_the_window(self) -> None:
        """Failures older than the window do not count as failures in a row."""
        bench = Bench(consecutive_failures=3, window=10)
        bench.fail(2)
        bench.later(10)
        assert bench.fail().state is CLOSED
        assert (bench.view().failures, bench.view().streak) == (1, 1)

    def test_a_row_reaches_over_buckets(self) -> None:
        """Failures in a row are counted across buckets, back to the last success."""
        bench = Bench(consecutive_failures=4, window=10, min_calls=100)
        bench.tell((Outcome.FAILURE, 3), (Outcome.SUCCESS, 1), (Outcome.FAILURE, 1))
        bench.later(2).fail()
        assert bench.later(2).view().streak == 2
        bench.fail()
        assert bench.fail().state is OPEN

    def test_a_row_ends_at_a_success_in_a_later_bucket(self) -> None:
        """A success ends the failures in a row, even if they are in an older bucket."""
        bench = Bench(consecutive_failures=4, window=10, min_calls=100)
        bench.fail(3)
        bench.later(2).succeed()
        assert bench.later(2).fail().streak == 1

    def test_half_the_calls_failing_opens_by_rate(self) -> None:
        """Alternating results have no failures in a row, but the failure rate opens the circuit once there are enough calls."""
        bench = Bench(min_calls=10, failure_rate=0.5)
        for _ in range(4):
            bench.succeed()
            assert bench.fail().state is CLOSED
        bench.succeed()
        reply = bench.fail()
        assert (reply.state, reply.transitions[0].rule) == (OPEN, TransitionRule.FAILURE_RATE)

    def test_a_tenth_of_the_calls_failing_never_opens(self) -> None:
        """A failure rate below the threshold never opens the circuit, however long it lasts."""
        bench = Bench()
        for _ in range(500):
            bench.tell((Outcome.FAILURE, 1), (Outcome.SUCCESS, 9))
            bench.later(0.5)
        assert {reply.state for reply in bench.replies} == {CLOSED}

    def test_a_rate_is_exact_at_its_threshold(self) -> None:
        """A failure rate equal to the threshold opens the circuit, even if the threshold has no exact binary form."""
        bench = Bench(failure_rate=0.1, min_calls=30, consecutive_failures=100)
        bench.succeed(27)
        bench.fail(2)
        assert bench.fail().state is OPEN

    def test_a_success_may_open_when_it_makes_the_window_large_enough(self) -> None:
        """The rules are checked after successes too: here the tenth call succeeds, and half of the ten have failed."""
        bench = Bench(consecutive_failures=100)
        bench.fail(5, reason="server_error")
        reply = bench.succeed(8)
        assert (reply.state, reply.reason, reply.late) == (OPEN, "server_error", 3)

    def test_slow_calls_open_only_where_they_are_judged(self) -> None:
        """Slow calls open the circuit if the policy has a slow_call_duration; without one they are plain successes."""
        judged, unjudged = Bench(slow_call_duration=5.0), Bench()
        for bench in (judged, unjudged):
            bench.tell((Outcome.SUCCESS, 2), (Outcome.SLOW_SUCCESS, 8))
        assert unjudged.view().state is CLOSED
        assert unjudged.view().slow == 8
        assert (judged.view().state, judged.view().reason) == (OPEN, "slow_call_rate")

    def test_slow_failures_count_as_both(self) -> None:
        """A slow failure counts as a failure and as a slow call."""
        bench = Bench(slow_call_duration=5.0, consecutive_failures=100, failure_rate=1.0, min_calls=5)
        bench.succeed()
        reply = bench.tell((Outcome.SLOW_FAILURE, 4))
        assert reply.transitions[0].rule is TransitionRule.SLOW_RATE

    def test_ignored_results_change_nothing(self) -> None:
        """Ignored results count nothing, do not end the failures in a row, and cause no write."""
        bench = Bench()
        bench.fail(4)
        before = deepcopy(bench.data)
        reply = bench.tell((Outcome.IGNORED, 50))
        assert (reply.streak, reply.late) == (4, 0)
        assert bench.data == before

    def test_the_window_forgets_bucket_by_bucket(self) -> None:
        """A bucket stops counting exactly one window after it began."""
        bench = Bench(window=10, consecutive_failures=100, min_calls=100)
        bench.fail(3)
        bench.later(5).fail(2)
        assert bench.later(4.999).view().failures == 5
        assert bench.later(0.001).view().failures == 2
        assert bench.later(5).view().failures == 0

    def test_a_full_window_keeps_ten_buckets(self) -> None:
        """The data keeps at most ten buckets, however many results arrive."""
        bench = Bench(window=10)
        for _ in range(100):
            bench.later(0.7).succeed()
        assert len(bench.data.buckets) == 10

    def test_thresholds_of_two_versions_share_one_window(self) -> None:
        """During a deploy, versions with different windows and thresholds share the same counts."""
        bench = Bench(window=60, consecutive_failures=5)
        strict = BreakerPolicy(window=30, consecutive_failures=3)
        bench.fail(2)
        bench.later(4)
        reply = bench.step(policy=strict, batches=(Batch(0, ((Outcome.FAILURE, 1),), "", "timeout"),))
        assert reply.state is OPEN

    def test_a_deploy_with_a_shorter_open_max_shortens_an_opening(self) -> None:
        """A shorter open_max shortens an opening that is under way, and that is saved (purgatory keeps the first length for ever)."""
        bench = Bench(open_for=300.0, open_max=300.0)
        bench.trip()
        bench.policy = BreakerPolicy(open_for=5.0, open_max=5.0, open_jitter=0.0)
        assert bench.view().wait_ms == 5000
        assert bench.later(2).view().wait_ms == 3000


class TestOpen:
    def test_refuses_until_its_time_is_over(self) -> None:
        """No lease is granted before the end of the opening, and one is at its end."""
        bench = Bench()
        bench.trip()
        refused = bench.later(29.999).ask("t1")
        assert (refused.state, refused.granted, refused.wait_ms) == (OPEN, False, 1)
        granted = bench.later(0.001).ask("t1")
        assert (granted.state, granted.granted) == (HALF_OPEN, True)
        assert granted.transitions[0].rule is TransitionRule.LAPSED

    def test_stays_open_after_its_end_until_a_probe_is_requested(self) -> None:
        """A step without a probe request leaves an opening open after its time is over."""
        bench = Bench()
        bench.trip()
        assert (bench.later(100).view().state, bench.view().wait_ms) == (OPEN, 0)

    def test_late_results_neither_lengthen_nor_close(self) -> None:
        """Results of the closed epoch that arrive while the circuit is open change nothing and are reported as late."""
        bench = Bench()
        before = bench.data.epoch
        bench.trip()
        data = deepcopy(bench.data)
        assert bench.later(3).fail(7, epoch=before).late == 7
        assert bench.succeed(2, epoch=before).late == 2
        assert bench.data == data

    def test_nothing_of_one_half_open_reaches_into_the_next(self) -> None:
        """When a probe fails, the successes and leases of that half-open state are forgotten."""
        bench = Bench(half_open_probes=2, successes_to_close=2, probe_lease=600.0)
        bench.half_open("a")
        bench.succeed(lease="a")
        assert [bench.ask(token).granted for token in "bx"] == [True, False]
        bench.fail(lease="b")
        bench.later(60)
        assert [bench.ask(token).granted for token in "cde"] == [True, True, False]
        assert bench.succeed(lease="c").state is HALF_OPEN
        assert bench.succeed(lease="d").state is CLOSED

    def test_results_of_its_own_epoch_count_nothing(self) -> None:
        """An open circuit grants no permits, so a result with its epoch changes nothing."""
        bench = Bench()
        bench.trip()
        data = deepcopy(bench.data)
        bench.fail(5)
        assert bench.data == data

    def test_the_rest_of_the_tripping_batch_is_late(self) -> None:
        """Results after the one that opens the circuit are late, in the same run and in later runs."""
        reply = Bench().tell((Outcome.FAILURE, 8), (Outcome.SUCCESS, 2))
        assert (reply.state, reply.late) == (OPEN, 5)

    def test_each_further_opening_is_longer_up_to_the_maximum(self) -> None:
        """Without a full closed window between them, openings double in length, up to open_max."""
        bench = Bench(open_for=30.0, open_growth=2.0, open_max=100.0)
        waits = [bench.trip().wait_ms]
        for turn in range(3):
            bench.later(waits[-1] / 1000).ask(f"t{turn}")
            waits.append(bench.fail(lease=f"t{turn}").wait_ms)
        assert waits == [30_000, 60_000, 100_000, 100_000]

    def test_a_trip_soon_after_closing_is_longer_too(self) -> None:
        """The next opening is longer after a short recovery, and has the first length again after a full closed window."""
        bench = Bench(window=60)
        bench.half_open()
        bench.succeed(lease="t1")
        assert bench.later(59).trip().wait_ms == 60_000
        bench.later(60).ask("t2")
        bench.succeed(lease="t2")
        assert bench.later(60).trip().wait_ms == 30_000

    @pytest.mark.parametrize(("jitter_sample", "expected"), [(0.0, 27_000), (0.5, 30_000), (1.0, 33_000)])
    def test_jitter_is_placed_by_the_sample(self, jitter_sample: float, expected: int) -> None:
        """A sample of 0 shortens an opening by the jitter, one of 1 lengthens it, and 0.5 leaves it."""
        assert (
            BreakerPolicy(open_for=30.0, open_max=30.0, open_jitter=0.1).open_duration_ms(1, jitter_sample)
            == expected
        )

    def test_openings_may_be_shorter_than_a_second(self) -> None:
        """An open_for of half a second is not rounded to 0 (aiobreaker-redis does that, and never opens)."""
        assert BreakerPolicy(open_for=0.5).open_duration_ms(1, 0.5) == 500

    def test_growth_never_exceeds_open_max(self) -> None:
        """After a million openings in a row the length is open_max, and no power overflows."""
        assert BreakerPolicy(open_growth=10.0).open_duration_ms(1_000_000, 0.5) == 20_000


class TestHalfOpen:
    def test_one_success_closes_with_an_empty_window(self) -> None:
        """By default one successful probe closes the circuit and empties its window."""
        bench = Bench()
        bench.half_open()
        reply = bench.succeed(lease="t1")
        assert (reply.state, reply.failures, reply.streak, reply.reason) == (CLOSED, 0, 0, "")
        assert [(t.rule, t.reason) for t in reply.transitions] == [(TransitionRule.PROBE, "timeout")]
        assert bench.fail(4).state is CLOSED

    def test_a_failed_probe_opens_again(self) -> None:
        """A failed probe opens the circuit again, for longer, with the reason of that failure."""
        bench = Bench()
        bench.half_open()
        reply = bench.fail(lease="t1", reason="overloaded")
        assert (reply.state, reply.wait_ms, reply.reason) == (OPEN, 60_000, "overloaded")

    @pytest.mark.parametrize("allowed", [1, 3, 10])
    def test_lends_exactly_as_many_probes_as_allowed(self, allowed: int) -> None:
        """Of forty probe requests exactly half_open_probes are granted, whether the probes fail or succeed."""
        for outcome in (Outcome.FAILURE, Outcome.SUCCESS):
            bench = Bench(half_open_probes=allowed, successes_to_close=allowed)
            bench.trip()
            bench.later(30)
            granted = [token for token in map(str, range(40)) if bench.ask(token).granted]
            for token in granted[: allowed if outcome is Outcome.SUCCESS else 1]:
                bench.tell((outcome, 1), lease=token)
            assert len(granted) == allowed
            assert bench.view().state is (CLOSED if outcome is Outcome.SUCCESS else OPEN)

    def test_successes_and_leases_together_stay_within_what_closing_needs(self) -> None:
        """With three leases and three successes required, a success does not free a lease for a fourth probe."""
        bench = Bench(half_open_probes=3, successes_to_close=3)
        bench.half_open("a")
        assert [bench.ask(token).granted for token in "bcd"] == [True, True, False]
        bench.succeed(lease="a")
        assert bench.ask("e").granted is False

    def test_one_place_and_three_successes_takes_three_probes_in_turn(self) -> None:
        """With one lease and three successes required, three probes in turn close the circuit."""
        bench = Bench(half_open_probes=1, successes_to_close=3)
        bench.half_open("a")
        for token, following in zip("abc", "bcd", strict=True):
            assert bench.ask(following).granted is False
            bench.succeed(lease=token)
            if following != "d":
                assert bench.ask(following).granted is True
        assert bench.view().state is CLOSED

    def test_asking_twice_with_one_token_is_one_lease(self) -> None:
        """A repeated request with the same token is granted, without a second lease and without more time."""
        bench = Bench(half_open_probes=2)
        bench.half_open("a")
        expiry = bench.data.leases
        assert bench.later(5).ask("a").granted is True
        assert bench.data.leases == expiry
        assert bench.ask("b").granted is True

    def test_ignored_gives_the_lease_back_at_once(self) -> None:
        """An ignored probe returns its lease, and the circuit stays half-open."""
        bench = Bench()
        bench.half_open("a")
        assert bench.ask("b").granted is False
        reply = bench.tell((Outcome.IGNORED, 1), lease="a")
        assert (reply.state, reply.late, reply.transitions) == (HALF_OPEN, 0, ())
        assert bench.ask("b").granted is True

    def test_a_lease_expires_by_itself(self) -> None:
        """The lease of a killed process is free again when it expires, and not later."""
        bench = Bench(probe_lease=10.0)
        bench.half_open("a")
        assert bench.later(9.999).ask("b").wait_ms == 1
        assert bench.later(0.001).ask("b").granted is True

    def test_refused_requests_prolong_no_lease(self) -> None:
        """A thousand refused probe requests write nothing, so they do not prolong the lease of a dead process."""
        bench = Bench(probe_lease=10.0)
        bench.half_open("a")
        data = deepcopy(bench.data)
        for turn in range(1000):
            bench.later(0.009).ask(f"r{turn}")
        assert bench.data == data
        assert bench.later(1.0).ask("b").granted is True

    def test_a_probe_slower_than_its_lease_still_closes(self) -> None:
        """The success of a probe counts after its lease has expired, even if another probe has a lease by then."""
        bench = Bench(probe_lease=10.0)
        bench.half_open("a")
        assert bench.later(11).ask("b").granted is True
        assert bench.later(5).succeed(lease="a").state is CLOSED

    def test_few_expired_leases_are_remembered(self) -> None:
        """At most eight expired leases are remembered, so the data stays small; results of older ones are late."""
        bench = Bench(probe_lease=1.0)
        bench.half_open("first")
        for turn in range(100):
            assert bench.later(1).ask(str(turn)).granted is True
        assert len(bench.data.leases) <= 9
        assert bench.succeed(lease="first").late == 1

    def test_an_expired_token_may_ask_again(self) -> None:
        """A token whose lease has expired gets a new lease, and is listed once."""
        bench = Bench(probe_lease=1.0)
        bench.half_open("a")
        assert bench.later(2).ask("a").granted is True
        assert [lease.token for lease in bench.data.leases] == ["a"]

    @pytest.mark.parametrize("token", ["", "other", "a"])
    def test_results_without_a_lease_are_late(self, token: str) -> None:
        """An ordinary result, an unknown token and a token that was used already change nothing in half-open."""
        bench = Bench(half_open_probes=2, successes_to_close=2)
        bench.half_open("a")
        bench.succeed(lease="a")
        data = deepcopy(bench.data)
        reply = bench.succeed(lease=token)
        assert bench.data == data
        assert reply.state is HALF_OPEN
        assert reply.late == bool(token)

    def test_a_slow_probe_opens_again_where_slow_calls_are_judged(self) -> None:
        """A slow probe opens the circuit again if slow calls are judged; otherwise it counts as a success."""
        for duration, expected in ((5.0, OPEN), (None, CLOSED)):
            bench = Bench(slow_call_duration=duration)
            bench.half_open("a")
            assert bench.tell((Outcome.SLOW_SUCCESS, 1), lease="a").state is expected

    def test_a_cooling_circuit_lends_no_probe(self) -> None:
        """No probe lease is granted during a cool-down, and the reply states its remaining time."""
        bench = Bench()
        bench.trip()
        bench.cool(50)
        reply = bench.later(40).ask("a")
        assert (reply.state, reply.granted, reply.wait_ms, reply.cooldown_ms) == (OPEN, False, 0, 10_000)
        assert bench.later(10).ask("a").granted is True

    def test_a_deploy_with_fewer_required_successes_closes_a_half_open_circuit(self) -> None:
        """A deploy that requires fewer successes closes a half-open circuit that has them; otherwise it would grant no probe."""
        bench = Bench(half_open_probes=3, successes_to_close=3)
        bench.half_open("a")
        bench.succeed(lease="a")
        bench.policy = BreakerPolicy(successes_to_close=1)
        assert bench.view().state is CLOSED

    def test_a_deploy_with_a_shorter_probe_lease_shortens_a_lease(self) -> None:
        """A deploy with a shorter probe_lease shortens a lease that was granted for longer."""
        bench = Bench(probe_lease=600.0)
        bench.half_open("a")
        bench.policy = BreakerPolicy(probe_lease=5.0)
        bench.view()
        assert bench.later(5).ask("b").granted is True


class TestOverrides:
    def test_forced_open_refuses_until_another_order(self) -> None:
        """A forced opening without end refuses probes until another order, and the reply has its actor and reason."""
        bench = Bench()
        reply = bench.order(Operation.OPEN)
        assert (reply.state, reply.wait_ms, reply.actor, reply.reason) == (FORCED_OPEN, -1, "ann", "bill")
        assert bench.later(1e6).ask("a").granted is False
        assert bench.order(Operation.CLOSE).state is CLOSED

    def test_disabled_counts_nothing(self) -> None:
        """A disabled circuit counts no results, and no failures open it."""
        bench = Bench()
        bench.order(Operation.DISABLE)
        reply = bench.fail(500)
        assert (reply.state, reply.failures, reply.late) == (DISABLED, 0, 0)

    @pytest.mark.parametrize("operation", [Operation.OPEN, Operation.DISABLE])
    def test_a_timed_override_lapses_to_closed(self, operation: Operation) -> None:
        """When the time of an override is over, a transition with the rule `lapsed` closes the circuit."""
        bench = Bench()
        epoch = bench.order(operation, 60.0).epoch
        assert bench.later(59.999).view().wait_ms == 1
        reply = bench.later(0.001).view()
        assert (reply.state, reply.actor, reply.reason) == (CLOSED, "", "")
        assert reply.epoch > epoch
        assert reply.transitions[0].rule is TransitionRule.LAPSED

    def test_close_ends_an_opening_and_a_cool_down(self) -> None:
        """The order CLOSE ends an opening and a cool-down together."""
        bench = Bench()
        bench.trip()
        bench.cool(100)
        reply = bench.order(Operation.CLOSE)
        assert (reply.state, reply.cooldown_ms) == (CLOSED, 0)
        assert (reply.transitions[0].actor, reply.transitions[0].rule) == ("ann", TransitionRule.OPERATOR)

    def test_close_of_a_closed_circuit_is_no_transition(self) -> None:
        """CLOSE writes nothing if the circuit is closed and has an epoch already."""
        bench = Bench()
        assert bench.order(Operation.CLOSE).epoch == START
        bench.fail(2)
        data = deepcopy(bench.data)
        assert bench.order(Operation.CLOSE).transitions == ()
        assert bench.data == data

    def test_reset_forgets_growth_where_close_does_not(self) -> None:
        """After CLOSE the next opening is longer; after RESET it has the first length again."""
        for operation, expected in ((Operation.CLOSE, 60_000), (Operation.RESET, 30_000)):
            bench = Bench()
            bench.trip()
            bench.order(operation)
            assert bench.trip().wait_ms == expected

    def test_reset_empties_the_window_of_a_closed_circuit(self) -> None:
        """RESET of a closed circuit is a transition if the window has results, and does nothing if it is empty."""
        bench = Bench()
        bench.order(Operation.CLOSE)
        assert bench.order(Operation.RESET).transitions == ()
        bench.fail(4)
        assert len(bench.order(Operation.RESET).transitions) == 1
        assert bench.view().failures == 0

    def test_results_from_before_an_order_are_late(self) -> None:
        """An order begins a new epoch, so results of earlier permits are late."""
        bench = Bench()
        epoch = bench.data.epoch
        bench.order(Operation.DISABLE)
        bench.order(Operation.CLOSE)
        assert bench.fail(5, epoch=epoch).late == 5
        assert bench.view().state is CLOSED

    def test_an_order_needs_no_policy(self) -> None:
        """An order is carried out without a policy, as the command line sends it."""
        bench = Bench()
        bench.trip()
        request = StepRequest(client="A", order=Order(operation=Operation.CLOSE, actor="ann"))
        data, reply = step(bench.data, bench.now, request)
        assert (data.state, reply.state, request.read_only) == (CLOSED, CLOSED, False)

    @pytest.mark.parametrize(
        ("state", "seconds", "wait"), [(OPEN, 12.0, 12_000), (FORCED_OPEN, None, -1), (DISABLED, 7.0, 7000)]
    )
    def test_restore_puts_back_what_a_store_forgot(
        self, state: CircuitState, seconds: float | None, wait: int
    ) -> None:
        """RESTORE gives a circuit without memory its state and the rest of its time; a second RESTORE does nothing."""
        bench = Bench()
        seen = bench.now - 9000
        reply = bench.order(Operation.RESTORE, seconds, state=state, epoch=seen)
        assert (reply.state, reply.wait_ms, reply.transitions[0].rule) == (
            state,
            wait,
            TransitionRule.RESTORED,
        )
        assert bench.order(Operation.RESTORE, 99.0, state=OPEN, epoch=seen).transitions == ()

    @pytest.mark.parametrize("state", [OPEN, FORCED_OPEN, DISABLED, CLOSED])
    def test_restore_overrules_a_memory_from_before(self, state: CircuitState) -> None:
        """RESTORE replaces the state of an older epoch once, even if the store's clock was set back."""
        bench = Bench()
        bench.order(Operation.DISABLE if state is FORCED_OPEN else Operation.OPEN)
        seen = bench.data.epoch + 5000
        reply = bench.order(Operation.RESTORE, 60.0, state=state, epoch=seen, born_at=bench.data.born_at)
        assert (reply.state, reply.transitions[0].rule) == (state, TransitionRule.RESTORED)
        assert reply.wait_ms == reply.transitions[0].wait_ms == (0 if state is CLOSED else 60_000)
        assert reply.epoch > seen
        assert bench.order(Operation.RESTORE, 99.0, state=OPEN, epoch=seen).transitions == ()

    @pytest.mark.parametrize(
        "operation", [Operation.OPEN, Operation.DISABLE, Operation.CLOSE, Operation.RESET]
    )
    @pytest.mark.parametrize("state", [OPEN, FORCED_OPEN, CLOSED])
    def test_an_order_to_an_emptied_store_wins(self, operation: Operation, state: CircuitState) -> None:
        """No process restores what it remembers of a later epoch over an order that was given to the emptied store."""
        bench = Bench()
        ordered = bench.order(operation)
        reply = bench.order(Operation.RESTORE, 60.0, state=state, epoch=bench.now + 5000)
        assert (reply.state, reply.transitions) == (ordered.state, ())
        bench.trip()
        bench.order(Operation.RESTORE, 60.0, state=FORCED_OPEN, epoch=bench.now + 9000)
        assert bench.data.state is (FORCED_OPEN if ordered.state is CLOSED else ordered.state)

    def test_restore_leaves_a_circuit_with_memory_alone(self) -> None:
        """RESTORE changes nothing if the circuit has a later epoch than the one that was seen."""
        bench = Bench()
        bench.half_open("a")
        seen = bench.data.epoch
        bench.succeed(lease="a")
        assert bench.order(Operation.RESTORE, 30.0, state=OPEN, epoch=seen).state is CLOSED

    @pytest.mark.parametrize(
        ("state", "forgets"), [(CLOSED, False), (CLOSED, True), (HALF_OPEN, False), (HALF_OPEN, True)]
    )
    def test_restore_puts_no_closed_circuit_and_no_leases_back(
        self, state: CircuitState, *, forgets: bool
    ) -> None:
        """RESTORE changes nothing if both states are closed, and never restores half-open, whose leases are lost."""
        bench = Bench()
        if not forgets:
            bench.trip()
            bench.order(Operation.CLOSE)
        order = bench.order(Operation.RESTORE, 30.0, state=state, epoch=bench.now + 1)
        assert (order.state, order.transitions) == (CLOSED, ())


class TestCooldown:
    def test_only_grows(self) -> None:
        """A cool-down that is running is lengthened by a longer one, and not shortened by a shorter one."""
        bench = Bench()
        assert bench.cool(10).cooldown_ms == 10_000
        assert bench.cool(3, reason="overloaded").cooldown_reason == "rate_limit"
        assert (bench.cool(20).cooldown_ms, bench.later(5).view().cooldown_ms) == (20_000, 15_000)

    def test_is_capped(self) -> None:
        """A stated wait is cut to max_seconds."""
        assert Bench().cool(86_400, max_seconds=300).cooldown_ms == 300_000

    def test_ends_and_names_nothing_any_more(self) -> None:
        """After a cool-down has ended, the reply has no cooldown_reason."""
        bench = Bench()
        bench.cool(10)
        assert (bench.later(10).view().cooldown_ms, bench.view().cooldown_reason) == (0, "")

    def test_stands_beside_the_state(self) -> None:
        """A cool-down begins no epoch, and goes on when the circuit opens."""
        bench = Bench()
        epoch = bench.data.epoch
        bench.cool(100)
        assert (bench.data.epoch, bench.view().state) == (epoch, CLOSED)
        assert bench.trip().cooldown_ms == 100_000

    def test_a_stated_one_holds_from_any_epoch(self) -> None:
        """A stated cool-down applies even if its permit belongs to an older epoch."""
        bench = Bench()
        bench.trip()
        assert bench.cool(50, epoch=0).cooldown_ms == 50_000

    def test_growing_doubles_to_its_cap(self) -> None:
        """Each doubling cool-down that starts after the last has ended is twice as long, up to max_seconds."""
        bench = Bench()
        lengths = []
        for _ in range(6):
            lengths.append(bench.cool(5, max_seconds=60, doubling=True, reason="authentication").cooldown_ms)
            bench.later(lengths[-1] / 1000)
        assert lengths == [5000, 10_000, 20_000, 40_000, 60_000, 60_000]

    def test_doubling_starts_over_after_a_success(self) -> None:
        """A success starts the doubling again from the first length, as an ordinary call and as a probe."""
        bench = Bench()
        bench.cool(5, doubling=True, reason="authentication")
        bench.later(5).succeed()
        assert bench.cool(5, doubling=True, reason="authentication").cooldown_ms == 5000
        bench.trip()
        bench.later(30).ask("a")
        bench.succeed(lease="a")
        assert bench.cool(5, doubling=True, reason="authentication").cooldown_ms == 5000

    def test_a_hundred_at_once_grow_once(self) -> None:
        """A hundred doubling cool-downs of calls in flight together count as one."""
        bench = Bench()
        for _ in range(100):
            bench.cool(5, max_seconds=60, doubling=True, reason="authentication")
        assert bench.view().cooldown_ms == 5000
        assert bench.data.cooldown_count == 1

    def test_growing_over_another_reason_lengthens(self) -> None:
        """A doubling cool-down replaces a shorter one that is running for another reason."""
        bench = Bench()
        bench.cool(2)
        reply = bench.cool(300, max_seconds=3600, doubling=True, reason="quota_exhausted")
        assert (reply.cooldown_ms, reply.cooldown_reason) == (300_000, "quota_exhausted")

    def test_growing_of_an_older_epoch_is_ignored(self) -> None:
        """After a RESET, a doubling cool-down of an older epoch is ignored."""
        bench = Bench()
        bench.cool(300, max_seconds=3600, doubling=True, reason="quota_exhausted")
        bench.order(Operation.RESET)
        assert (
            bench.cool(300, max_seconds=3600, doubling=True, reason="quota_exhausted", epoch=0).cooldown_ms
            == 0
        )

    def test_nothing_is_written_for_no_time(self) -> None:
        """A cool-down of zero seconds leaves the data as it was."""
        bench = Bench()
        bench.cool(0)
        assert bench.data == CircuitData()


class TestClock:
    def test_a_clock_a_day_back_holds_nothing(self) -> None:
        """After the store's clock went back a day, every wait has the same time left as before, and that is saved."""
        bench = Bench()
        bench.trip()
        bench.cool(20)
        reply = bench.later(-86_400).view()
        assert (reply.wait_ms, reply.cooldown_ms) == (30_000, 20_000)
        assert (bench.later(10).view().wait_ms, bench.view().cooldown_ms) == (20_000, 10_000)
        assert bench.later(20).ask("a").granted is True

    def test_leases_and_windows_follow_the_clock_back(self) -> None:
        """After the clock went back, a lease still expires after its time, and counted results stay counted."""
        bench = Bench(probe_lease=10.0)
        bench.half_open("a")
        bench.later(-3600)
        assert bench.ask("b").granted is False
        assert bench.later(10).ask("b").granted is True
        other = Bench(consecutive_failures=5)
        other.fail(4)
        assert other.later(-3600).fail().state is OPEN

    def test_calm_follows_the_clock_back(self) -> None:
        """After the clock went back, a full closed window still resets the length of openings."""
        bench = Bench(window=60)
        bench.half_open("a")
        bench.succeed(lease="a")
        bench.later(59).succeed()
        bench.later(-3600).succeed()
        assert bench.later(1).trip().wait_ms == 30_000

    def test_overrides_follow_the_clock_back(self) -> None:
        """After the clock went back, a timed override lasts its time, and one without end stays without end."""
        bench = Bench()
        bench.order(Operation.OPEN, 60.0)
        assert bench.later(-1e9).view().wait_ms == 60_000
        assert bench.later(60).view().state is CLOSED
        bench.order(Operation.DISABLE)
        assert bench.later(-1000).view().wait_ms == -1

    def test_epochs_grow_on_a_clock_that_stands_or_goes_back(self) -> None:
        """No epoch is used twice, although the clock goes back after every order."""
        bench = Bench()
        epochs = [bench.data.epoch]
        for turn in range(6):
            bench.order(Operation.OPEN if turn % 2 else Operation.DISABLE)
            bench.later(-100)
            epochs.append(bench.data.epoch)
        assert epochs == sorted(set(epochs))
        assert epochs[1] == START


def test_the_given_data_is_left_alone() -> None:
    """A step works on a copy, and returns equal data when nothing has to be written."""
    before = CircuitData()
    after, _ = step(
        before,
        START,
        StepRequest(client="A", policy=BreakerPolicy(), batches=(Batch(0, ((Outcome.FAILURE, 9),)),)),
    )
    assert before == CircuitData()
    assert after != before
    same, _ = step(after, START + 5, StepRequest(client="A", policy=BreakerPolicy()))
    assert same == after


def test_a_step_without_a_policy_returns_the_state() -> None:
    """A step without a policy returns the state, and the sums of the default window."""
    bench = Bench()
    bench.fail(3)
    assert (bench.step(policy=None).failures, bench.step(policy=None).state) == (3, CLOSED)


def test_observe_counts_and_never_judges() -> None:
    """`observe` counts the results of the circuit's epoch, and never opens it."""
    request = StepRequest(
        client="A",
        policy=BreakerPolicy(),
        batches=(Batch(0, ((Outcome.FAILURE, 50),)), Batch(7, ((Outcome.FAILURE, 1),))),
    )
    data = observe(CircuitData(), START, request)
    assert (data.state, sum(bucket.failures for bucket in data.buckets)) == (CLOSED, 50)
    opened = CircuitData(state=OPEN, state_until=START + 1000)
    assert observe(opened, START, request) == opened


def test_a_transition_without_a_reason_names_its_rule() -> None:
    """If no failure has a category, the reason of an opening is the rule that was violated."""
    assert Bench().fail(5, reason="").reason == "consecutive_failures"
