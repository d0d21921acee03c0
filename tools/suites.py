"""Run CPython's own tests against the wheels that `make wheels` has made; `make suites`.

For each version of Python: the tests of multiprocessing against the drop-in, and those of
concurrent.futures against `Executor`, by each start method, in the environment in which `make
wheels` has tried the wheel. What does not apply is in `tests/stdlib`, with the reasons. One table
has the counts. It is in `build/wheels/suites.md`, too. The output of a version is in
`build/wheels/3.14/suites.txt`.

Usage: python tools/suites.py [--method spawn] [3.14 3.15 ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import wheels

if TYPE_CHECKING:
    from pathlib import Path

SUITES = {"multiprocessing": "tests.stdlib", "concurrent.futures": "tests.stdlib.futures"}
METHODS = ("fork", "spawn", "forkserver")
LIMIT = "1800"  # seconds for one suite by one start method
KEPT = "suites.json"
HEAD = [
    *("Python", "suite", "start method", "ran", "skipped", "failed", "excluded", "seconds"),
    *("wheel of", "tests of"),
]


@dataclass
class Run:
    """One suite by one start method. Without counts: it has not come to its end."""

    release: str
    suite: str
    method: str
    seconds: int
    wheel_of: str
    tests_of: str
    passed: bool
    counts: dict[str, int]

    def cells(self) -> list[str]:
        """Return the row's texts."""
        names = ("ran", "skipped", "failed", "excluded")
        counts = [str(self.counts.get(name, "no end")) for name in names]
        if not self.passed and not self.counts.get("failed"):
            counts[2] = "the run"  # all tests passed, and the program has failed
        return [
            *(self.release, self.suite, self.method, *counts),
            *(str(self.seconds), self.wheel_of, self.tests_of),
        ]


def counts_in(output: str) -> dict[str, int]:
    """Return the numbers that a suite has printed at its end; none: it has not got there."""
    for line in reversed(output.splitlines()):
        if line.startswith('{"python"'):
            return {name: each for name, each in json.loads(line).items() if isinstance(each, int)}
    return {}


def run(python: wheels.Python, row: wheels.Row, suite: str, method: str) -> Run:
    """Run one suite by one start method."""
    bin_ = python.folder / "env/bin"
    command = ("timeout", LIMIT, bin_ / "python", "-m", SUITES[suite], "--method", method)
    tests_of = wheels.commit()
    begin = time.monotonic()
    try:
        said, passed = python.run(*command, PATH=python.path(bin_.parent)), True
    except subprocess.CalledProcessError as error:
        said, passed = error.output, False
    seconds = round(time.monotonic() - begin)
    return Run(
        *(row.release, suite, method, seconds, row.source.commit, tests_of),
        *(passed, counts_in(said)),
    )


def read(folder: Path) -> list[Run]:
    """Return the runs that earlier calls have kept."""
    try:
        return [Run(**each) for each in json.loads((folder / KEPT).read_text("utf-8"))]
    except FileNotFoundError:
        return []


def keep(folder: Path, new: Run) -> None:
    """Keep a run, instead of an earlier one of the same suite and start method."""
    runs = [each for each in read(folder) if (each.suite, each.method) != (new.suite, new.method)]
    order = [(suite, method) for suite in SUITES for method in METHODS]
    runs = sorted([*runs, new], key=lambda each: order.index((each.suite, each.method)))
    text = json.dumps([asdict(each) for each in runs], indent=2)
    (folder / KEPT).write_text(text + "\n", "utf-8")


def report(work: Path = wheels.WORK) -> str:
    """Write the table with the runs of this call and of earlier ones, and return it."""
    runs = [each for version in wheels.VERSIONS for each in read(work / version)]
    text = wheels.table([HEAD, *(each.cells() for each in runs)])
    (work / "suites.md").write_text(text, "utf-8")
    return text


def main() -> int:
    """Run the suites for the versions that were given, or all; the status says if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=METHODS, action="append", help="default: all three")
    parser.add_argument("versions", nargs="*", metavar="VERSION")
    options = parser.parse_args()
    if not set(options.versions) <= set(wheels.VERSIONS):
        parser.error(f"versions: {', '.join(wheels.VERSIONS)}")
    failed = False
    for version in options.versions or wheels.VERSIONS:
        python = wheels.find(version)
        row = wheels.Row.read(wheels.WORK / version)
        if python is None or row is None or not row.proof:
            print(f"Python {version}: no wheel was tried; make wheels VERSIONS={version}")
            failed |= bool(options.versions)
            continue
        python.log = python.folder / "suites.txt"
        print(f"**** Python {row.release}; log: {python.log}", flush=True)
        for suite in SUITES:
            for method in options.method or METHODS:
                done = run(python, row, suite, method)
                keep(python.folder, done)
                failed |= not done.passed
                report()
    print("\n" + report())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
