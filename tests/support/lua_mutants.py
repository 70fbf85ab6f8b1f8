"""Bugs planted in `step.lua`, one at a time, and the check that catches each: `python tests/support/lua_mutants.py`.

A mutant that survives is a bug that the tests would miss; the exit code is then 1. A mutant is a text of the script and what replaces it:
a changed line of the script needs its mutants changed too.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # run as a script, and in its child processes, this must find `support`

from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test
from redis.exceptions import ResponseError

from resilience.breaker import BreakerPolicy
from resilience.breaker.messages import StepReply, StepRequest
from resilience.breaker.stores.redis import SCRIPT, RedisStore
from resilience.breaker.stores.redis_connection import RedisConnection, connect
from resilience.breaker.stores.redis_url import parse
from support.lua_twin import SERVER_TIME, TwinMachine, a_ramp_follows_the_clock, planted_times_are_damage
from support.valkey_servers import Valkey

MUTANTS = {
    "rounds half up": ("(rest == 0.5 and below % 2 == 1)", "rest == 0.5"),
    "does not round": ("return below + 1", "return below"),
    "writes numbers as Lua does": ("return string.format('%.0f', number)", "return tostring(number)"),
    "reads numbers that are none": ("text and string.find(text, '^%-?%d+$') and tonumber(text)", "text and tonumber(text)"),
    "knows no states": ("return STATES[text] and text or nil", "return text"),
    "keeps half of the leases it cannot read": ("if not whole(expiry) then\n      return nil", "if not whole(expiry) then\n      return leases"),
    "keeps half of the buckets it cannot read": ("bucket.streak) then\n      return nil", "bucket.streak) then\n      return buckets"),
    "reads texts of any length": ("#text <= LONGEST_TEXT and text or nil", "text"),
    "reads negative numbers": ("return number and number >= 0 and number or nil", "return number"),
    "counts no unreadable fields": ("unreadable = unreadable + (data[field] == nil and 1 or 0)", "unreadable = unreadable"),
    "never damaged": ("damaged = is_damaged() and 1 or 0", "damaged = 0"),
    "damaged a millisecond early": ("draft.budget_used_at) > now + DAY", "draft.budget_used_at) >= now + DAY"),
    "an opening is no damage": ("and draft.state_until - policy.longest_open or 0", "and 0 or 0"),
    "a long opening is damage": ("and draft.state_until - policy.longest_open or 0", "and draft.state_until or 0"),
    "a cool-down is no damage": ("draft.cooldown_until - policy.longest_cooldown, draft.closed_at", "draft.closed_at"),
    "a closing is no damage": ("policy.longest_cooldown, draft.closed_at, draft.ramp_at)", "policy.longest_cooldown, draft.ramp_at)"),
    "a ramp is no damage": ("policy.longest_cooldown, draft.closed_at, draft.ramp_at)", "policy.longest_cooldown, draft.closed_at)"),
    "a budget is no damage": ("math.max(latest, draft.budget_used_at) > now + DAY", "latest > now + DAY"),
    "keeps any number of leases": ("  draft.leases = last(draft.leases, REMEMBERED + policy.half_open_probes)\n", ""),
    "keeps any number of buckets": ("draft.buckets = last(buckets, BUCKETS)", "draft.buckets = buckets"),
    "keeps the first of too many": ("for place = math.max(1, #list - count + 1), #list do", "for place = 1, math.min(#list, count) do"),
    "window edge": ("bucket.start <= now - policy.window", "bucket.start < now - policy.window"),
    "streak over successes": ("if sums.successes == 0 then", "if true then"),
    "streak outlives a success": ("streak = failed and sums.streak + count or 0", "streak = failed and sums.streak + count or sums.streak"),
    "slow failures are not slow": ("local SLOW = {l = true, g = true}", "local SLOW = {l = true}"),
    "slow failures are no failures": ("local FAILURES = {f = true, g = true}", "local FAILURES = {f = true}"),
    "consecutive, one late": ("sums.streak >= policy.consecutive_failures", "sums.streak > policy.consecutive_failures"),
    "min_calls, one late": ("calls < policy.min_calls", "calls <= policy.min_calls"),
    "failure rate, strictly": ("calls >= policy.failure_rate", "calls > policy.failure_rate"),
    "slow rate, strictly": ("calls >= policy.slow_call_rate", "calls > policy.slow_call_rate"),
    "judges a run only at its end": ("if violated_rule(plus(sums, outcome, judged)) then", "if false then"),
    "a run trips at its end": ("local violation = first_violation(sum_buckets(), outcome, count)", "local violation = first_violation(sum_buckets(), outcome, count) > 0 and count or 0"),
    "epoch stands still": ("math.max(draft.epoch + 1, now)", "math.max(draft.epoch, now)"),
    "epoch forgets the clock": ("math.max(draft.epoch + 1, now)", "draft.epoch + 1"),
    "leases survive a move": ("draft.leases, draft.buckets, draft.successes = {}, {}, 0", "draft.buckets, draft.successes = {}, 0"),
    "the window survives a move": ("draft.leases, draft.buckets, draft.successes = {}, {}, 0", "draft.leases, draft.successes = {}, 0"),
    "probes' successes survive a move": ("draft.leases, draft.buckets, draft.successes = {}, {}, 0", "draft.leases, draft.buckets = {}, {}"),
    "closed keeps its reason": ("draft.reason = state == 'closed' and '' or reason", "draft.reason = reason"),
    "one growth too many": ("policy.open_growth ^ math.min(open_count - 1, MAX_EXPONENT)", "policy.open_growth ^ math.min(open_count, MAX_EXPONENT)"),
    "no cap on openings": ("math.min(policy.open_max, policy.open_for *", "math.max(0, policy.open_for *"),
    "jitter one-sided": ("(2 * request.jitter_sample - 1)", "request.jitter_sample"),
    "never calm": ("local open_count = calm and 1 or draft.open_count + 1", "local open_count = draft.open_count + 1"),
    "calm in half-open too": ("draft.state == 'closed' and now - draft.closed_at >= policy.window", "now - draft.closed_at >= policy.window"),
    "recovery has no date": ("  move('closed', 'probe', draft.reason, '', 0)\n  draft.closed_at = now", "  move('closed', 'probe', draft.reason, '', 0)"),
    "cuts no openings": ("draft.state_until = math.min(draft.state_until, now + policy.longest_open)", "draft.state_until = draft.state_until"),
    "cuts no leases": ("lease.expiry = math.min(lease.expiry, now + policy.probe_lease)", "lease.expiry = lease.expiry"),
    "a deploy does not close": ("if draft.state == 'half_open' and draft.successes >= policy.successes_to_close then", "if false then"),
    "does not follow the clock back": ("if jump <= 0 then", "if true then"),
    "follows the clock with an override without end": ("draft.state_until ~= 0 and math.max(1, draft.state_until - jump) or 0", "math.max(1, draft.state_until - jump)"),
    "overrides never lapse": ("OVERRIDES[draft.state] and 0 < draft.state_until and draft.state_until <= now", "false"),
    "override lapses one late": ("0 < draft.state_until and draft.state_until <= now", "0 < draft.state_until and draft.state_until < now"),
    "restores over a memory": ("if draft.epoch >= epoch or epoch", "if epoch"),
    "restores over an order": ("or ordered or state", "or state"),
    "no order is restored over": ("and draft.born_at ~= born_at\n", "\n"),
    "restores a planted epoch": ("or epoch >= LARGEST or", "or"),
    "a restoration is an order": ("if operation ~= 'restore' then", "if true then"),
    "every transition is a birth": ("draft.epoch ~= 0 and draft.born_at or now", "now"),
    "restores over a memory as old": ("if draft.epoch >= epoch or", "if draft.epoch > epoch or"),
    "restores half-open": ("or state == 'half_open' or already_closed then", "or already_closed then"),
    "restores what is closed anyway": ("or state == 'half_open' or already_closed then", "or state == 'half_open' then"),
    "restores into an old epoch": ("  draft.epoch = epoch\n", ""),
    "a restored closed circuit has an end": ("state == 'closed' and 0 or wait)", "wait)"),
    "a restored opening is no opening": ("draft.open_count = state == 'open' and 1 or 0", "draft.open_count = 0"),
    "close leaves the cool-down": ("draft.cooldown_until, draft.cooldown_reason = 0, ''", "draft.cooldown_reason = ''"),
    "close gives no memory": ("if idle and draft.epoch ~= 0 then", "if idle then"),
    "reset forgets nothing": ("draft.open_count, draft.cooldown_count, draft.closed_at = 0, 0, 0", "draft.cooldown_count, draft.closed_at = 0, 0"),
    "probes during a cool-down": ("if not token or draft.cooldown_until > now then", "if not token then"),
    "probes before the end": ("draft.state == 'open' and draft.state_until <= now", "draft.state == 'open'"),
    "probe one late": ("draft.state == 'open' and draft.state_until <= now", "draft.state == 'open' and draft.state_until < now"),
    "one probe too many": ("return count < policy.half_open_probes and", "return count <= policy.half_open_probes and"),
    "more probes than closing needs": ("and count + draft.successes < needed", ""),
    "same token, second lease": ("      if lease.token == token then\n        return 1\n      end\n", ""),
    "an expired lease holds its place": ("if lease.expiry > now then\n      if lease.token", "if true then\n      if lease.token"),
    "remembers one lease more": ("local REMEMBERED = 8", "local REMEMBERED = 9"),
    "lease of another length": ("expiry = now + policy.probe_lease}", "expiry = now + policy.probe_lease + 1}"),
    "eleven buckets": ("local BUCKETS = 10", "local BUCKETS = 11"),
    "bucket one late": ("start + width <= now", "start + width < now"),
    "counts behind the trip": ("violation > 0 and violation or count, reason", "count, reason"),
    "does not report late results": ("return count - violation", "return 0"),
    "a probe without a lease counts": ("if #others == #draft.leases then", "if false then"),
    "slow probes close": ("elseif outcome == 'l' and policy.slow_call_rate >= 0 then", "elseif false then"),
    "ignored probes close": ("elseif outcome ~= 'i' then\n    draft.cooldown_count", "else\n    draft.cooldown_count"),
    "closes one probe late": ("    if draft.successes >= policy.successes_to_close then", "    if draft.successes > policy.successes_to_close then"),
    "late results count": ("if epoch ~= draft.epoch then\n      late", "if false then\n      late"),
    "disabled counts": ("elseif draft.state == 'closed' and outcome ~= 'i' then", "elseif outcome ~= 'i' then"),
    "ignored counts": ("elseif draft.state == 'closed' and outcome ~= 'i' then", "elseif draft.state == 'closed' then"),
    "cool-down doubles while it runs": ("(running or epoch ~= draft.epoch)", "(epoch ~= draft.epoch)"),
    "old estimates double the cool-down": ("(running or epoch ~= draft.epoch)", "(running)"),
    "cool-down never grows": ("^ math.min(level, MAX_EXPONENT)", "^ 0"),
    "stated waits double": ("(doubling == 1 and 2 or policy.open_growth)", "2"),
    "those in flight count as repetitions": ("doubling == 1 or not (running or nothing_admitted)", "doubling == 1 or not running"),
    "growth outlives its reason": ("same and draft.cooldown_count or 0", "draft.cooldown_count"),
    "no time counts": ("  if until_ms <= now then\n    return\n  end\n", ""),
    "cool-downs have no cap": ("math.min(seconds, max_seconds))", "seconds)"),
    "cool-downs shrink": ("if until_ms > draft.cooldown_until then", "if true then"),
    "a cool-down has no ramp": ("draft.cooldown_until, draft.cooldown_reason = until_ms, reason\n    begin_ramp(AFTER_COOLDOWN)", "draft.cooldown_until, draft.cooldown_reason = until_ms, reason"),
    "a closing has no ramp": ("    begin_ramp(AFTER_CLOSING)\n    draft.ramp_at = now\n", ""),
    "a closing waits for its ramp": ("    draft.ramp_at = now\n  end\nend", "  end\nend"),
    "a closing forgets the cool-down": ("if draft.cooldown_until <= now then", "if true then"),
    "a move forgets the ramp": ("begin_ramp(draft.cooldown_until > now and AFTER_COOLDOWN or 0)", "begin_ramp(0)"),
    "the ramp rises by twos": ("draft.ramp_first * 2 ^ step", "draft.ramp_first * 2 * step"),
    "a step is never used up": ("draft.ramp_used = draft.ramp_used + admitted", "draft.ramp_used = draft.ramp_used"),
    "a step inherits what was used": ("draft.ramp_step, draft.ramp_used = step, 0", "draft.ramp_step = step"),
    "the ramp has no end": ("if draft.ramp_at ~= 0 and now - draft.ramp_at >= STEPS * STEP_MS then", "if false then"),
    "the ramp admits during a cool-down": ("draft.state ~= 'closed' or draft.cooldown_until > now then", "draft.state ~= 'closed' then"),
    "the ramp admits in any state": ("draft.ramp_first == 0 or draft.state ~= 'closed' or", "draft.ramp_first == 0 or"),
    "the ramp does not follow the clock": ("draft.ramp_at = math.max(0, draft.ramp_at - jump)", "draft.ramp_at = draft.ramp_at"),
    "a ramp that has not begun waits": ("STEP_MS - elapsed % STEP_MS or -1", "STEP_MS - elapsed % STEP_MS or 0"),
    "an operator's close has a ramp": ("draft.cooldown_until, draft.cooldown_reason = 0, ''\n  begin_ramp(0)", "draft.cooldown_until, draft.cooldown_reason = 0, ''"),
    "refused requests are failures": ("if outcome == 'r' then\n    draft.rejected = draft.rejected + count", "if false then\n    draft.rejected = draft.rejected + count"),
    "a refused probe closes": ("elseif outcome == 'r' then\n    draft.rejected = draft.rejected + 1\n", ""),
    "the row outlives a success": ("    draft.cooldown_count = 0\n    end_row()\n  elseif reason", "    draft.cooldown_count = 0\n  elseif reason"),
    "the row outlives a probe": ("    end_row()\n    draft.successes", "    draft.successes"),
    "the row outlives a move": ("  end_row()\n  begin_ramp(draft", "  begin_ramp(draft"),
    "kinds are added": ("math.max(draft.rejected_functions, functions)", "draft.rejected_functions + functions"),
    "kinds without a row": ("if draft.rejected > 0 then", "if true then"),
    "cuts no cool-downs": ("draft.cooldown_until = math.min(draft.cooldown_until, now + policy.longest_cooldown)", "draft.cooldown_until = draft.cooldown_until"),
    "cuts no deficits": ("draft.budget_used = math.min(draft.budget_used, policy.largest_deficit)", "draft.budget_used = draft.budget_used"),
    "keeps buckets of the future": ("if bucket.start <= now then", "if true then"),
    "cuts no ramps": ("draft.ramp_first = math.min(draft.ramp_first, AFTER_CLOSING)", "draft.ramp_first = draft.ramp_first"),
    "reads numbers of any size": ("value and math.abs(value) <= LARGEST and value or nil", "value or nil"),
    "half-open reports no wait": ("count > 0 and not has_free_lease(count) and soonest - now or 0", "0"),
    "an override without end ends": ("    return -1\n", "    return 0\n"),
    "an override without end is forgotten": ("    redis.call('PERSIST', KEYS[1])\n", ""),
    "expires with the opening": ("digits(last - now + 3 * policy.window + KEEP)", "digits(last - now + KEEP)"),
    "expires before the opening": ("math.max(now, draft.state_until, draft.cooldown_until)", "now"),
    "expires before the lease": ("    last = math.max(last, lease.expiry)\n", ""),
    "the log never expires": ("  redis.call('PEXPIRE', KEYS[2], KEEP_LOG)\n", ""),
    "the log is not capped": ("{KEYS[2], 'MAXLEN', ARGV[3], '*'}", "{KEYS[2], '*'}"),
    "logs what was only looked at": ("if request.mode ~= 'look' then\n  written", "if true then\n  written"),
    "writes when nothing changed": ("  if not changed then\n    return false\n  end\n", ""),
    "leaves what became a default": ("    redis.call('HDEL', unpack(unset))\n", ""),
    "does not report a new hash": ("written and 1 - exists or 0", "0"),
    "orders need thresholds": ("if request.order then", "if request.order and request.mode == 'step' then"),
    "retries are free": ("+ retries * (UNITS_PER_RETRY + policy.deposit)", ""),
    "retries earn": ("retries * (UNITS_PER_RETRY + policy.deposit)", "retries * UNITS_PER_RETRY"),
    "a retry of another size": ("local UNITS_PER_RETRY = 60000", "local UNITS_PER_RETRY = 50000"),
    "first tries earn nothing": ("budget_used() - attempts * policy.deposit", "budget_used()"),
    "the bucket overflows": ("math.max(0, budget_used() - attempts * policy.deposit) + retries * (UNITS_PER_RETRY + policy.deposit)", "budget_used() - attempts * policy.deposit + retries * (UNITS_PER_RETRY + policy.deposit)"),
    "takes out before it pays in": ("math.max(0, budget_used() - attempts * policy.deposit) + retries * (UNITS_PER_RETRY + policy.deposit)", "math.max(0, budget_used() - attempts * policy.deposit + retries * (UNITS_PER_RETRY + policy.deposit))"),
    "the bucket never fills by itself": ("policy.retry_floor * math.max(0, now - draft.budget_used_at)", "0"),
    "fills beyond the brim": ("return math.max(0, draft.budget_used - policy.retry_floor", "return (draft.budget_used - policy.retry_floor"),
    "refills from the first retry on": ("draft.budget_used_at = draft.budget_used > 0 and now or 0", "draft.budget_used_at = draft.budget_used > 0 and (draft.budget_used_at > 0 and draft.budget_used_at or now) or 0"),
    "a full bucket has a date": ("draft.budget_used_at = draft.budget_used > 0 and now or 0", "draft.budget_used_at = now"),
    "a future date empties the bucket": ("math.max(0, now - draft.budget_used_at)", "(now - draft.budget_used_at)"),
    "the bucket does not follow the clock": ("draft.budget_used_at = math.max(0, draft.budget_used_at - jump)", "draft.budget_used_at = draft.budget_used_at"),
    "spends without a budget": ("attempts + retries > 0 and policy.deposit >= 0", "attempts + retries > 0"),
    "only retries are counted": ("attempts + retries > 0 and policy.deposit >= 0", "retries > 0 and policy.deposit >= 0"),
    "spends when nothing was reported": ("attempts + retries > 0 and policy.deposit >= 0", "policy.deposit >= 0"),
    "spends while it only reads": ("if request.mode == 'step' then\n  cut_to_policy()", "update_budget(request.attempts or 0, request.retries or 0)\nif request.mode == 'step' then\n  cut_to_policy()"),
    "a move fills the bucket": ("draft.leases, draft.buckets, draft.successes = {}, {}, 0", "draft.leases, draft.buckets, draft.successes, draft.budget_used = {}, {}, 0, 0"),
    "reports the budget of the last change": ("written and 1 - exists or 0, budget_used(),", "written and 1 - exists or 0, draft.budget_used,"),
    "seconds for milliseconds": ("tonumber(clock[1]) * 1000", "tonumber(clock[1])"),
    "no milliseconds": ("math.floor(tonumber(clock[2]) / 1000)", "0"),
}  # fmt: skip

LONG_TIMEOUTS = "?socket_timeout=10&socket_connect_timeout=10"  # a timeout on a busy machine must not look like a caught bug


def machine(connection: RedisConnection, script: str) -> None:
    """Run step.lua and circuit.py side by side (`lua_twin.TwinMachine`)."""
    planted = type("Planted", (TwinMachine,), {"connection": connection, "script": script})
    run_state_machine_as_test(
        planted,
        settings=settings(
            max_examples=300,
            stateful_step_count=50,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # any counterexample will do, so none is shortened
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def server_time(connection: RedisConnection, script: str) -> None:
    """Check that the time in a reply lies between two readings of the server's clock."""
    server, store = connection.server_for(""), Mutated(connection, script)
    for _ in range(5):
        before = milliseconds(server)
        (reply,) = store.step([StepRequest(client="A", policy=BreakerPolicy())])
        assert isinstance(reply, StepReply), reply
        assert before <= reply.now_ms <= milliseconds(server)
        time.sleep(0.003)


def scenes(connection: RedisConnection, script: str) -> None:
    """Play what the machine seldom meets."""
    planted_times_are_damage(connection, script)
    a_ramp_follows_the_clock(connection, script)


def milliseconds(server: Any) -> int:
    """Return the server's time in milliseconds."""
    seconds, micros = server.time()
    return int(1000 * seconds + micros // 1000)


CHECKS: list[Callable[[RedisConnection, str], None]] = [server_time, scenes, machine]


class Mutated(RedisStore):
    """A store that runs another script, at the server's own time."""

    def __init__(self, connection: RedisConnection, script: str) -> None:
        super().__init__(parse("redis://unused"))
        self._script, self._fixed = script, connection
        self._sha = connection.server_for("").script_load(script)

    def _connect(self) -> RedisConnection:
        return self._fixed

    def disconnect(self) -> None:
        """Do nothing: the connection is shared."""


def mutate(name: str) -> str:
    """Return the script with one bug in it.

    Raises:
        ValueError: the text to replace is not in the script, or more than once.
    """
    old, new = MUTANTS[name]
    if SCRIPT.count(old) != 1 or SERVER_TIME not in SCRIPT:
        msg = f"{name}: its text occurs {SCRIPT.count(old)} times in step.lua"
        raise ValueError(msg)
    return SCRIPT.replace(old, new)


def catcher(connection: RedisConnection, script: str) -> str:
    """Return the name of the first check that fails on a script; empty if none does."""
    for check in CHECKS:
        if check is not server_time and SERVER_TIME not in script:
            continue  # this mutant changes the clock, which the others would replace
        try:
            check(connection, script)
        except Flaky:
            return catcher(connection, script)  # a difference that Hypothesis could not repeat proves nothing
        except (AssertionError, ResponseError, ExceptionGroup, KeyError, ValueError):
            return check.__name__
    return ""


def attempt(name: str) -> tuple[str, float]:
    """Run the checks on a mutant, with a server of its own. Return the check that caught it and the seconds that took."""
    began = time.monotonic()
    with Valkey() as valkey:
        connection = connect(parse(valkey.url + LONG_TIMEOUTS))
        try:
            caught_by = catcher(connection, mutate(name))
        finally:
            connection.close()
    return caught_by, time.monotonic() - began


def main(chosen: list[str]) -> int:
    """Try all mutants, or the named ones. Return 1 if any survived, else 0."""
    survivors, names = 0, chosen or list(MUTANTS)
    with multiprocessing.get_context("spawn").Pool() as pool:
        for name, (caught_by, seconds) in zip(names, pool.imap(attempt, names), strict=True):
            survivors += not caught_by
            print(f"{name:<48} {caught_by or 'SURVIVES':<12} {seconds:6.1f} s", flush=True)  # noqa: T201 - its table
    print(f"{len(names)} mutants, {survivors} survive")  # noqa: T201 - its table
    return min(1, survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
