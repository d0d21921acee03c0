"""The demo's report: a table, a contact sheet and a chart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import matplotlib as mpl
import numpy as np
from rich.table import Table

from onecopy.demo.conductor import PRODUCERS
from onecopy.demo.pipeline import LONGEST_SIDE
from onecopy.demo.roles import file_name

mpl.use("Agg")  # draws into files; needs no display

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from onecopy.demo.conductor import Job
    from onecopy.demo.measure import Measurement

    Image: TypeAlias = npt.NDArray[np.uint8]

_MIB = 1 << 20
_OURS, _THEIRS = "#0f766e", "#b45309"
_SHEET_PICTURES = 12


@dataclass(frozen=True)
class Comparison:
    """The measurements of both transports, and the job.

    Attributes
    ----------
    ours, theirs : Measurement
        onecopy's and multiprocessing.Queue's, over all rounds.
    job : Job
        What was done.
    rounds : int
        Runs of each.
    pictures : tuple of int
        The pictures of the source that have a result, in order.
    """

    ours: Measurement
    theirs: Measurement
    job: Job
    rounds: int
    pictures: tuple[int, ...]


@dataclass(frozen=True)
class _Row:
    title: str
    value: Callable[[Measurement], float]
    unit: str
    more_is_better: bool
    digits: int = 0

    def show(self, measurement: Measurement) -> str:
        value = self.value(measurement)
        return f"{value:,.{0 if value.is_integer() else self.digits}f}"

    def verdict(self, comparison: Comparison) -> str:
        """Return the ratio in words: how many times more or less."""
        ours, theirs = self.value(comparison.ours), self.value(comparison.theirs)
        if not ours and theirs:
            return "none"
        if not ours or not theirs:
            return "not measured"
        ratio = ours / theirs if self.more_is_better else theirs / ours
        good, bad = ("more", "less") if self.more_is_better else ("less", "more")
        return f"{ratio:.1f}x {good}" if ratio >= 1 else f"{1 / ratio:.1f}x {bad}"


_ROWS = (
    _Row("Frames per second", lambda m: m.rate, "frames/s", more_is_better=True),
    _Row(
        "Copies per frame", lambda m: m.copies_per_frame, "copies", more_is_better=False, digits=1
    ),
    _Row("CPU time per frame", lambda m: m.cpu_per_frame, "ms", more_is_better=False, digits=1),
    _Row("Peak memory", lambda m: m.peak_memory / _MIB, "MiB", more_is_better=False),
)


def table(comparison: Comparison) -> Table:
    """Draw the summary.

    Returns
    -------
    rich.table.Table
        One row per quantity.
    """
    drawn = Table(
        caption="Copies: of a picture or a result after it was made. CPU and memory (PSS): "
        "producers, workers and writer together.",
        caption_justify="left",
    )
    drawn.add_column("")
    drawn.add_column(comparison.ours.name, justify="right", style="bold green")
    drawn.add_column(comparison.theirs.name, justify="right")
    drawn.add_column("onecopy has", justify="right")
    for row in _ROWS:
        drawn.add_row(
            f"{row.title} ({row.unit})" if row.unit not in {"frames/s", "copies"} else row.title,
            row.show(comparison.ours),
            row.show(comparison.theirs),
            row.verdict(comparison),
        )
    return drawn


def write_chart(comparison: Comparison, path: Path) -> None:
    """Draw the four quantities side by side.

    Parameters
    ----------
    comparison : Comparison
        What to draw.
    path : pathlib.Path
        The PNG to write.
    """
    figure, axes = plt.subplots(1, len(_ROWS), figsize=(13, 4.8))
    job = comparison.job
    for axis, row in zip(axes, _ROWS, strict=True):
        values = [row.value(comparison.ours), row.value(comparison.theirs)]
        bars = axis.bar(
            ["onecopy", "multiprocessing\n.Queue"], values, color=[_OURS, _THEIRS], width=0.6
        )
        axis.bar_label(
            bars,
            [row.show(comparison.ours), row.show(comparison.theirs)],
            padding=3,
            fontsize=12,
            fontweight="bold",
        )
        hint = "more is better" if row.more_is_better else "less is better"
        axis.set_title(f"{row.title}\n", fontsize=13, fontweight="bold")
        axis.text(
            0.5, 1.02, f"{row.unit}, {hint}", transform=axis.transAxes, ha="center", color="#555555"
        )
        axis.set_ylim(0, max(*values, 1e-9) * 1.18)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="x", length=0)
    figure.suptitle("The same pictures and the same OpenCV pipeline, two ways", fontsize=15)
    height, width = job.source.largest
    rates = "; ".join(
        f"{measurement.name} {', '.join(f'{rate:,.0f}' for rate in measurement.rates)}"
        for measurement in (comparison.ours, comparison.theirs)
    )
    runs = f"{comparison.rounds} runs of {job.frames} frames each, in alternation"
    if comparison.rounds == 1:
        runs = f"one run of {job.frames} frames each, onecopy first"
    figure.text(
        0.5,
        0.02,
        f"{job.source.description}, up to {width}x{height}; {PRODUCERS} producers, {job.workers} "
        f"worker{'s' if job.workers > 1 else ''}, 1 writer on {os.cpu_count()} cores; {runs}\n"
        f"frames/s of each run: {rates}. Memory is the peak PSS of "
        "all these processes; copies are those made after decoding or computing.",
        ha="center",
        fontsize=9,
        color="#444444",
    )
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_contact_sheet(comparison: Comparison, path: Path) -> None:
    """Show pictures of the source, each beside its result.

    Parameters
    ----------
    comparison : Comparison
        It names the source, and the folder of the results.
    path : pathlib.Path
        The PNG to write.
    """
    job = comparison.job
    pairs: list[tuple[str, Image, Image]] = []
    # Take pictures from the whole source: the first frames of a video look alike.
    step = max(1, len(comparison.pictures) // _SHEET_PICTURES)
    for picture in comparison.pictures[::step][:_SHEET_PICTURES]:
        before = job.source.preview(picture)
        after = cv2.imread(str(job.out / file_name(job.source, picture)))
        if before is not None and after is not None:
            pairs.append((job.source.label(picture), before, np.asarray(after, np.uint8)))
    columns = max(1, min(3, len(pairs)))
    rows = max(1, -(-len(pairs) // columns))
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.2 * columns, 2.5 * rows + 0.6), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, (label, before, after) in zip(axes.flat, pairs, strict=False):
        height, width = after.shape[:2]
        thumbnail = cv2.resize(before, (width, height), interpolation=cv2.INTER_AREA)
        gap = np.full((height, max(2, width // 60), 3), 255, np.uint8)
        axis.imshow(np.hstack([thumbnail, gap, after])[..., ::-1])
        size = f"{before.shape[1]}x{before.shape[0]}"
        axis.set_title(f"{label}  ({size})", fontsize=10)
    figure.suptitle(
        f"Left: as decoded by the producers. Right: the result ({LONGEST_SIDE} px at most)",
        fontsize=13,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
