"""The circuit, state by state."""

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
        """N failures in a row open; N - 1 do not."""
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
        """Failures older than the window are in no row."""
        bench = Bench(consecutive_failures=3, window=10)
        bench.fail(2)
        bench.later(10)
        assert bench.fail().state is CLOSED
        assert (bench.view().failures, bench.view().streak) == (1, 1)

    def test_a_row_reaches_over_buckets(self) -> None:
        """A row is counted across the buckets of a window, back to the last success."""
        bench = Bench(consecutive_failures=4, window=10, min_calls=100)
        bench.tell((Outcome.FAILURE, 3), (Outcome.SUCCESS, 1), (Outcome.FAILURE, 1))
        bench.later(2).fail()
        assert bench.later(2).view().streak == 2
        bench.fail()
        assert bench.fail().state is OPEN

    def test_a_row_ends_at_a_success_in_a_later_bucket(self) -> None:
        """Failures behind a success are in no row, also when they lie in another bucket."""
        bench = Bench(consecutive_failures=4, window=10, min_calls=100)
        bench.fail(3)
        bench.later(2).succeed()
        assert bench.later(2).fail().streak == 1

    def test_half_the_calls_failing_opens_by_rate(self) -> None:
        """Alternating failures never make a row, and open by their share once there are enough calls."""
        bench = Bench(min_calls=10, failure_rate=0.5)
        for _ in range(4):
            bench.succeed()
            assert bench.fail().state is CLOSED
        bench.succeed()
        reply = bench.fail()
        assert (reply.state, reply.transitions[0].rule) == (OPEN, TransitionRule.FAILURE_RATE)

    def test_a_tenth_of_the_calls_failing_never_opens(self) -> None:
        """A share below the threshold does not open, however long it lasts."""
        bench = Bench()
        for _ in range(500):
            bench.tell((Outcome.FAILURE, 1), (Outcome.SUCCESS, 9))
            bench.later(0.5)
        assert {reply.state for reply in bench.replies} == {CLOSED}

    def test_a_rate_is_exact_at_its_threshold(self) -> None:
        """A share equal to the threshold opens, also where the threshold is no binary fraction."""
        bench = Bench(failure_rate=0.1, min_calls=30, consecutive_failures=100)
        bench.succeed(27)
        bench.fail(2)
        assert bench.fail().state is OPEN

    def test_a_success_may_open_when_it_makes_the_window_large_enough(self) -> None:
        """The rules are asked after every result: here the tenth call is a success and half have failed."""
        bench = Bench(consecutive_failures=100)
        bench.fail(5, reason="server_error")
        reply = bench.succeed(8)
        assert (reply.state, reply.reason, reply.late) == (OPEN, "server_error", 3)

    def test_slow_calls_open_only_where_they_are_judged(self) -> None:
        """Slow calls open by their share if the policy names a duration, and are plain successes if not."""
        judged, unjudged = Bench(slow_call_duration=5.0), Bench()
        for bench in (judged, unjudged):
            bench.tell((Outcome.SUCCESS, 2), (Outcome.SLOW_SUCCESS, 8))
        assert unjudged.view().state is CLOSED
        assert unjudged.view().slow == 8
        assert (judged.view().state, judged.view().reason) == (OPEN, "slow_call_rate")

    def test_slow_failures_count_as_both(self) -> None:
        """A slow failure is a failure and a slow call."""
        bench = Bench(slow_call_duration=5.0, consecutive_failures=100, failure_rate=1.0, min_calls=5)
        bench.succeed()
        reply = bench.tell((Outcome.SLOW_FAILURE, 4))
        assert reply.transitions[0].rule is TransitionRule.SLOW_RATE

    def test_ignored_results_change_nothing(self) -> None:
        """Cancellations neither count nor end a row, and cause no write."""
        bench = Bench()
        bench.fail(4)
        before = deepcopy(bench.data)
        reply = bench.tell((Outcome.IGNORED, 50))
        assert (reply.streak, reply.late) == (4, 0)
        assert bench.data == before

    def test_the_window_forgets_bucket_by_bucket(self) -> None:
        """What began a window ago is gone; what began later is still counted."""
        bench = Bench(window=10, consecutive_failures=100, min_calls=100)
        bench.fail(3)
        bench.later(5).fail(2)
        assert bench.later(4.999).view().failures == 5
        assert bench.later(0.001).view().failures == 2
        assert bench.later(5).view().failures == 0

    def test_a_full_window_keeps_ten_buckets(self) -> None:
        """However long results come in, the data stays small."""
        bench = Bench(window=10)
        for _ in range(100):
            bench.later(0.7).succeed()
        assert len(bench.data.buckets) == 10

    def test_thresholds_of_two_versions_share_one_window(self) -> None:
        """While a deploy rolls, versions with different windows and thresholds judge the same counts."""
        bench = Bench(window=60, consecutive_failures=5)
        strict = BreakerPolicy(window=30, consecutive_failures=3)
        bench.fail(2)
        bench.later(4)
        reply = bench.step(policy=strict, batches=(Batch(0, ((Outcome.FAILURE, 1),), "", "timeout"),))
        assert reply.state is OPEN

    def test_a_policy_of_today_cuts_an_opening_of_yesterday(self) -> None:
        """A shorter open_max takes effect on an open circuit, and is written down (purgatory keeps the first for ever)."""
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

    def test_does_nothing_at_its_end_until_someone_asks(self) -> None:
        """Looking at a lapsed opening does not move it."""
        bench = Bench()
        bench.trip()
        assert (bench.later(100).view().state, bench.view().wait_ms) == (OPEN, 0)

    def test_late_results_neither_lengthen_nor_close(self) -> None:
        """Results of the closed epoch that arrive while open change nothing and are reported as late."""
        bench = Bench()
        before = bench.data.epoch
        bench.trip()
        data = deepcopy(bench.data)
        assert bench.later(3).fail(7, epoch=before).late == 7
        assert bench.succeed(2, epoch=before).late == 2
        assert bench.data == data

    def test_nothing_of_one_half_open_reaches_into_the_next(self) -> None:
        """A failed episode leaves neither its successes nor its leases behind."""
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
        """Open gives no permits, so a result that claims its epoch changes nothing."""
        bench = Bench()
        bench.trip()
        data = deepcopy(bench.data)
        bench.fail(5)
        assert bench.data == data

    def test_the_rest_of_the_tripping_batch_is_late(self) -> None:
        """Results behind the tripping one, in its run and in later ones, do not count."""
        reply = Bench().tell((Outcome.FAILURE, 8), (Outcome.SUCCESS, 2))
        assert (reply.state, reply.late) == (OPEN, 5)

    def test_each_further_opening_is_longer_up_to_the_most(self) -> None:
        """Openings without a calm window between them double, and stop at open_max."""
        bench = Bench(open_for=30.0, open_growth=2.0, open_max=100.0)
        waits = [bench.trip().wait_ms]
        for turn in range(3):
            bench.later(waits[-1] / 1000).ask(f"t{turn}")
            waits.append(bench.fail(lease=f"t{turn}").wait_ms)
        assert waits == [30_000, 60_000, 100_000, 100_000]

    def test_a_trip_soon_after_closing_is_longer_too(self) -> None:
        """Growth goes on over a short recovery, and starts over after a calm window."""
        bench = Bench(window=60)
        bench.half_open()
        bench.succeed(lease="t1")
        assert bench.later(59).trip().wait_ms == 60_000
        bench.later(60).ask("t2")
        bench.succeed(lease="t2")
        assert bench.later(60).trip().wait_ms == 30_000

    @pytest.mark.parametrize(("jitter_sample", "expected"), [(0.0, 27_000), (0.5, 30_000), (1.0, 33_000)])
    def test_jitter_is_placed_by_the_sample(self, jitter_sample: float, expected: int) -> None:
        """The sample moves an opening within plus and minus the jitter."""
        assert BreakerPolicy(open_jitter=0.1).open_duration_ms(1, jitter_sample) == expected

    def test_openings_may_be_shorter_than_a_second(self) -> None:
        """Half a second is half a second (aiobreaker-redis makes 0 of it, and never opens)."""
        assert BreakerPolicy(open_for=0.5).open_duration_ms(1, 0.5) == 500

    def test_growth_beyond_all_numbers_is_still_the_most(self) -> None:
        """A circuit that re-opened a million times opens for open_max."""
        assert BreakerPolicy(open_growth=10.0).open_duration_ms(1_000_000, 0.5) == 300_000


class TestHalfOpen:
    def test_one_success_closes_with_an_empty_window(self) -> None:
        """By default one successful probe closes, and earlier failures are forgotten."""
        bench = Bench()
        bench.half_open()
        reply = bench.succeed(lease="t1")
        assert (reply.state, reply.failures, reply.streak, reply.reason) == (CLOSED, 0, 0, "")
        assert [(t.rule, t.reason) for t in reply.transitions] == [(TransitionRule.PROBE, "timeout")]
        assert bench.fail(4).state is CLOSED

    def test_a_failed_probe_opens_again(self) -> None:
        """One failed probe re-opens, longer, and names its own reason."""
        bench = Bench()
        bench.half_open()
        reply = bench.fail(lease="t1", reason="overloaded")
        assert (reply.state, reply.wait_ms, reply.reason) == (OPEN, 60_000, "overloaded")

    @pytest.mark.parametrize("allowed", [1, 3, 10])
    def test_lends_exactly_as_many_probes_as_allowed(self, allowed: int) -> None:
        """Of forty who ask in one episode exactly the allowed number get a lease, in failure and in success."""
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
        """With three places and three successes needed, a success does not make room for a fourth probe."""
        bench = Bench(half_open_probes=3, successes_to_close=3)
        bench.half_open("a")
        assert [bench.ask(token).granted for token in "bcd"] == [True, True, False]
        bench.succeed(lease="a")
        assert bench.ask("e").granted is False

    def test_one_place_and_three_successes_takes_three_probes_in_turn(self) -> None:
        """Fewer places than successes needed: the probes go one after the other and do close."""
        bench = Bench(half_open_probes=1, successes_to_close=3)
        bench.half_open("a")
        for token, following in zip("abc", "bcd", strict=True):
            assert bench.ask(following).granted is False
            bench.succeed(lease=token)
            if following != "d":
                assert bench.ask(following).granted is True
        assert bench.view().state is CLOSED

    def test_asking_twice_with_one_token_is_one_lease(self) -> None:
        """A repeated ask is granted again and takes no second place, nor more time."""
        bench = Bench(half_open_probes=2)
        bench.half_open("a")
        expiry = bench.data.leases
        assert bench.later(5).ask("a").granted is True
        assert bench.data.leases == expiry
        assert bench.ask("b").granted is True

    def test_ignored_gives_the_lease_back_at_once(self) -> None:
        """A cancelled probe frees its place without a verdict."""
        bench = Bench()
        bench.half_open("a")
        assert bench.ask("b").granted is False
        reply = bench.tell((Outcome.IGNORED, 1), lease="a")
        assert (reply.state, reply.late, reply.transitions) == (HALF_OPEN, 0, ())
        assert bench.ask("b").granted is True

    def test_a_lease_expires_by_itself(self) -> None:
        """A prober that was killed holds its place for the lease and not longer."""
        bench = Bench(probe_lease=10.0)
        bench.half_open("a")
        assert bench.later(9.999).ask("b").wait_ms == 1
        assert bench.later(0.001).ask("b").granted is True

    def test_those_who_are_refused_prolong_nothing(self) -> None:
        """A thousand refused asks write nothing, so they cannot keep a dead prober's lease alive."""
        bench = Bench(probe_lease=10.0)
        bench.half_open("a")
        data = deepcopy(bench.data)
        for turn in range(1000):
            bench.later(0.009).ask(f"r{turn}")
        assert bench.data == data
        assert bench.later(1.0).ask("b").granted is True

    def test_a_probe_slower_than_its_lease_still_closes(self) -> None:
        """Its lease has expired and gone to another, and yet its success counts: a slow client is not kept out."""
        bench = Bench(probe_lease=10.0)
        bench.half_open("a")
        assert bench.later(11).ask("b").granted is True
        assert bench.later(5).succeed(lease="a").state is CLOSED

    def test_few_expired_leases_are_remembered(self) -> None:
        """Probers that die for days leave bounded data."""
        bench = Bench(probe_lease=1.0)
        bench.half_open("first")
        for turn in range(100):
            assert bench.later(1).ask(str(turn)).granted is True
        assert len(bench.data.leases) <= 9
        assert bench.succeed(lease="first").late == 1

    def test_an_expired_token_may_ask_again(self) -> None:
        """The same token after its expiry takes a new lease, listed once."""
        bench = Bench(probe_lease=1.0)
        bench.half_open("a")
        assert bench.later(2).ask("a").granted is True
        assert [lease.token for lease in bench.data.leases] == ["a"]

    @pytest.mark.parametrize("token", ["", "other", "a"])
    def test_results_without_a_lease_are_late(self, token: str) -> None:
        """An ordinary result, an unknown token and a token told twice change nothing in half-open."""
        bench = Bench(half_open_probes=2, successes_to_close=2)
        bench.half_open("a")
        bench.succeed(lease="a")
        data = deepcopy(bench.data)
        reply = bench.succeed(lease=token)
        assert bench.data == data
        assert reply.state is HALF_OPEN
        assert reply.late == bool(token)

    def test_a_slow_probe_opens_again_where_slow_calls_are_judged(self) -> None:
        """The circuit that opened because calls were slow does not close on a slow probe; elsewhere slow is a success."""
        for duration, expected in ((5.0, OPEN), (None, CLOSED)):
            bench = Bench(slow_call_duration=duration)
            bench.half_open("a")
            assert bench.tell((Outcome.SLOW_SUCCESS, 1), lease="a").state is expected

    def test_a_cooling_circuit_lends_no_probe(self) -> None:
        """A cool-down holds probes back, and the reply says how long."""
        bench = Bench()
        bench.trip()
        bench.cool(50)
        reply = bench.later(40).ask("a")
        assert (reply.state, reply.granted, reply.wait_ms, reply.cooldown_ms) == (OPEN, False, 0, 10_000)
        assert bench.later(10).ask("a").granted is True

    def test_fewer_successes_asked_for_today_close_a_half_open_of_yesterday(self) -> None:
        """A deploy that asks for as many successes as there have been closes; otherwise no probe would ever go out again."""
        bench = Bench(half_open_probes=3, successes_to_close=3)
        bench.half_open("a")
        bench.succeed(lease="a")
        bench.policy = BreakerPolicy(successes_to_close=1)
        assert bench.view().state is CLOSED

    def test_a_shorter_lease_of_today_cuts_a_lease_of_yesterday(self) -> None:
        """A deploy with a shorter probe_lease frees the place of a lease that was granted for longer."""
        bench = Bench(probe_lease=600.0)
        bench.half_open("a")
        bench.policy = BreakerPolicy(probe_lease=5.0)
        bench.view()
        assert bench.later(5).ask("b").granted is True


class TestOverrides:
    def test_forced_open_refuses_until_told_otherwise(self) -> None:
        """An override without end refuses probes for ever, and names who and why."""
        bench = Bench()
        reply = bench.order(Operation.OPEN)
        assert (reply.state, reply.wait_ms, reply.actor, reply.reason) == (FORCED_OPEN, -1, "ann", "bill")
        assert bench.later(1e6).ask("a").granted is False
        assert bench.order(Operation.CLOSE).state is CLOSED

    def test_disabled_counts_nothing(self) -> None:
        """A disabled circuit admits, and no failures open it."""
        bench = Bench()
        bench.order(Operation.DISABLE)
        reply = bench.fail(500)
        assert (reply.state, reply.failures, reply.late) == (DISABLED, 0, 0)

    @pytest.mark.parametrize("operation", [Operation.OPEN, Operation.DISABLE])
    def test_a_timed_override_lapses_to_closed(self, operation: Operation) -> None:
        """At its end the circuit is closed in a new epoch, with a transition that says so."""
        bench = Bench()
        epoch = bench.order(operation, 60.0).epoch
        assert bench.later(59.999).view().wait_ms == 1
        reply = bench.later(0.001).view()
        assert (reply.state, reply.actor, reply.reason) == (CLOSED, "", "")
        assert reply.epoch > epoch
        assert reply.transitions[0].rule is TransitionRule.LAPSED

    def test_close_ends_an_opening_and_a_cool_down(self) -> None:
        """Close means: ask the client again now."""
        bench = Bench()
        bench.trip()
        bench.cool(100)
        reply = bench.order(Operation.CLOSE)
        assert (reply.state, reply.cooldown_ms) == (CLOSED, 0)
        assert (reply.transitions[0].actor, reply.transitions[0].rule) == ("ann", TransitionRule.OPERATOR)

    def test_close_of_a_closed_circuit_is_no_transition(self) -> None:
        """Nothing to end: nothing is written."""
        bench = Bench()
        assert bench.order(Operation.CLOSE).epoch == START
        bench.fail(2)
        data = deepcopy(bench.data)
        assert bench.order(Operation.CLOSE).transitions == ()
        assert bench.data == data

    def test_reset_forgets_growth_where_close_does_not(self) -> None:
        """After close the next opening is longer, after reset it is the first again."""
        for operation, expected in ((Operation.CLOSE, 60_000), (Operation.RESET, 30_000)):
            bench = Bench()
            bench.trip()
            bench.order(operation)
            assert bench.trip().wait_ms == expected

    def test_reset_empties_the_window_of_a_closed_circuit(self) -> None:
        """Reset is a transition wherever there is something to forget, and none where there is not."""
        bench = Bench()
        bench.order(Operation.CLOSE)
        assert bench.order(Operation.RESET).transitions == ()
        bench.fail(4)
        assert len(bench.order(Operation.RESET).transitions) == 1
        assert bench.view().failures == 0

    def test_results_from_before_an_order_are_late(self) -> None:
        """An order begins an epoch, so calls under way do not count after it."""
        bench = Bench()
        epoch = bench.data.epoch
        bench.order(Operation.DISABLE)
        bench.order(Operation.CLOSE)
        assert bench.fail(5, epoch=epoch).late == 5
        assert bench.view().state is CLOSED

    def test_an_order_needs_no_policy(self) -> None:
        """A command-line tool that knows no thresholds can order."""
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
        """A circuit without memory takes over state and what is left of its time, once."""
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
        """A store that came back with an old snapshot of a circuit takes over what was seen since, once, even with its clock set back."""
        bench = Bench()
        bench.order(Operation.DISABLE if state is FORCED_OPEN else Operation.OPEN)
        seen = bench.data.epoch + 5000
        reply = bench.order(Operation.RESTORE, 60.0, state=state, epoch=seen)
        assert (reply.state, reply.transitions[0].rule) == (state, TransitionRule.RESTORED)
        assert reply.wait_ms == reply.transitions[0].wait_ms == (0 if state is CLOSED else 60_000)
        assert reply.epoch > seen
        assert bench.order(Operation.RESTORE, 99.0, state=OPEN, epoch=seen).transitions == ()

    def test_restore_leaves_a_circuit_with_memory_alone(self) -> None:
        """A circuit of a later epoch is not overruled."""
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
        """A closed circuit needs no closing, and the leases of a lost circuit are unknown to the new one."""
        bench = Bench()
        if not forgets:
            bench.trip()
            bench.order(Operation.CLOSE)
        order = bench.order(Operation.RESTORE, 30.0, state=state, epoch=bench.now + 1)
        assert (order.state, order.transitions) == (CLOSED, ())


class TestCooldown:
    def test_only_grows(self) -> None:
        """A shorter cool-down does not shorten one that runs; a longer one lengthens it."""
        bench = Bench()
        assert bench.cool(10).cooldown_ms == 10_000
        assert bench.cool(3, reason="overloaded").cooldown_reason == "rate_limit"
        assert (bench.cool(20).cooldown_ms, bench.later(5).view().cooldown_ms) == (20_000, 15_000)

    def test_is_capped(self) -> None:
        """No stated delay blocks for longer than the cap."""
        assert Bench().cool(86_400, max_seconds=300).cooldown_ms == 300_000

    def test_ends_and_names_nothing_any_more(self) -> None:
        """After its end the reply names no cause."""
        bench = Bench()
        bench.cool(10)
        assert (bench.later(10).view().cooldown_ms, bench.view().cooldown_reason) == (0, "")

    def test_stands_beside_the_state(self) -> None:
        """A cool-down begins no epoch and survives a trip."""
        bench = Bench()
        epoch = bench.data.epoch
        bench.cool(100)
        assert (bench.data.epoch, bench.view().state) == (epoch, CLOSED)
        assert bench.trip().cooldown_ms == 100_000

    def test_a_stated_one_holds_from_any_epoch(self) -> None:
        """What the provider said in answer to an old call is still true."""
        bench = Bench()
        bench.trip()
        assert bench.cool(50, epoch=0).cooldown_ms == 50_000

    def test_growing_doubles_to_its_cap(self) -> None:
        """Each growing cool-down after the end of the last is twice as long, to the cap."""
        bench = Bench()
        lengths = []
        for _ in range(6):
            lengths.append(bench.cool(5, max_seconds=60, doubling=True, reason="authentication").cooldown_ms)
            bench.later(lengths[-1] / 1000)
        assert lengths == [5000, 10_000, 20_000, 40_000, 60_000, 60_000]

    def test_doubling_starts_over_after_a_success(self) -> None:
        """One counted success forgets the growth, in closed and as a probe."""
        bench = Bench()
        bench.cool(5, doubling=True, reason="authentication")
        bench.later(5).succeed()
        assert bench.cool(5, doubling=True, reason="authentication").cooldown_ms == 5000
        bench.trip()
        bench.later(30).ask("a")
        bench.succeed(lease="a")
        assert bench.cool(5, doubling=True, reason="authentication").cooldown_ms == 5000

    def test_a_hundred_at_once_grow_once(self) -> None:
        """Calls that were under way together and all came back refused count as one."""
        bench = Bench()
        for _ in range(100):
            bench.cool(5, max_seconds=60, doubling=True, reason="authentication")
        assert bench.view().cooldown_ms == 5000
        assert bench.data.cooldown_count == 1

    def test_growing_over_another_reason_lengthens(self) -> None:
        """A billing cool-down is not held back by a short rate limit that runs."""
        bench = Bench()
        bench.cool(2)
        reply = bench.cool(300, max_seconds=3600, doubling=True, reason="quota_exhausted")
        assert (reply.cooldown_ms, reply.cooldown_reason) == (300_000, "quota_exhausted")

    def test_growing_of_an_older_epoch_is_ignored(self) -> None:
        """After an operator's reset, refusals of calls from before do not block again."""
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
        """When the store's clock went back, what was left of each wait is what is left, and that is written down."""
        bench = Bench()
        bench.trip()
        bench.cool(20)
        reply = bench.later(-86_400).view()
        assert (reply.wait_ms, reply.cooldown_ms) == (30_000, 20_000)
        assert (bench.later(10).view().wait_ms, bench.view().cooldown_ms) == (20_000, 10_000)
        assert bench.later(20).ask("a").granted is True

    def test_leases_and_windows_follow_the_clock_back(self) -> None:
        """A lease does not outlive its time, and counted results stay counted."""
        bench = Bench(probe_lease=10.0)
        bench.half_open("a")
        bench.later(-3600)
        assert bench.ask("b").granted is False
        assert bench.later(10).ask("b").granted is True
        other = Bench(consecutive_failures=5)
        other.fail(4)
        assert other.later(-3600).fail().state is OPEN

    def test_calm_follows_the_clock_back(self) -> None:
        """After the clock went back a circuit that has been closed for a window still counts as calm."""
        bench = Bench(window=60)
        bench.half_open("a")
        bench.succeed(lease="a")
        bench.later(59).succeed()
        bench.later(-3600).succeed()
        assert bench.later(1).trip().wait_ms == 30_000

    def test_overrides_follow_the_clock_back(self) -> None:
        """A timed override lasts its time; one without end stays without end."""
        bench = Bench()
        bench.order(Operation.OPEN, 60.0)
        assert bench.later(-1e9).view().wait_ms == 60_000
        assert bench.later(60).view().state is CLOSED
        bench.order(Operation.DISABLE)
        assert bench.later(-1000).view().wait_ms == -1

    def test_epochs_grow_on_a_clock_that_stands_or_goes_back(self) -> None:
        """An epoch is never used twice."""
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


def test_a_look_without_a_policy_tells_the_state() -> None:
    """Status needs no thresholds: a look adds up the usual window."""
    bench = Bench()
    bench.fail(3)
    assert (bench.step(policy=None).failures, bench.step(policy=None).state) == (3, CLOSED)


def test_witnessing_counts_and_never_judges() -> None:
    """A process's own circuit follows the results of its epoch without opening."""
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
    """A trip whose failures carried no category is still explained."""
    assert Bench().fail(5, reason="").reason == "consecutive_failures"
