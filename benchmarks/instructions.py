"""Instruction counts of the hot paths, compared with those in the repository: `make instructions`.

Counts do not depend on how busy the machine is. Callgrind counts them. A path is done N times and
then 2 N times; the difference divided by N is what one operation takes, and all that happens once
is gone from it.

They do depend on the compiler, on Python and on numpy. `instructions.json` has a list of counts for
each *setting* of those, and a count is only compared with one of the same setting. Where there is
none, or no valgrind, the check says that nothing was compared and ends with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.environment import commit

KEPT = Path(__file__).parent / "instructions.json"
SCRIPT = Path(__file__).parent / "hotpaths.py"
OPERATIONS = 500
# The part by which a count may differ, above or below. One that is lower should be kept as the new
# one.
TOLERANCE = 0.03
# The function whose call ends one profile and begins the next, as `hotpaths.mark` calls it.
MARK = "ctermid"
# What a profile is summed up by: everything, and what lies in the native core.
CORE = "_native"
NOT_RUN = "instruction counts: NOT COMPARED"

Counts = dict[str, dict[str, float]]


def setting(compiler: str) -> dict[str, str]:
    """What counts depend on: machine, and major versions of the compiler, Python and numpy."""
    import numpy as np

    return {
        "machine": platform.machine(),
        "compiler": compiler,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "numpy": np.__version__.partition(".")[0],
    }


def compiler_of(library: Path) -> str:
    """The compiler of a native library and its major version, as it wrote them into the comment
    section.

    Raises
    ------
    ValueError
        If there is no such section.
    """
    # Link-time optimization and the C library's own start files may add lines; the core's own
    # compiler is named most often by the newest, so a mixture shows as such.
    found = set(re.findall(rb"GCC: \([^)]*\) (\d+)\.|clang version (\d+)\.", library.read_bytes()))
    names = sorted(
        {f"gcc {gcc.decode()}" if gcc else f"clang {clang.decode()}" for gcc, clang in found}
    )
    if not names:
        msg = f"{library} does not say what compiled it"
        raise ValueError(msg)
    return " and ".join(names)


def profile(path: Path) -> dict[str, int]:
    """Instructions in one file of callgrind: in all, and in the native core.

    A line that begins with a position ends in a cost. One that follows `calls=` has the cost of a
    whole call, which is in the callee's lines too.
    """
    sums = {"all": 0, "core": 0}
    names: dict[str, str] = {}
    inside = called = False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("ob="):
            number, _, name = line[3:].partition(" ")
            if name:
                names[number] = name
            inside = CORE in Path(names.get(number, "")).name
        elif line.startswith("cob="):
            number, _, name = line[4:].partition(" ")
            if name:
                names[number] = name
        elif line.startswith("calls="):
            called = True
        elif line[:1] in tuple("0123456789+-*"):
            if not called:
                cost = int(line.rpartition(" ")[2])
                sums["all"] += cost
                sums["core"] += cost if inside else 0
            called = False
    return sums


def per_operation(once: dict[str, int], twice: dict[str, int], operations: int) -> dict[str, float]:
    """What one operation takes, from profiles of N and of 2 N of them."""
    return {part: round((twice[part] - once[part]) / operations, 1) for part in once}


def count(python: str, operations: int = OPERATIONS) -> Counts:
    """Run all paths under callgrind in a process of their own.

    Raises
    ------
    RuntimeError
        If it fails, with the end of what it wrote.
    """
    from benchmarks.hotpaths import PATHS

    with tempfile.TemporaryDirectory(prefix="onecopy-callgrind-") as folder:
        out = Path(folder) / "out"
        command = [
            *(
                "valgrind",
                "--tool=callgrind",
                f"--dump-before={MARK}",
                f"--callgrind-out-file={out}",
            ),
            *(python, "-I", str(SCRIPT), "count", str(operations)),
        ]
        # One order of sets and dicts, and no resolving of symbols in the middle.
        environment = os.environ | {"PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=1800
        )
        if done.returncode:
            raise RuntimeError(f"callgrind ended with {done.returncode}:\n{done.stderr[-2000:]}")
        # Three marks a path: the profile that ends at the first is the preparation.
        profiles = [Path(f"{out}.{number}") for number in range(1, 3 * len(PATHS) + 1)]
        missing = [path.name for path in profiles if not path.exists()]
        if missing:
            raise RuntimeError(
                f"callgrind wrote no {', '.join(missing)}: it did not see every call of {MARK}()"
            )
        return {
            name: per_operation(
                profile(profiles[3 * i + 1]), profile(profiles[3 * i + 2]), operations
            )
            for i, name in enumerate(PATHS)
        }


def differences(kept: Counts, found: Counts, tolerance: float = TOLERANCE) -> list[tuple[str, str]]:
    """A line on each path, and a verdict: "" when it is within the tolerance."""
    lines = []
    for name in sorted(kept.keys() | found.keys(), key=list(found | kept).index):
        if name not in kept or name not in found:
            where = "the repository" if name not in kept else "this check"
            lines.append((name, f"is not in {where}: keep new counts"))
            continue
        before, now = kept[name]["all"], found[name]["all"]
        change = now / before - 1
        core = found[name]["core"]
        text = f"{now:,.0f} instructions (core {core:,.0f}), kept {before:,.0f}: {change:+.1%}"
        verdict = "" if abs(change) <= tolerance else "MORE " if change > 0 else "fewer: keep them "
        lines.append((name, verdict + text if verdict else " " + text))
    return lines


def failed(lines: list[tuple[str, str]]) -> list[str]:
    """The paths that are not as they were kept."""
    return [name for name, text in lines if not text.startswith(" ")]


def load() -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = (
        json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else []
    )
    return kept


def keep(wanted: dict[str, str], found: Counts) -> None:
    """Store counts in place of those of the same setting."""
    entries = [entry for entry in load() if entry["setting"] != wanted]
    entries.append({"setting": wanted, "commit": commit(), "counts": found})
    KEPT.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="store the counts instead of comparing them"
    )
    chosen = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        print(f"{NOT_RUN}: valgrind is not installed (Debian, Ubuntu: apt-get install valgrind)")
        return 0
    import onecopy._native as native

    wanted = setting(compiler_of(Path(native.__file__)))
    kept = next((entry for entry in load() if entry["setting"] == wanted), None)
    if kept is None and not chosen.keep:
        print(f"{NOT_RUN}: none are kept for {_words(wanted)}; they are for:")
        for entry in load():
            print(f"  {_words(entry['setting'])}")
        print("  make instructions ARGS=--keep  stores those of this machine")
        return 0
    found = count(sys.executable)
    if chosen.keep:
        keep(wanted, found)
        print(f"instruction counts kept for {_words(wanted)}: {KEPT}")
        return 0
    assert kept is not None
    lines = differences(kept["counts"], found)
    print(f"instruction counts per operation, {_words(wanted)}, kept at {kept['commit']}:")
    for name, text in lines:
        print(f"  {name:44s} {text}")
    bad = failed(lines)
    if bad:
        print(f"{len(bad)} of {len(lines)} differ by more than {TOLERANCE:.0%}: {', '.join(bad)}")
        print("If that is meant, say why in the commit; make instructions ARGS=--keep stores them.")
    return 1 if bad else 0


def _words(wanted: dict[str, str]) -> str:
    machine, compiler, python, numpy = wanted.values()
    return f"{machine}, {compiler}, Python {python}, numpy {numpy}"


if __name__ == "__main__":
    sys.exit(main())
