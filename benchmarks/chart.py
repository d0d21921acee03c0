"""Draw a result file into `docs/benchmarks.svg` (and a PNG, to look at): `make chart
ARGS=benchmarks/results/0.1.0.json`.

Four panels, each with all contenders of one case: frames, messages, latency to a receiver that
waits actively, and latency to one that sleeps. Bars are medians, lines go from the worst run to the
best. Scales are logarithmic where contenders differ a hundredfold. What is ours has a colour of its
own.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.tables import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

DOCS = Path(__file__).parent.parent / "docs"
OURS, THEIRS, YARDSTICK = "#c2410c", "#64748b", "#cbd5e1"


class Panel(NamedTuple):
    workload: str
    case: str
    title: str
    better: str


PANELS = (
    Panel("frames", "720x1080x3 uint8", "Frames of 2.33 MB, per second", "more is better"),
    Panel("messages", "one per call", "Messages of 64 bytes, per second", "more is better"),
    Panel("latency", "p50", "One way, both sides hot: p50, µs", "less is better"),
    Panel("cold", "p50", "One way, the receiver sleeps: p50, µs", "less is better"),
)


def series_of(document: dict[str, Any], panel: Panel) -> list[dict[str, Any]]:
    """The contenders that have a number, best first."""
    found = [
        series
        for workload in document["workloads"]
        if workload["workload"] == panel.workload
        for series in workload["series"]
        if series["case"] == panel.case and series["median"] is not None
    ]
    return sorted(
        found, key=lambda series: series["median"], reverse=panel.better.startswith("more")
    )


def colour(peer: str) -> str:
    if peer.startswith("("):
        return YARDSTICK
    return OURS if peer.startswith("onecopy") else THEIRS


def draw(axes: Axes, panel: Panel, found: Sequence[dict[str, Any]]) -> None:
    axes.set_title(f"{panel.title}\n({panel.better})", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    if not found:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    medians = [series["median"] for series in found]
    places = range(len(found))
    axes.barh(places, medians, color=[colour(series["peer"]) for series in found], height=0.7)
    low = [series["median"] - min(series["values"]) for series in found]
    high = [max(series["values"]) - series["median"] for series in found]
    axes.errorbar(
        medians, places, xerr=[low, high], fmt="none", ecolor="#0f172a", elinewidth=0.8, capsize=2
    )
    if max(medians) > 20 * min(medians):
        axes.set_xscale("log")
        axes.set_xlabel("logarithmic", fontsize=7, loc="right", labelpad=1)
        axes.set_xlim(min(medians) / 3, max(max(series["values"]) for series in found) * 8)
    else:
        axes.set_xlim(0, max(max(series["values"]) for series in found) * 1.25)
    for place, series in zip(places, found, strict=True):
        end = max(series["values"])
        axes.annotate(
            number(series["median"]),
            (end, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(list(places), [series["peer"] for series in found], fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.invert_yaxis()


def chart(document: dict[str, Any]) -> Any:
    figure, grid = plt.subplots(2, 2, figsize=(11, 8.2), layout="constrained")
    for axes, panel in zip(grid.flat, PANELS, strict=True):
        draw(axes, panel, series_of(document, panel))
    about = document["environment"]
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items() if found)
    figure.suptitle(
        f"onecopy and its peers: {about['cpu']}, {about['cores']} cores, "
        f"Linux {about['kernel'].split('-')[0]}, {about['python']}; "
        f"medians of {document['runs']} interleaved runs of {document['seconds']:g} s, "
        f"commit {about.get('commit', 'unknown')}\n{versions}",
        fontsize=8,
        x=0.01,
        ha="left",
        wrap=True,
    )
    return figure


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chart", description=__doc__)
    parser.add_argument("results", type=Path, help="a file that the benchmarks have written")
    parser.add_argument(
        "--out", type=Path, default=DOCS / "benchmarks.svg", help="where the drawing goes"
    )
    chosen = parser.parse_args(arguments)
    # The same drawing for the same numbers: no date and no random identifiers in it.
    mpl.rcParams["svg.hashsalt"] = "onecopy"
    figure = chart(json.loads(chosen.results.read_text(encoding="utf-8")))
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if chosen.out.suffix == ".svg" else None
    figure.savefig(chosen.out, metadata=metadata, dpi=110)
    print(chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
