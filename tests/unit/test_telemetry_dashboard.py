"""The Grafana dashboard queries metrics that we emit, and Grafana can load it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from resilience.telemetry import names

DASHBOARD = Path(__file__).parents[2] / "dashboards" / "resilience.json"
METRIC = re.compile(r"\b(?:resilience|gen_ai)_\w+")
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


def test_every_queried_metric_is_one_of_ours(dashboard: dict[str, Any]) -> None:
    """No query names a metric that is missing in both OpenTelemetry's exporter and our own text."""
    emitted = {metric.prometheus for metric in names.METRICS}
    variables = [variable["definition"] for variable in dashboard["templating"]["list"][1:]]
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
