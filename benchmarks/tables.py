"""Tables on the terminal: by rich if it is installed, else with spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.report import NOT_ASKED_FOR, times_better

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.report import Report, Series, Target

OURS = "onecopy"
NONE = "-"


def number(value: float | None, unit: str = "") -> str:
    """Format a number with three or more significant digits and separators of thousands."""
    if value is None:
        return NONE
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}{' ' if unit and unit != 'x' else ''}{unit}"


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print one table; columns after the second are numbers."""
    lines = [list(row) for row in rows]
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        _plain(title, heads, lines)
        return
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for index, head in enumerate(heads):
        drawn.add_column(head, justify="left" if index < 2 else "right", overflow="fold")
    styles = {"met": "green", "MISSED": "bold red", "not measured": "yellow"}
    for row in lines:
        bold = "bold" if any(cell.split(" ")[0] == OURS for cell in row[:2]) else ""
        drawn.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row), style=bold)
    console = Console()
    if not console.is_terminal:
        # A file or a pipe has no width. rich would fold rows at an invented width.
        console.width = 140
    console.print(drawn)


def _plain(title: str, heads: Sequence[str], rows: list[list[str]]) -> None:
    widths = [max(len(line[i]) for line in (heads, *rows)) for i in range(len(heads))]
    print(title)
    for line in (heads, ["-" * width for width in widths], *rows):
        cells = (
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(cells).rstrip())


def show_environment(document: dict[str, Any]) -> None:
    about = document["environment"]
    versions = (f"{name} {found}" for name, found in about["versions"].items() if found)
    print(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, {about['python']}")
    print(", ".join(versions))
    kind = "quick look: " if document["quick"] else ""
    print(f"{kind}medians of {document['runs']} interleaved runs, {document['seconds']:g} s each")


def show_report(report: Report) -> None:
    if report.series:
        show_series(report)
    if report.facts:
        show_facts(report)
    for name, why in report.skipped.items():
        if why != NOT_ASKED_FOR:
            print(f"  skipped: {name} ({why})")
    unasked = [name for name, why in report.skipped.items() if why == NOT_ASKED_FOR]
    if unasked:
        print(f"  {NOT_ASKED_FOR}: {', '.join(unasked)}")
    for note in report.notes:
        print(f"  {note}")


def show_facts(report: Report) -> None:
    questions = list(dict.fromkeys(name for answers in report.facts.values() for name in answers))
    rows = [
        [peer, *(answers.get(name, NONE) for name in questions)]
        for peer, answers in report.facts.items()
    ]
    table(f"{report.workload}: {report.title}", ["contender", *questions], rows)


def show_series(report: Report) -> None:
    heads = ["case", "contender", "median", "min", "max", "unit"]
    if report.baseline:
        heads.append(f"times {report.baseline}")
    heads.append("onecopy is")
    table(
        f"{report.workload}: {report.title}",
        heads,
        (_row(report, series) for series in report.series),
    )


def _row(report: Report, series: Series) -> list[str]:
    values = series.values
    row = [
        series.case,
        series.peer,
        number(series.median) if values else "failed",
        number(min(values)) if values else NONE,
        number(max(values)) if values else NONE,
        series.unit,
    ]
    if report.baseline:
        reference = report.reference(series.case)
        row.append(number(times_better(series.unit, series.median, reference), "x"))
    ours = report.median(series.case, OURS)
    better = None if series.peer == OURS else times_better(series.unit, ours, series.median)
    row.append(number(better, "x"))
    return row


def show_targets(reports: Sequence[Report]) -> None:
    rows = [_target(report, target) for report in reports for target in report.targets]
    table("targets", ["workload", "target", "wanted", "measured", ""], rows)
    for report in reports:
        for series in report.series:
            if series.failure:
                print(f"failed: {report.workload}, {series.case}, {series.peer}: {series.failure}")


def _target(report: Report, target: Target) -> list[str]:
    sign = "at least" if target.at_least else "at most"
    return [
        report.workload,
        target.text,
        f"{sign} {number(target.limit, target.unit)}",
        number(target.measured, target.unit),
        target.verdict,
    ]
