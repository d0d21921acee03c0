"""Two commits on one machine, hot path by hot path: `make bench-compare A=v0.1.0 B=HEAD`.

Each commit is taken out of git into a folder of its own under `build/compare/`, and built into an
environment of its own with the Python and the numpy of this one. Then `hotpaths.py` of *this*
checkout runs in both environments in turn, A B, B A, A B, ..., each time in a fresh process.

What is tested is the pair: the two times that were measured one after the other. A machine that is
slow for a minute is slow for both. The test is Wilcoxon's signed-rank test, exact, over all signs
of the pairs; Holm's correction is for the ten paths that are tested at once. The interval is the
bootstrap's, of the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import tables
from benchmarks.environment import git, record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
FOLDER = HERE.parent / "build" / "compare"
SCRIPT = HERE / "hotpaths.py"
# Pairs of processes. More than 20 would take long to test exactly.
PAIRS, MOST_PAIRS, FEWEST_PAIRS = 15, 20, 12
# A difference is beyond noise when chance makes one as large so rarely, and when it is worth a word
# at all.
LEVEL, SMALLEST = 0.01, 0.01
BOOTSTRAPS = 4000
RUN_LIMIT = 300.0


def signed_rank_p(differences: np.ndarray) -> float:
    """How often signs drawn by chance give a sum of signed ranks as far from 0: 1.0 for no
    difference at all.
    """
    differences = differences[differences != 0]
    count = len(differences)
    if count == 0:
        return 1.0
    sizes = np.abs(differences)
    # Ranks from 1; equal sizes share the mean of theirs.
    ranks = np.array([(sizes < size).sum() + ((sizes == size).sum() + 1) / 2 for size in sizes])
    observed = abs(float((np.sign(differences) * ranks).sum()))
    # All sums of ranks with either sign, built up one rank at a time.
    sums = np.zeros(1)
    for rank in ranks:
        sums = np.concatenate([sums + rank, sums - rank])
    return float((np.abs(sums) >= observed - 1e-9).mean())


def holm(values: Sequence[float]) -> list[float]:
    """The same p-values, raised for having been asked for together (Holm 1979)."""
    corrected = [1.0] * len(values)
    highest = 0.0
    for position, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - position) * values[index]))
        corrected[index] = highest
    return corrected


def interval(ratios: np.ndarray) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median; from a fixed seed, so that the same times give
    the same interval.
    """
    drawn = np.random.default_rng(7).choice(ratios, (BOOTSTRAPS, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return float(low), float(high)


def judge(
    times: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> dict[str, dict[str, Any]]:
    """From the times of A and of B of each path, pair by pair: medians, ratio, interval, p,
    verdict.
    """
    found: dict[str, dict[str, Any]] = {}
    raw: dict[str, float] = {}
    for name, (first, second) in times.items():
        ratios = np.asarray(second) / np.asarray(first)
        raw[name] = signed_rank_p(np.log(ratios))
        low, high = interval(ratios)
        found[name] = {
            "a": float(np.median(first)),
            "b": float(np.median(second)),
            "ratio": float(np.median(ratios)),
            "low": low,
            "high": high,
        }
    for name, p in zip(raw, holm(list(raw.values())), strict=True):
        entry = found[name]
        beyond = p < LEVEL and abs(entry["ratio"] - 1) > SMALLEST
        entry["p"] = p
        entry["verdict"] = (
            ("B is slower" if entry["ratio"] > 1 else "B is faster") if beyond else "within noise"
        )
    return found


def build(name: str) -> tuple[str, Path]:
    """Build a commit into an environment of its own, unless that is there; its short hash and its
    Python.

    Raises
    ------
    subprocess.CalledProcessError
        If there is no such commit, or if it does not build.
    """
    commit = git("rev-parse", "--short=12", f"{name}^{{commit}}").decode().strip()
    folder = FOLDER / commit
    python, done = folder / "venv" / "bin" / "python", folder / "done"
    # The same compiler options and numpy for both, or they are not built alike.
    wanted = json.dumps(
        [sys.version, np.__version__, os.environ.get("CXX"), os.environ.get("CXXFLAGS")]
    )
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return commit, python
    print(f"building {commit} ({name}) in {folder}", file=sys.stderr, flush=True)
    tree = folder / "tree"
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as archive:
        archive.extractall(tree, filter="data")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], check=True)
    with (tree / "pyproject.toml").open("rb") as file:
        requires = tomllib.load(file)["build-system"]["requires"]
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, *requires, "cmake>=3.26", "ninja", f"numpy=={np.__version__}"], check=True
    )
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", str(tree)], check=True)
    done.write_text(wanted, encoding="utf-8")
    return commit, python


def run(python: Path) -> dict[str, float | str]:
    """The times of one process: nanoseconds by path, or why there are none."""
    command = [str(python), "-I", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=RUN_LIMIT)
    found: dict[str, float | str] = json.loads(done.stdout)
    return found


def measure(
    first: Path, second: Path, pairs: int
) -> tuple[dict[str, tuple[list[float], list[float]]], dict[str, str]]:
    """The times of both, pair by pair; and the paths that one of them has not, with the reason."""
    times: dict[str, tuple[list[float], list[float]]] = {}
    missing: dict[str, str] = {}
    for number in range(pairs):
        found = [{}, {}]  # type: list[dict[str, float | str]]
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            found[which] = run((first, second)[which])
        for name, here in found[0].items():
            there = found[1][name]
            if isinstance(here, str) or isinstance(there, str):
                missing[name] = f"A: {here}" if isinstance(here, str) else f"B: {there}"
                continue
            times.setdefault(name, ([], []))[0].append(here)
            times[name][1].append(there)
        print(f"  pair {number + 1} of {pairs}", file=sys.stderr, flush=True)
    return times, missing


def show(
    commits: Sequence[str], found: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]
) -> None:
    rows = [
        [
            name,
            entry["verdict"],
            *(f"{entry[side]:,.0f} ns" for side in ("a", "b")),
            f"{entry['ratio'] - 1:+.1%}",
            f"{entry['low'] - 1:+.1%} … {entry['high'] - 1:+.1%}",
            f"{entry['p']:.2g}",
        ]
        for name, entry in found.items()
    ]
    heads = ["hot path", "", "A", "B", "B against A", "95 % interval", "p (Holm)"]
    tables.table(f"A {commits[0]}, B {commits[1]}", heads, rows)
    for name, why in missing.items():
        print(f"  not compared: {name} ({why})")
    beyond = [name for name, entry in found.items() if entry["verdict"] != "within noise"]
    print(f"beyond noise: {', '.join(beyond) if beyond else 'nothing'}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("a", help="a commit: what is compared with")
    parser.add_argument("b", help="another one: what may be slower or faster")
    parser.add_argument(
        "--pairs", type=int, default=PAIRS, help=f"pairs of processes (default: {PAIRS})"
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the results")
    chosen = parser.parse_args(arguments)
    if not FEWEST_PAIRS <= chosen.pairs <= MOST_PAIRS:
        # Fewer cannot show any difference; the exact test doubles its work with each pair.
        parser.error(f"--pairs is from {FEWEST_PAIRS} to {MOST_PAIRS}")
    (first, python_a), (second, python_b) = build(chosen.a), build(chosen.b)
    times, missing = measure(python_a, python_b, chosen.pairs)
    found = judge(times)
    show((first, second), found, missing)
    document = {
        "a": first,
        "b": second,
        "environment": record(),
        "found": found,
        "missing": missing,
        "times": times,
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / f"{first}-{second}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"results: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
