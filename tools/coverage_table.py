"""Print how much of each folder the tests have run; part of `make coverage`.

Usage: python tools/coverage_table.py PYTHON.json CORE.json

The first file is what ``coverage json`` writes, the second what ``gcovr --json-summary`` writes.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Counts = tuple[str, int, int, int, int]  # folder; lines run, lines, branches taken, branches


def of_python(report: dict) -> Iterator[Counts]:
    """Count the files of a report of coverage.py."""
    for name, file in report["files"].items():
        total = file["summary"]
        yield (
            folder(name, "onecopy"),
            total["covered_lines"],
            total["num_statements"],
            total["covered_branches"],
            total["num_branches"],
        )


def of_core(report: dict) -> Iterator[Counts]:
    """Count the files of a report of gcovr."""
    for file in report["files"]:
        yield (
            folder(file["filename"], "native"),
            file["line_covered"],
            file["line_total"],
            file["branch_covered"],
            file["branch_total"],
        )


def folder(name: str, root: str) -> str:
    """Return the folder directly below the root that has the file; the root for other files."""
    parts = Path(name).parts
    below = parts[parts.index(root) + 1 :]
    return f"{root}/{below[0]}" if len(below) > 1 else f"{root}/*"


def table(counts: Iterator[Counts]) -> list[str]:
    """Yield a line for each folder, and one for all of them."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for name, *numbers in counts:
        for key in (name, "all"):
            sums[key] = [old + new for old, new in zip(sums[key], numbers, strict=True)]
    last = sums.pop("all", [0, 0, 0, 0])
    rows = [*sorted(sums.items()), ("all", last)]
    return [
        f"{name:<28}{lines:>7}{share(run, lines):>8}{branches:>10}{share(taken, branches):>8}"
        for name, (run, lines, taken, branches) in rows
    ]


def share(part: int, whole: int) -> str:
    """Format a percentage."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def main() -> None:
    """Print both tables."""
    python, core = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:3])
    head = f"{'':<28}{'lines':>7}{'run':>8}{'branches':>10}{'taken':>8}"
    lines = [head, *table(of_python(python)), "", head, *table(of_core(core))]
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
