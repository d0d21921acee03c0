"""Draws the results of `compare.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")  # draws into files; needs no display

from matplotlib import pyplot as plt
from ways import ROW

if TYPE_CHECKING:
    from pathlib import Path

    from compare import Result
    from matplotlib.axes import Axes

OURS, THEIRS, QUIET = "#0f766e", "#b8c0c8", "#555555"


def draw(found: dict[int, dict[str, Result]], workers: int, tasks: int, path: Path) -> None:
    figure, axes = plt.subplots(
        len(found), 3, figsize=(13, 1.1 + 2.3 * len(found)), squeeze=False, layout="constrained"
    )
    for number, (rows, results) in enumerate(found.items()):
        size = rows * ROW.itemsize
        ways = list(results)
        figures = results.values()
        panels = (
            ("wall time", [result.seconds for result in figures], seconds),
            ("memory of all processes", [result.memory / size for result in figures], copies),
            ("allocated by the caller", [result.allocated / 1e6 for result in figures], megabytes),
        )
        for axis, (title, values, label) in zip(axes[number], panels, strict=True):
            bars(axis, ways, values, label)
            if number == 0:
                axis.set_title(title, loc="left", fontsize=11, color=QUIET)
            if axis is not axes[number][0]:
                axis.set_yticklabels([])
        axes[number][0].set_ylabel(f"{rows:,} rows\n{size / 1e6:,.0f} MB", fontsize=11, labelpad=12)
    figure.suptitle(headline(found), fontsize=14, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel(
        f"{tasks} tasks in {workers} workers, each adds up a column of the whole table. Wall time: "
        "executor, copying, tasks, end. Memory: what the table adds to the PSS while every "
        "worker has it.\nAllocated: peak of tracemalloc, besides the table itself.",
        fontsize=9,
        color=QUIET,
        x=0.01,
        ha="left",
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def headline(found: dict[int, dict[str, Result]]) -> str:
    """Summarize the results for the largest table."""
    rows = max(found)
    theirs, ours = found[rows]["ProcessPoolExecutor"], found[rows]["onecopy, table in the pool"]
    size = rows * ROW.itemsize
    return (
        f"One table of {size / 1e6:,.0f} MB for all workers: {seconds(ours.seconds)} and "
        f"{copies(ours.memory / size)} of it, instead of {seconds(theirs.seconds)} and "
        f"{copies(theirs.memory / size)}"
    )


def bars(axis: Axes, ways: list[str], values: list[float], label: object) -> None:
    colors = [OURS if way.startswith("onecopy") else THEIRS for way in ways]
    drawn = axis.barh(ways, values, color=colors, height=0.68)
    axis.bar_label(drawn, [label(value) for value in values], padding=4, fontsize=10)
    axis.invert_yaxis()
    axis.set_xlim(0, max(*values, 1e-9) * 1.3)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.0f} ms"


def copies(value: float) -> str:
    return f"{value:.1f} {'copy' if round(value, 1) == 1 else 'copies'}"


def megabytes(value: float) -> str:
    return f"{value:,.0f} MB" if value >= 1 else f"{value * 1e3:,.0f} KB"
