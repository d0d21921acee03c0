"""`python -m benchmarks`: run workloads, print tables, write results (see README.md)."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import environment, tables, workloads
from benchmarks.harness import Options, clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.report import Report

HERE = Path(__file__).parent
RESULTS = HERE.parent / "build" / "benchmarks"
RELEASES = HERE / "results"
LIMIT_MINUTES = 90


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workload",
        nargs="*",
        metavar="WORKLOAD",
        help=f"of {', '.join(workloads.NAMES)}; default: all",
    )
    parser.add_argument("--quick", action="store_true", help="one short run each: does it work?")
    parser.add_argument("--runs", type=int, help="runs the medians are of (default: 5)")
    parser.add_argument("--seconds", type=float, help="length of a measured run (default: 1)")
    parser.add_argument("--peers", help="only contenders whose names begin so, comma-separated")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT_MINUTES,
        metavar="MINUTES",
        help=f"begin no workload after so many minutes (default: {LIMIT_MINUTES})",
    )
    parser.add_argument(
        "--release",
        action="store_true",
        help="write results/VERSION.json: all workloads, of a commit without changes",
    )
    parser.add_argument("--list", action="store_true", help="say what each workload measures")
    parser.add_argument("--verbose", action="store_true", help="show every single run")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.workload) - set(workloads.NAMES))
    if unknown:
        parser.error(f"no workload {', '.join(unknown)}; there are {', '.join(workloads.NAMES)}")
    if chosen.runs is not None and chosen.runs < 1:
        parser.error("--runs must be at least 1")
    if chosen.seconds is not None and chosen.seconds <= 0:
        parser.error("--seconds must be above 0")
    if chosen.release:
        if chosen.quick or chosen.peers or chosen.workload:
            parser.error(
                "--release measures everything: it goes with none of --quick, --peers, WORKLOAD"
            )
        if environment.commit().endswith(("+", "unknown")):
            parser.error("--release: commit first, so that the results belong to a commit")
        chosen.out = RELEASES
    return chosen


def options_of(chosen: argparse.Namespace) -> Options:
    quick = chosen.quick
    return Options(
        runs=chosen.runs or (1 if quick else 5),
        seconds=chosen.seconds or (0.2 if quick else 1.0),
        quick=quick,
        peers=frozenset(chosen.peers.split(",")) if chosen.peers else None,
        say=(lambda line: print(line, file=sys.stderr, flush=True)) if chosen.verbose else _silent,
    )


def _silent(_line: str) -> None:
    return


def write(folder: Path, name: str, document: dict[str, Any]) -> Path:
    """Store the results so far, so that they survive if a later workload ends the program."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parse(arguments)
    if chosen.list:
        for name in workloads.NAMES:
            print(f"{name:10s} {(workloads.load(name).__doc__ or '').splitlines()[0]}")
        return 0
    options = options_of(chosen)
    began = datetime.now(UTC)
    document: dict[str, Any] = {
        "began": began.isoformat(timespec="seconds"),
        "quick": options.quick,
        "runs": options.runs,
        "seconds": options.seconds,
        "environment": environment.record(),
        "workloads": [],
    }
    tables.show_environment(document)
    name = f"{began:%Y%m%d-%H%M%S}{'-quick' if options.quick else ''}.json"
    if chosen.release:
        name = f"{environment.version('onecopy')}.json"
    reports: list[Report] = []
    began_at = clock()
    path = chosen.out / name
    for workload in (
        entry for entry in workloads.NAMES if entry in (chosen.workload or workloads.NAMES)
    ):
        if clock() - began_at > 60 * chosen.limit:
            print(f"{workload}: not begun, {chosen.limit:g} minutes are over (--limit)")
            document.setdefault("not_begun", []).append(workload)
            path = write(chosen.out, name, document)
            continue
        print(f"\n{workload} ...", file=sys.stderr, flush=True)
        start = clock()
        report = workloads.load(workload).run(options)
        reports.append(report)
        tables.show_report(report)
        document["workloads"].append(report.as_json() | {"took_seconds": clock() - start})
        path = write(chosen.out, name, document)
    tables.show_targets(reports)
    print(f"\nresults: {path}")
    missed = any(target.met is False for report in reports for target in report.targets)
    return 1 if chosen.strict and missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
