"""Dashboards, recording rules and alerts query metrics that we emit, and Grafana and Prometheus can load them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from resilience.breaker import CircuitState
from resilience.telemetry import names

FOLDER = Path(__file__).parents[2] / "dashboards"
DASHBOARD = FOLDER / "resilience.json"
RULES = ("rules.yml", "alerts.yml", "alerts_test.yml")
RECORDED = re.compile(r"\bresilience:\w+:\w+")
METRIC = re.compile(r"\b(?:resilience|gen_ai)_\w+")
PARTS = re.compile(r"_(?:bucket|sum|count)$")
LABELS = {
    "client",
    "error_type",
    "from_client",
    "function",
    "kind",
    "le",
    "outcome",
    "reason",
    "result",
    "source",
    "state",
    "succeeded",
    "to_client",
    "to_state",
    "type",
}


@pytest.fixture
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_every_queried_metric_is_one_of_ours(dashboard: dict[str, Any]) -> None:
    """No query names a metric that is missing in both OpenTelemetry's exporter and our own text."""
    emitted = {metric.prometheus for metric in names.METRICS}
    variables = [variable["definition"] for variable in dashboard["templating"]["list"][1:]]
    variables += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    queried = {
        PARTS.sub("", name) for text in (*queries(dashboard), *variables) for name in METRIC.findall(text)
    }

    assert set() == queried - emitted
    assert len(queried) >= 12


def test_only_histograms_are_queried_for_their_parts(dashboard: dict[str, Any]) -> None:
    """`_bucket`, `_sum` and `_count` follow the names of histograms only."""
    histograms = {metric.prometheus for metric in names.METRICS if metric.kind is names.Kind.HISTOGRAM}
    parted = {name for text in queries(dashboard) for name in METRIC.findall(text) if PARTS.search(name)}

    assert parted
    assert {PARTS.sub("", name) for name in parted} <= histograms


def test_every_queried_label_is_one_of_ours(dashboard: dict[str, Any]) -> None:
    """It groups and selects by labels that our metrics have."""
    grouped = {
        name.strip()
        for text in queries(dashboard)
        for group in re.findall(r"by \(([^)]*)\)", text)
        for name in group.split(",")
    }
    selected = {name for text in queries(dashboard) for name in re.findall(r"[{,](\w+)(?:=~|!=|=)", text)}

    assert set() == (grouped | selected) - LABELS


def test_panels_have_own_ids_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    """Ids are unique, each panel fits the grid of 24 columns, and no two panels share a cell."""
    panels = dashboard["panels"]
    positions = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y)
        for position in positions
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]

    assert len(panels) == len({panel["id"] for panel in panels})
    assert all(position["x"] + position["w"] <= 24 for position in positions)
    assert len(cells) == len(set(cells))


def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    """Each has a unique title, a description, a legend for each query, and the data source that the user chose."""
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]

    assert len(panels) == len({panel["title"] for panel in panels})
    assert all(panel["description"] for panel in panels)
    assert all(target["legendFormat"] for panel in panels for target in panel["targets"])
    assert {"${datasource}"} == {panel["datasource"]["uid"] for panel in panels}


def test_the_first_row_answers_at_a_glance(dashboard: dict[str, Any]) -> None:
    """The top row is stats with thresholds: answered, circuits that are not closed, calls without an answer, p95."""
    first = [panel for panel in dashboard["panels"] if panel["gridPos"]["y"] == 0]

    assert {"stat"} == {panel["type"] for panel in first}
    assert {
        "Answered in the time range",
        "Circuits not closed",
        "Calls without an answer",
        "Calls, 95th percentile",
    } <= {panel["title"] for panel in first}
    assert all(len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) >= 2 for panel in first)


def test_states_are_a_timeline_in_words_and_colours(dashboard: dict[str, Any]) -> None:
    """Each state of a circuit has its word and its colour; openings, closings and orders are annotations."""
    (timeline,) = [panel for panel in dashboard["panels"] if panel["type"] == "state-timeline"]
    (mapping,) = timeline["fieldConfig"]["defaults"]["mappings"]

    assert len(CircuitState) == len({option["color"] for option in mapping["options"].values()})
    assert ["Openings", "Closings", "Orders"] == [note["name"] for note in dashboard["annotations"]["list"]]


def test_every_rule_queries_what_exists() -> None:
    """Recording rules, alerts and their tests name our metrics, and recorded series that a rule records."""
    emitted = {metric.prometheus for metric in names.METRICS}
    texts = {name: (FOLDER / name).read_text() for name in RULES}
    named = {PARTS.sub("", name) for text in texts.values() for name in METRIC.findall(text)}
    recorded = set(re.findall(r"record: (\S+)", texts["rules.yml"]))
    used = {name for text in texts.values() for name in RECORDED.findall(text)}

    assert set() == named - emitted - {"resilience_recording"}
    assert used == recorded
    assert len(named) >= 8


def test_every_rule_uses_labels_that_exist() -> None:
    """Rules and alerts group and select by labels that our metrics have, and summaries name labels that the alert keeps."""
    for name in ("rules.yml", "alerts.yml"):
        text = (FOLDER / name).read_text()
        grouped = {
            label.strip() for group in re.findall(r"by \(([^)]*)\)", text) for label in group.split(",")
        }
        selected = set(re.findall(r"[{,]\s*(\w+)(?:=~|!=|=)\"", text))
        shown = set(re.findall(r"\$labels\.(\w+)", text))

        assert set() == (grouped | selected | shown) - LABELS, name


def test_every_alert_on_a_fault_of_the_layer_is_played_and_drawn(dashboard: dict[str, Any]) -> None:
    """Alerts on counters of the layer itself have a case in the tests of the rules, and a panel shows their metric."""
    alerts = (FOLDER / "alerts.yml").read_text().split("- alert: ")[1:]
    played = (FOLDER / "alerts_test.yml").read_text()
    drawn = " ".join(queries(dashboard))
    for metric in (names.DAMAGED, names.DROPPED, names.SOURCE_UP, names.DEGRADED):
        (named,) = [
            text.partition("\n")[0]
            for text in alerts
            if f"{metric.prometheus}" in text and "absent(" not in text
        ]
        assert f"alertname: {named}\n" in played
        assert metric.prometheus in drawn


def test_every_alert_says_what_to_do() -> None:
    """Each has a severity, a summary and a description, and names a command or what happens by itself."""
    alerts = (FOLDER / "alerts.yml").read_text().split("- alert: ")[1:]

    assert len(alerts) >= 10
    for alert in alerts:
        assert re.search(r"severity: (page|warning|info)", alert), alert
        assert "summary:" in alert, alert
        assert "description:" in alert, alert


PROMTOOL = shutil.which("promtool") or ""


@pytest.mark.skipif(not PROMTOOL, reason="promtool of Prometheus is not installed")
@pytest.mark.parametrize(
    "arguments", [("check", "rules", "rules.yml", "alerts.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_accepts_the_rules_and_their_tests(arguments: tuple[str, ...]) -> None:
    """Prometheus' own tool checks the rules and plays the alerts."""
    done = subprocess.run([PROMTOOL, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
