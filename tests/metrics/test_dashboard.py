"""The dashboard in examples/grafana asks only for what `onecopy metrics` exports."""

from __future__ import annotations

import json
import re
from pathlib import Path

from onecopy.metrics.names import METRICS

FOLDER = Path(__file__).parents[2] / "examples" / "grafana"
DASHBOARD = json.loads((FOLDER / "onecopy.json").read_text(encoding="utf-8"))
TARGETS = [
    (panel["title"], target) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
]


def test_each_query_names_figures_and_labels_that_are_exported():
    assert len(TARGETS) > 10
    for title, target in TARGETS:
        query = target["expr"]
        names = re.findall(r"onecopy_\w+", query)
        assert names, title
        for name in names:
            assert name in METRICS, (title, name)
        common = set.intersection(*(set(METRICS[name].labels) for name in names))
        grouped = [
            label for words in re.findall(r"by \(([^)]*)\)", query) for label in words.split(", ")
        ]
        used = set(re.findall(r"[{,]\s*(\w+)\s*=", query)) | set(grouped)
        used |= set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert used <= common, title


def test_rates_are_asked_for_counters_only():
    for title, target in TARGETS:
        for name in re.findall(r"onecopy_\w+", target["expr"]):
            rated = re.search(rf"rate\({name}\b", target["expr"]) is not None
            assert rated == (METRICS[name].kind == "counter"), title


def test_brackets_match():
    for title, target in TARGETS:
        for opening, closing in ("()", "{}", "[]"):
            assert target["expr"].count(opening) == target["expr"].count(closing), title


def test_the_pools_to_choose_from_are_those_that_are_exported():
    (variable,) = [each for each in DASHBOARD["templating"]["list"] if each["name"] == "pool"]
    name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
    assert label in METRICS[name].labels


def test_panels_do_not_overlap():
    places = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        own = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not own & places, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        places |= own
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_asks_the_default_port():
    import inspect

    from onecopy.cli.metrics import metrics

    port = inspect.signature(metrics).parameters["port"].default
    assert f"127.0.0.1:{port}" in (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
