"""The fleet snapshot: windows, episodes, verdicts, sentences, steps and the screen, without any store or history."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from resilience import baml
from resilience.admin import CircuitsReport
from resilience.breaker import CircuitState
from resilience.cli import columns
from resilience.cli.circuit_list import print_circuits
from resilience.cli.status_screen import ScreenLayout, screen
from resilience.failure import ErrorCategory
from resilience.ops import phrases
from resilience.ops.advice import ADVICE, advice
from resilience.ops.circuits import Circuit
from resilience.ops.fleet import ClientOutage, Fleet, Process, by_client, episode
from resilience.ops.next_steps import next_steps
from resilience.ops.verdict import OWN_REGISTRY, FleetVerdict, sentences, verdict
from resilience.ops.window import CallTotals, ClientUse, FailureGroup, Window, summarize

NOW = datetime(2026, 11, 29, 16, 23, 46, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def circuit(state: CircuitState = CircuitState.CLOSED, **changes: Any) -> Circuit:
    given: dict[str, Any] = {
        "client": "Primary",
        "state": state,
        "since": at(-0.8),
        "until": None,
        "indefinite": False,
        "reason": "",
        "actor": "",
    }
    return Circuit(**given | changes)


def outage(begin: float, end: float | None, client: str = "Primary", **changes: Any) -> ClientOutage:
    ended = None if end is None else at(end)
    given: dict[str, Any] = {"opened_by": "consecutive_failures", "reason": "timeout", "failures": 5}
    return ClientOutage(client=client, started_at=at(begin), ended_at=ended, **given | changes)


def group(**changes: Any) -> FailureGroup:
    given: dict[str, Any] = {
        "client": "Primary",
        "category": "timeout",
        "status": None,
        "title": "client <text> did not answer within <number> s",
        "times": 20,
        "last_at": at(-0.6),
        "fingerprint": "0" * 24 + "1716f4cd",
        "request_id": "0" * 24 + "8fc22ad4",
    }
    return FailureGroup(**given | changes)


def window(answered: int = 762, calls: int = 762, **changes: Any) -> Window:
    totals = CallTotals(
        calls=calls,
        answered=answered,
        recovered=468,
        answered_by=(("Secondary", 468), ("Primary", 294)),
        p50=0.2,
        p95=0.523,
        p99=1.8,
    )
    clients = (
        ClientUse(client="Primary", asked=356, failed=62, refused=406, answers=294, p50=0.216, p95=0.438),
        ClientUse(client="Secondary", asked=468, answers=468, p50=0.239, p95=0.606, slots=tuple(range(12))),
    )
    given: dict[str, Any] = {"totals": totals, "clients": clients, "failures": (group(),)}
    return Window(since=NOW - MINUTE, until=NOW, **given | changes)


def process(**changes: Any) -> Process:
    given: dict[str, Any] = {
        "instance_id": "a" * 32,
        "host": "vm",
        "pid": 1,
        "queue_depth": 0,
        "dropped": 0,
        "degraded": False,
        "started_at": at(-60),
    }
    return Process(**given | changes)


OPEN = circuit(CircuitState.OPEN, until=at(0.4), reason="timeout")
OUTAGE = Fleet(
    at=NOW,
    namespace="demo",
    store="sqlite:///circuits.db",
    history="/resilience.db",
    store_seconds=0.0001,
    circuits=(OPEN, circuit(client="Secondary", since=None)),
    clients=("Primary", "Secondary", "Tertiary"),
    processes=(process(), process(), process(), process()),
    outages=(outage(-0.8, None), outage(-11, -8.4)),
    last_call_at=at(-0.1),
    window=window(),
    episode=window(),
)
WELL = dataclasses.replace(
    OUTAGE, circuits=(circuit(), circuit(client="Secondary", since=None)), outages=(outage(-11, -8.4),)
)
UNUSED = Fleet(at=NOW, namespace="demo", store="sqlite:///circuits.db", history="/resilience.db")


def text_of(fleet: Fleet) -> str:
    return " ".join(sentence.text for sentence in sentences(fleet))


# --- windows and episodes ---------------------------------------------------------------------------------------------------


def call_rows(*rows: tuple[str, str | None, str, int]) -> list[dict[str, Any]]:
    keys = ("client", "client_final", "outcome", "count")
    return [dict(zip(keys, row, strict=True)) | {"probe": False} for row in rows]


def test_a_window_counts_answers_at_the_client_that_gave_them() -> None:
    """Answers count where they came from, refusals apart from failures, cancelled calls and probes in no total."""
    found = summarize(
        NOW - MINUTE,
        NOW,
        calls=[
            *call_rows(
                ("Primary", "Primary", "ok", 5),
                ("Primary", "Secondary", "recovered_fallback", 3),
                ("Primary", "Primary", "failed", 2),
                ("Primary", None, "cancelled", 7),
            ),
            {"client": "Primary", "client_final": "Primary", "outcome": "ok", "count": 1, "probe": True},
        ],
        answers=[{"client": "Primary", "started_at": at(-59), "duration": 0.25, "sample_rate": 1.0}],
        errors=[
            {
                "client": "Primary",
                "category": category,
                "count": 4,
                "status": None,
                "title": "",
                "last_at": NOW,
                "fingerprint": "f",
                "request_id": "r",
            }
            for category in ("timeout", "circuit_open")
        ],
        refusals=[{"client": "Primary", "count": 3}],
    )

    assert (10, 8, 3, 2) == (
        found.totals.calls,
        found.totals.answered,
        found.totals.recovered,
        found.totals.unanswered,
    )
    assert (("Primary", 5), ("Secondary", 3)) == found.totals.answered_by
    primary, secondary = found.clients
    assert (10, 4, 7, 5) == (primary.asked, primary.failed, primary.refused, primary.answers)
    assert (1, 0) == (primary.slots[0], sum(primary.slots[1:]))
    assert (3, 0) == (secondary.asked, secondary.failed)
    assert ["timeout"] == [failure.category for failure in found.failures]


def test_percentiles_weigh_sampled_rows() -> None:
    """A row that was kept at a sample rate of 0.1 stands for ten answers."""
    rows = [
        {"client": "A", "started_at": NOW, "duration": duration, "sample_rate": rate}
        for duration, rate in ((1.0, 1.0), (2.0, 0.1))
    ]
    found = summarize(NOW - MINUTE, NOW, calls=[], answers=rows, errors=[], refusals=[])

    assert (2.0, 2.0) == (found.totals.p50, found.totals.p95)


@pytest.mark.parametrize(
    ("outages", "expected"),
    [
        ([], None),
        ([outage(-5, None)], (-15, 0)),
        ([outage(-60, -50), outage(-300, -200)], (-310, -40)),
        ([outage(-60, -50), outage(-3000, -2900)], (-70, -40)),
    ],
)
def test_outages_close_together_are_one_episode(
    outages: Sequence[ClientOutage], expected: tuple[float, float] | None
) -> None:
    """It begins shortly before the first and ends shortly after the last; one more than ten minutes earlier is another."""
    assert (expected and tuple(map(at, expected))) == episode(outages, NOW)


# --- verdict and sentences --------------------------------------------------------------------------------------------------

COOLING = circuit(cooldown_until=at(3), cooldown_reason="rate_limit")
HELD = circuit(CircuitState.FORCED_OPEN, until=at(600), reason="maintenance", actor="ann@vm")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, FleetVerdict.WELL),
        ({"circuits": (OPEN,)}, FleetVerdict.TROUBLED),
        ({"circuits": (circuit(CircuitState.HALF_OPEN),)}, FleetVerdict.TROUBLED),
        ({"circuits": (HELD,)}, FleetVerdict.TROUBLED),
        ({"circuits": (COOLING,)}, FleetVerdict.TROUBLED),
        ({"circuits": (circuit(CircuitState.DISABLED),)}, FleetVerdict.WELL),
        ({"window": window(answered=1, calls=9)}, FleetVerdict.WELL),
        ({"store_error": "refused"}, FleetVerdict.TROUBLED),
        ({"history_error": "refused"}, FleetVerdict.TROUBLED),
        ({"degraded_processes": 1}, FleetVerdict.TROUBLED),
        ({"history_missing": True}, FleetVerdict.WELL),
        ({"store_missing": True}, FleetVerdict.WELL),
        ({"store_error": "refused", "history_error": "refused"}, FleetVerdict.UNREADABLE),
        ({"store_missing": True, "history_missing": True}, FleetVerdict.UNREADABLE),
        ({"store_error": "refused", "history_missing": True}, FleetVerdict.UNREADABLE),
    ],
)
def test_the_verdict(changes: dict[str, Any], expected: FleetVerdict) -> None:
    """Open, cooling or away is trouble; nothing readable is a verdict of its own; failed calls are no verdict."""
    assert expected is verdict(dataclasses.replace(WELL, **changes))


def test_an_outage_is_told_in_sentences() -> None:
    """They say what broke, since when, why, when it is tried again, how often, and whether callers notice."""
    text = text_of(OUTAGE)

    assert "Primary is OPEN since 16:23:45 (0.8 s): 5 failures in a row, timeout." in text
    assert "Next try in 0.4 s. 2nd opening within 24 h." in text
    assert "Callers are fine: 762 of 762 calls of the last 60 s answered, 61 % by Secondary" in text
    assert "95 % within 523 ms, 99 % within 1.8 s" in text


def test_an_outage_that_is_over_is_told_too() -> None:
    """All circuits are closed; when one was open, for how long and why, and that callers got their answers then."""
    past = dataclasses.replace(
        WELL,
        window=Window(since=NOW - MINUTE, until=NOW),
        last_call_at=at(-300),
        processes=(),
    )
    text = text_of(past)

    assert "Both circuits are closed. Primary was open from 16:23:35 to 16:23:37 (2.6 s: timeout)." in text
    assert "762 of 762 calls since 16:22:46, when the outages began, answered" in text
    assert (
        "No call ended within the last 60 s; the newest started 5 min ago. No process runs at present."
        in text
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"circuits": (HELD,)}, "Primary is held OPEN by ann@vm until 16:33:46: maintenance."),
        (
            {"circuits": (dataclasses.replace(HELD, until=None, reason="", actor=""),)},
            "held OPEN by an operator until another order.",
        ),
        ({"circuits": (COOLING,)}, "Primary is not asked for another 3.0 s: it cools down after rate_limit."),
        (
            {"circuits": (circuit(CircuitState.HALF_OPEN, reason="timeout"),), "outages": ()},
            "Primary is half open since 16:23:45 (0.8 s): timeout. A few calls try it now.",
        ),
        ({"circuits": (dataclasses.replace(OPEN, until=None),)}, "The next call tries it."),
        ({"circuits": (circuit(CircuitState.DISABLED, actor="ann"),)}, "of Primary is disabled by ann"),
        (
            {"outages": (outage(-9, None, opened_by="failure_rate", failures=12),), "circuits": (OPEN,)},
            "timeout (failure rate, 12 failures)",
        ),
        ({"store_error": "refused"}, "is away: refused. Agents use their local circuits"),
        ({"degraded_processes": 2}, "2 of 4 processes cannot reach the store"),
        ({"history_error": "locked"}, "The history cannot be read: locked."),
        ({"history_missing": True}, "There is no history at /resilience.db"),
        ({"history_missing": True, "history": ""}, "No history is kept"),
        ({"circuits": ()}, "No circuit has been used yet in namespace 'demo'"),
        ({"circuits": (), "other_namespaces": ("a", "b")}, "other namespaces: a, b; see --namespace"),
        ({"circuits": (), "store_missing": True}, "There is no store of circuits at sqlite:///circuits.db"),
        ({"circuits": (), "store_missing": True, "store": "memory://"}, "belong to each process alone"),
        (
            {"circuits": (), "store_missing": True, "clients": ("client_registry",)},
            "a client_registry of its own has no circuit",
        ),
        ({"circuits": (), "clients": ("client_registry",)}, "a client_registry of its own has no circuit"),
        (
            {"window": window(answered=3, calls=5), "episode": None},
            "Callers notice: 2 of 5 calls of the last 60 s got no answer, mostly timeout at Primary",
        ),
        ({"last_call_at": None, "window": None, "episode": None}, "No call has been recorded yet."),
        ({"processes": (process(dropped=3),)}, "3 records could not be written"),
    ],
)
def test_each_trouble_has_its_sentence(changes: dict[str, Any], expected: str) -> None:
    """Orders, cool-downs, sources that are away, empty and missing ones, and callers without answers read differently."""
    assert expected in text_of(dataclasses.replace(WELL, **changes))


def test_a_fleet_that_has_called_is_not_one_that_never_ran() -> None:
    """Where the history has calls, a missing store is no proof that no agent ran, and no alarm."""
    called = dataclasses.replace(UNUSED, store_missing=True, clients=(OWN_REGISTRY,))
    (sentence,) = [found for found in sentences(called) if "circuit" in found.text]
    other = text_of(dataclasses.replace(UNUSED, store_missing=True, clients=("Primary",)))
    unused = text_of(dataclasses.replace(UNUSED, store_missing=True))

    assert ("plain", False) == (sentence.tone, "no agent has run" in sentence.text)
    assert "although the history has calls" in other
    assert "no agent has run with these settings" in unused


def test_a_client_without_a_circuit_is_not_closed() -> None:
    """Calls with a registry of their own are in the table, without a state that they cannot have."""
    use = ClientUse(client=OWN_REGISTRY, asked=3, answers=3)
    fleet = dataclasses.replace(UNUSED, window=window(clients=(use,)))
    (line,) = [line.text for line in screen(fleet, ScreenLayout()) if line.text.startswith(OWN_REGISTRY)]

    assert [OWN_REGISTRY, "none"] == line.split()[:2]
    assert baml.OWN_REGISTRY == OWN_REGISTRY


def test_every_category_has_advice() -> None:
    """Each says what to do; a word of a newer version has none, and raises nothing."""
    assert set(ErrorCategory) == set(ADVICE)
    assert "" == advice("of a newer version")


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"circuits": (OPEN,)}, ("circuit", "open", "Primary", "--for", "10m", "--reason", "outage")),
        ({"circuits": (HELD,)}, ("circuit", "close", "Primary")),
        (
            {"circuits": (circuit(cooldown_until=at(9), cooldown_reason="quota_exhausted"),)},
            ("circuit", "close", "Primary"),
        ),
        ({"store_error": "refused"}, ("doctor",)),
        ({"store_missing": True, "history_missing": True}, ("config", "show")),
        ({}, ("errors", "timeline", "8fc22ad4")),
    ],
)
def test_each_trouble_has_a_next_step(changes: dict[str, Any], command: tuple[str, ...]) -> None:
    """A command to paste follows from what is wrong."""
    assert command in [step.command for step in next_steps(dataclasses.replace(WELL, **changes))]


def test_a_fleet_without_trouble_has_nothing_to_do() -> None:
    """No failures and no refusals: no command is offered."""
    assert ["nothing to do"] == [step.text for step in next_steps(UNUSED)]


# --- the screen -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fleet", "width"), list(itertools.product((OUTAGE, WELL, UNUSED), (80, 100, 200))))
def test_no_line_is_wider_than_the_terminal(fleet: Fleet, width: int) -> None:
    """Everything fits but the commands, which are to be pasted whole."""
    lines = [
        line.text for line in screen(fleet, ScreenLayout(width=width, command="resilience --at " + "x" * 90))
    ]

    assert not [line for line in lines if cell_len(line) > width and "resilience --at" not in line]
    assert len(lines) <= 30


def renamed(fleet: Fleet, suffix: str) -> Fleet:
    """Return *fleet* with long names everywhere: clients that differ at their end, and a namespace."""
    stem = "azure-openai-gpt-4o-" + suffix

    def name(client: str) -> str:
        return {"Primary": f"{stem}-eu", "Secondary": f"{stem}-us"}.get(client, client)

    def each(values: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(dataclasses.replace(value, client=name(value.client)) for value in values)

    def window(old: Window | None) -> Window | None:
        if old is None:
            return None
        by = tuple((name(client), number) for client, number in old.totals.answered_by)
        totals = dataclasses.replace(old.totals, answered_by=by)
        return dataclasses.replace(old, clients=each(old.clients), failures=each(old.failures), totals=totals)

    return dataclasses.replace(
        fleet,
        namespace="team-blue-production-" + suffix,
        circuits=each(fleet.circuits),
        outages=each(fleet.outages),
        clients=tuple(map(name, fleet.clients)),
        window=window(fleet.window),
        episode=window(fleet.episode),
    )


@pytest.mark.parametrize("suffix", ["x" * 20, "x" * 170, "東" * 60])
def test_long_names_cost_no_answer(suffix: str) -> None:
    """At 80 columns long names are cut in their middle; state, why and next, the window and the two regions stay."""
    drawn = [line.text for line in screen(renamed(OUTAGE, suffix), ScreenLayout(width=80))]
    lines = [line for line in drawn if not line.startswith("          resilience ")]
    head = next(line for line in lines if line.startswith("CLIENT "))

    assert max(map(cell_len, lines)) <= 80
    assert ["STATE", "SINCE", "WHY", "NEXT", "ASKED"] == head.split()[1:6]
    assert lines[0].endswith("Z   window 60 s")
    assert {"-eu", "-us"} == {
        line.split()[0][-3:] for line in lines if "…" in line and line.startswith("azure-") and "%" in line
    }


def test_80_columns_keep_state_why_and_next() -> None:
    """At 80 columns the sparkline, the median, the budget and the refusals go; what an incident needs stays."""
    heads = {
        width: next(
            line.text for line in screen(OUTAGE, ScreenLayout(width=width)) if line.text.startswith("CLIENT ")
        )
        for width in (80, 200)
    }

    assert ["CLIENT", "STATE", "SINCE", "WHY", "NEXT", "ASKED"] == heads[80].split()[:6]
    assert {"P50", "RETRIES", "WHEN", "REFUSED"} - set(heads[80].split())
    assert {"P50", "RETRIES", "WHEN", "REFUSED"} <= set(heads[200].split())


def test_the_screen_has_every_section() -> None:
    """Title, sentences, clients, failures, outages, health, next: in this order."""
    text = "\n".join(line.text for line in screen(OUTAGE, ScreenLayout(width=100)))
    sections: tuple[str, ...] = (
        "resilience status   demo   4 processes   16:23:46Z   window 60 s",
        "Primary is OPEN",
        "CLIENT",
        "WHAT FAILED",
        "OUTAGES, 24 h",
        "HEALTH  store ok",
        "NEXT    ",
    )
    places = [text.index(section) for section in sections]

    assert sorted(places) == places
    assert "1716f4cd" in text
    assert "resilience errors timeline 8fc22ad4" in text
    assert "Tertiary   unused" in text


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    """Names and messages of a hostile row are escaped on every line, and cannot add one."""
    evil = "x\x1b[2J\ny"
    fleet = dataclasses.replace(
        OUTAGE,
        namespace=evil,
        clients=(evil,),
        circuits=(dataclasses.replace(OPEN, client=evil, reason=evil, actor=evil),),
        outages=(outage(-1, None, client=evil, reason=evil),),
        window=window(failures=(group(client=evil, title=evil, category=evil),)),
    )

    assert not [line for line in screen(fleet, ScreenLayout()) if {"\x1b", "\n"} & set(line.text)]


def test_a_list_of_circuits_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """An open circuit has the rule and the number of its openings, and not its emptied window; a closed one has no reason."""
    closed = circuit(client="Secondary", reason="timeout", calls=7)
    print_circuits(
        CircuitsReport(namespace="demo", circuits=(OPEN, closed), outages=OUTAGE.outages, store="s")
    )
    _, first, second = capsys.readouterr().out.splitlines()

    assert "5 failures in a row, timeout" in first
    assert "2x in 24 h" in first
    assert "0 of 0" not in first
    assert "timeout" not in second
    assert "0 of 7" in second


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """No bar, no ellipsis, and names as escapes."""
    lines = screen(dataclasses.replace(OUTAGE, clients=("Zürich",)), ScreenLayout(unicode=False))

    assert all(line.text.isascii() for line in lines)


def test_a_table_cuts_one_column_and_drops_others() -> None:
    """The cell that may be cut ends in an ellipsis; wide characters count twice; numbers are at the right."""
    rows = [["a", "long " * 20, "1", "x" * 30], ["日本", "short", "20", "y"]]
    drawn = columns.lines(("K", "TEXT", "N", "DROPPED"), rows, (9, 0, 9, 1), 40, right=frozenset({2}))

    assert ["K     TEXT", "N"] == [part.strip() for part in drawn[0].rsplit("  ", 1)]
    assert drawn[1].startswith("a     long long")
    assert drawn[1].endswith("…   1")
    assert drawn[2].startswith("日本  short  ")
    assert {cell_len(drawn[0])} == set(map(cell_len, drawn))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (12, "12 s"), (150, "2 min"), (9000, "2 h"), (200_000, "2 d")],
)
def test_ages_have_one_unit(seconds: float, text: str) -> None:
    """Seconds up to two minutes, minutes up to two hours, hours up to two days."""
    assert text == phrases.age(seconds)


def test_phrases() -> None:
    """Shares are 0 and 100 per cent only if exact; ordinals, counts, latencies and bars read as people write them."""
    assert ["-", "0 %", "<1 %", "50 %", ">99 %", "100 %"] == [
        phrases.share(part, whole) for part, whole in ((0, 0), (0, 9), (1, 999), (1, 2), (998, 999), (9, 9))
    ]
    assert ["1st", "2nd", "3rd", "4th", "11th", "12th", "21st"] == list(
        map(phrases.ordinal, (1, 2, 3, 4, 11, 12, 21))
    )
    assert ["1 call", "1,200 calls", "2 processes"] == [
        phrases.count(1, "call"),
        phrases.count(1200, "call"),
        phrases.count(2, "process", "processes"),
    ]
    assert ["-", "438 ms", "1.8 s"] == list(map(phrases.latency, (None, 0.438, 1.8)))
    assert " ▁█" == phrases.sparkline((0, 1, 999))
    assert "2026-11-28 16:23:46" == phrases.clock(NOW - timedelta(days=1), NOW)


def test_outages_are_grouped_by_client() -> None:
    """The client with the newest outage comes first."""
    assert ["B", "A"] == list(by_client([outage(-1, None, "B"), outage(-2, -1, "A"), outage(-9, -8, "B")]))
