"""Bugs planted in `step.lua`, one at a time, and the check that catches each: `python tests/support/lua_mutants.py`.

A mutant that survives means that the tests would let such a bug through; the exit code is then 1.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis.exceptions import ResponseError

from resilience.breaker import BreakerPolicy
from resilience.breaker.messages import StepReply, StepRequest
from resilience.breaker.stores.redis import SCRIPT, RedisStore
from resilience.breaker.stores.redis_connection import Link, connect
from resilience.breaker.stores.redis_url import parse
from support.lua_twin import SERVER_TIME, TwinMachine
from support.valkey_servers import Valkey

MUTANTS = {
    "rounds half up": ("(rest == 0.5 and below % 2 == 1)", "rest == 0.5"),
    "does not round": ("return below + 1", "return below"),
    "writes numbers as Lua does": ("return string.format('%.0f', number)", "return tostring(number)"),
    "reads numbers that are none": ("string.find(text, '^%-?%d+$') and tonumber(text)", "tonumber(text)"),
    "knows no states": ("STATES[raw.st] and raw.st or 'closed'", "raw.st or 'closed'"),
    "keeps half of the leases it cannot read": ("if not token then\n      return {}", "if not token then\n      return leases"),
    "window edge": ("bucket.start <= now - policy.window", "bucket.start < now - policy.window"),
    "streak over successes": ("if sums.successes == 0 then", "if true then"),
    "streak outlives a success": ("streak = failed and sums.streak + count or 0", "streak = failed and sums.streak + count or sums.streak"),
    "slow failures are not slow": ("local SLOW = {l = true, g = true}", "local SLOW = {l = true}"),
    "slow failures are no failures": ("local FAILURES = {f = true, g = true}", "local FAILURES = {f = true}"),
    "consecutive, one late": ("sums.streak >= policy.consecutive", "sums.streak > policy.consecutive"),
    "min_calls, one late": ("calls < policy.min_calls", "calls <= policy.min_calls"),
    "failure rate, strictly": ("calls >= policy.failure_rate", "calls > policy.failure_rate"),
    "slow rate, strictly": ("calls >= policy.slow_rate", "calls > policy.slow_rate"),
    "judges a run only at its end": ("if broken(after(sums, outcome, judged)) then", "if false then"),
    "a run trips at its end": ("local broken_at = breaking(tally(), outcome, count)", "local broken_at = breaking(tally(), outcome, count) > 0 and count or 0"),
    "epoch stands still": ("math.max(draft.ep + 1, now)", "math.max(draft.ep, now)"),
    "epoch forgets the clock": ("math.max(draft.ep + 1, now)", "draft.ep + 1"),
    "leases survive a move": ("draft.L, draft.w, draft.hs = {}, {}, 0", "draft.w, draft.hs = {}, 0"),
    "the window survives a move": ("draft.L, draft.w, draft.hs = {}, {}, 0", "draft.L, draft.hs = {}, 0"),
    "probes' successes survive a move": ("draft.L, draft.w, draft.hs = {}, {}, 0", "draft.L, draft.w = {}, {}"),
    "closed keeps its reason": ("draft.why = state == 'closed' and '' or reason", "draft.why = reason"),
    "one growth too many": ("policy.open_growth ^ math.min(opens - 1, STEEPEST)", "policy.open_growth ^ math.min(opens, STEEPEST)"),
    "no cap on openings": ("math.min(policy.open_max, policy.open_for *", "math.max(0, policy.open_for *"),
    "jitter one-sided": ("(2 * request.draw - 1)", "request.draw"),
    "never calm": ("local opens = calm and 1 or draft.oc + 1", "local opens = draft.oc + 1"),
    "calm in half-open too": ("draft.st == 'closed' and now - draft.ca >= policy.window", "now - draft.ca >= policy.window"),
    "recovery has no date": ("  move('closed', 'probe', draft.why, '', 0)\n  draft.ca = now", "  move('closed', 'probe', draft.why, '', 0)"),
    "cuts no openings": ("draft.ou = math.min(draft.ou, now + policy.longest)", "draft.ou = draft.ou"),
    "cuts no leases": ("lease.expiry = math.min(lease.expiry, now + policy.lease)", "lease.expiry = lease.expiry"),
    "a deploy does not close": ("if draft.st == 'half_open' and draft.hs >= policy.successes then", "if false then"),
    "does not follow the clock back": ("if back <= 0 then", "if true then"),
    "follows the clock with an override without end": ("draft.ou ~= 0 and math.max(1, draft.ou - back) or 0", "math.max(1, draft.ou - back)"),
    "overrides never lapse": ("OVERRIDES[draft.st] and 0 < draft.ou and draft.ou <= now", "false"),
    "override lapses one late": ("0 < draft.ou and draft.ou <= now", "0 < draft.ou and draft.ou < now"),
    "restores over a memory": ("if draft.ep >= epoch or state == 'half_open' or idle then", "if state == 'half_open' or idle then"),
    "restores over a memory as old": ("if draft.ep >= epoch or", "if draft.ep > epoch or"),
    "restores half-open": ("or state == 'half_open' or idle then", "or idle then"),
    "restores what is closed anyway": ("or state == 'half_open' or idle then", "or state == 'half_open' then"),
    "restores into an old epoch": ("  draft.ep = epoch\n", ""),
    "a restored closed circuit has an end": ("state == 'closed' and 0 or wait)", "wait)"),
    "a restored opening is no opening": ("draft.oc = state == 'open' and 1 or 0", "draft.oc = 0"),
    "close leaves the cool-down": ("draft.bu, draft.bw = 0, ''", "draft.bw = ''"),
    "close gives no memory": ("if idle and draft.ep ~= 0 then", "if idle then"),
    "reset forgets nothing": ("draft.oc, draft.bn, draft.ca = 0, 0, 0", "draft.bn, draft.ca = 0, 0"),
    "probes during a cool-down": ("if not token or draft.bu > now then", "if not token then"),
    "probes before the end": ("draft.st == 'open' and draft.ou <= now", "draft.st == 'open'"),
    "probe one late": ("draft.st == 'open' and draft.ou <= now", "draft.st == 'open' and draft.ou < now"),
    "one probe too many": ("return count < policy.probes and", "return count <= policy.probes and"),
    "more probes than closing needs": ("and count + draft.hs < math.max(policy.probes, policy.successes)", ""),
    "same token, second lease": ("      if lease.token == token then\n        return 1\n      end\n", ""),
    "an expired lease holds its place": ("if lease.expiry > now then\n      if lease.token", "if true then\n      if lease.token"),
    "remembers one lease more": ("local REMEMBERED = 8", "local REMEMBERED = 9"),
    "lease of another length": ("expiry = now + policy.lease}", "expiry = now + policy.lease + 1}"),
    "eleven buckets": ("local BUCKETS = 10", "local BUCKETS = 11"),
    "bucket one late": ("start + width <= now", "start + width < now"),
    "counts behind the trip": ("broken_at > 0 and broken_at or count, reason", "count, reason"),
    "does not say what came late": ("return count - broken_at", "return 0"),
    "a stranger's probe counts": ("if #held == #draft.L then", "if false then"),
    "slow probes close": ("elseif outcome == 'l' and policy.slow_rate >= 0 then", "elseif false then"),
    "ignored probes close": ("elseif outcome ~= 'i' then\n    draft.bn", "else\n    draft.bn"),
    "closes one probe late": ("    if draft.hs >= policy.successes then", "    if draft.hs > policy.successes then"),
    "late results count": ("if epoch ~= draft.ep then\n      late", "if false then\n      late"),
    "disabled counts": ("elseif draft.st == 'closed' and outcome ~= 'i' then", "elseif outcome ~= 'i' then"),
    "ignored counts": ("elseif draft.st == 'closed' and outcome ~= 'i' then", "elseif draft.st == 'closed' then"),
    "cool-down grows while it runs": ("if running or epoch ~= draft.ep then", "if epoch ~= draft.ep then"),
    "old guesses grow the cool-down": ("if running or epoch ~= draft.ep then", "if running then"),
    "cool-down never doubles": ("2 ^ math.min(draft.bn, STEEPEST)", "1"),
    "cool-downs have no cap": ("math.min(seconds, cap))", "seconds)"),
    "cool-downs shrink": ("if ends > math.max(draft.bu, now) then", "if ends > now then"),
    "refusals name no wait": ("count > 0 and not room(count) and soonest - now or 0", "0"),
    "an override without end ends": ("    return -1\n", "    return 0\n"),
    "an override without end is forgotten": ("    redis.call('PERSIST', KEYS[1])\n", ""),
    "expires with the opening": ("digits(last - now + 3 * policy.window + KEEP)", "digits(last - now + KEEP)"),
    "expires before the opening": ("math.max(now, draft.ou, draft.bu)", "now"),
    "expires before the lease": ("    last = math.max(last, lease.expiry)\n", ""),
    "the log never expires": ("  redis.call('PEXPIRE', KEYS[2], KEEP_LOG)\n", ""),
    "the log is not capped": ("{KEYS[2], 'MAXLEN', ARGV[3], '*'}", "{KEYS[2], '*'}"),
    "logs what was only looked at": ("if request.mode ~= 'look' then\n  written", "if true then\n  written"),
    "writes when nothing changed": ("  if not changed then\n    return false\n  end\n", ""),
    "leaves what became a default": ("    redis.call('HDEL', unpack(unset))\n", ""),
    "does not say that it began anew": ("written and 1 - exists or 0", "0"),
    "orders need thresholds": ("if request.order then", "if request.order and request.mode == 'step' then"),
    "retries are free": ("+ retries * (RETRY + policy.deposit)", ""),
    "retries earn": ("retries * (RETRY + policy.deposit)", "retries * RETRY"),
    "a retry of another size": ("local RETRY = 60000", "local RETRY = 50000"),
    "first tries earn nothing": ("owed() - tries * policy.deposit", "owed()"),
    "the bucket overflows": ("math.max(0, owed() - tries * policy.deposit) + retries * (RETRY + policy.deposit)", "owed() - tries * policy.deposit + retries * (RETRY + policy.deposit)"),
    "takes out before it pays in": ("math.max(0, owed() - tries * policy.deposit) + retries * (RETRY + policy.deposit)", "math.max(0, owed() - tries * policy.deposit + retries * (RETRY + policy.deposit))"),
    "the bucket never fills by itself": ("policy.floor * math.max(0, now - draft.ra)", "0"),
    "fills beyond the brim": ("return math.max(0, draft.rt - policy.floor", "return (draft.rt - policy.floor"),
    "fills from the first draw on": ("draft.ra = draft.rt > 0 and now or 0", "draft.ra = draft.rt > 0 and (draft.ra > 0 and draft.ra or now) or 0"),
    "a full bucket has a date": ("draft.ra = draft.rt > 0 and now or 0", "draft.ra = now"),
    "a date to come empties the bucket": ("math.max(0, now - draft.ra)", "(now - draft.ra)"),
    "the bucket does not follow the clock": ("draft.ra = math.max(0, draft.ra - back)", "draft.ra = draft.ra"),
    "draws without a budget": ("tries + retries > 0 and policy.deposit >= 0", "tries + retries > 0"),
    "only retries are told": ("tries + retries > 0 and policy.deposit >= 0", "retries > 0 and policy.deposit >= 0"),
    "draws when nothing was told": ("tries + retries > 0 and policy.deposit >= 0", "policy.deposit >= 0"),
    "draws while it only looks": ("if request.mode == 'step' then\n  cut()", "draw_retries(request.tries or 0, request.retries or 0)\nif request.mode == 'step' then\n  cut()"),
    "a move fills the bucket": ("draft.L, draft.w, draft.hs = {}, {}, 0", "draft.L, draft.w, draft.hs, draft.rt = {}, {}, 0, 0"),
    "says what was missing once": ("written and 1 - exists or 0, owed(),", "written and 1 - exists or 0, draft.rt,"),
    "seconds for milliseconds": ("tonumber(clock[1]) * 1000", "tonumber(clock[1])"),
    "no milliseconds": ("math.floor(tonumber(clock[2]) / 1000)", "0"),
}  # fmt: skip

PATIENTLY = "?socket_timeout=10&socket_connect_timeout=10"  # a busy machine is no bug that was caught


def machine(link: Link, script: str) -> None:
    """Script and law, side by side (`lua_twin.TwinMachine`)."""
    planted = type("Planted", (TwinMachine,), {"link": link, "script": script})
    run_state_machine_as_test(
        planted,
        settings=settings(
            max_examples=300,
            stateful_step_count=50,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # a counterexample is enough, it need not be short
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def server_time(link: Link, script: str) -> None:
    """The time in the reply lies between two that the server tells."""
    server, store = link.server(""), Mutated(link, script)
    for _ in range(5):
        before = milliseconds(server)
        (reply,) = store.step([StepRequest(client="A", policy=BreakerPolicy())])
        assert isinstance(reply, StepReply), reply
        assert before <= reply.now_ms <= milliseconds(server)
        time.sleep(0.003)


def milliseconds(server: Any) -> int:
    """The server's time."""
    seconds, micros = server.time()
    return int(1000 * seconds + micros // 1000)


CHECKS: list[Callable[[Link, str], None]] = [server_time, machine]


class Mutated(RedisStore):
    """A store that runs another script, at the server's own time."""

    def __init__(self, link: Link, script: str) -> None:
        super().__init__(parse("redis://unused"))
        self._script, self._fixed = script, link
        self._sha = link.server("").script_load(script)

    def _connected(self) -> Link:
        return self._fixed

    def park(self) -> None:
        """The connection is shared."""


def mutate(name: str) -> str:
    """The script with one bug in it.

    Raises:
        ValueError: the place where it belongs is gone, or there are several.
    """
    old, new = MUTANTS[name]
    if SCRIPT.count(old) != 1 or SERVER_TIME not in SCRIPT:
        msg = f"{name}: its place occurs {SCRIPT.count(old)} times in step.lua"
        raise ValueError(msg)
    return SCRIPT.replace(old, new)


def catcher(link: Link, script: str) -> str:
    """The first check that fails on a script; empty if none does."""
    for check in CHECKS:
        if check is machine and SERVER_TIME not in script:
            continue  # with another clock in it there is nothing for the machine to replace
        try:
            check(link, script)
        except (AssertionError, ResponseError, ExceptionGroup, KeyError, ValueError):
            return check.__name__
    return ""


def attempt(name: str) -> tuple[str, float]:
    """Look for a check that catches a mutant, on a server of its own; says how long that took, in seconds."""
    began = time.monotonic()
    with Valkey() as valkey:
        link = connect(parse(valkey.url + PATIENTLY))
        try:
            found = catcher(link, mutate(name))
        finally:
            link.close()
    return found, time.monotonic() - began


def main(chosen: list[str]) -> int:
    """Try each mutant, or those named; returns how many survived, at most 1."""
    survivors, names = 0, chosen or list(MUTANTS)
    with multiprocessing.get_context("spawn").Pool() as pool:
        for name, (found, seconds) in zip(names, pool.imap(attempt, names), strict=True):
            survivors += not found
            print(f"{name:<48} {found or 'SURVIVES':<12} {seconds:6.1f} s", flush=True)  # noqa: T201 - its table
    print(f"{len(names)} mutants, {survivors} survive")  # noqa: T201 - its table
    return min(1, survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
