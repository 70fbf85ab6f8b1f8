"""The Grafana dashboard asks for what we emit, and Grafana can load it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from resilience.telemetry import names

DASHBOARD = Path(__file__).parents[2] / "dashboards" / "resilience.json"
ASKED = re.compile(r"\b(?:resilience|gen_ai)_\w+")
PARTS = re.compile(r"_(?:bucket|sum|count)$")
LABELS = {
    "client",
    "error_type",
    "from_client",
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


def test_every_metric_it_asks_for_is_one_of_ours(dashboard: dict[str, Any]) -> None:
    """No query names a metric that neither OpenTelemetry's exporter nor our own text would have."""
    emitted = {metric.prometheus for metric in names.METRICS}
    variables = [variable["definition"] for variable in dashboard["templating"]["list"][1:]]
    asked = {
        PARTS.sub("", name) for text in (*queries(dashboard), *variables) for name in ASKED.findall(text)
    }

    assert set() == asked - emitted
    assert len(asked) >= 12


def test_parts_of_histograms_are_asked_of_histograms_alone(dashboard: dict[str, Any]) -> None:
    """`_bucket`, `_sum` and `_count` stand behind metrics that have them."""
    histograms = {metric.prometheus for metric in names.METRICS if metric.kind is names.Kind.HISTOGRAM}
    parted = {name for text in queries(dashboard) for name in ASKED.findall(text) if PARTS.search(name)}

    assert parted
    assert {PARTS.sub("", name) for name in parted} <= histograms


def test_every_label_it_asks_for_is_one_of_ours(dashboard: dict[str, Any]) -> None:
    """What it groups and selects by are labels we give."""
    grouped = {
        name.strip()
        for text in queries(dashboard)
        for group in re.findall(r"by \(([^)]*)\)", text)
        for name in group.split(",")
    }
    selected = {name for text in queries(dashboard) for name in re.findall(r"[{,](\w+)(?:=~|!=|=)", text)}

    assert set() == (grouped | selected) - LABELS


def test_panels_are_told_apart_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    """Ids are unique, each panel lies within the grid of 24 columns, and no two share a place."""
    panels = dashboard["panels"]
    places = [panel["gridPos"] for panel in panels]
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(panels) == len({panel["id"] for panel in panels})
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert len(taken) == len(set(taken))


def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    """Each has a title of its own, a description and a legend for each query, and takes the data source that was chosen."""
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]

    assert len(panels) == len({panel["title"] for panel in panels})
    assert all(panel["description"] for panel in panels)
    assert all(target["legendFormat"] for panel in panels for target in panel["targets"])
    assert {"${datasource}"} == {panel["datasource"]["uid"] for panel in panels}
