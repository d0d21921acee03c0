"""Check the labels of release stores and acquire loads in the native core; part of `make lint`.

A store with release makes what was written before it visible to a load with acquire that reads its
value. The two stand in different functions, often in different files. So both carry one label in a
comment, as in `[queue.tail]`. Three rules:

* Every `store_release` and every `load_acquire` of shared memory has a label: in its own line, or
  in the comment right above its statement.
* Every label of a release stands at an acquire too, and the other way round. Everything else that
  carries one counts as both: a sequentially consistent operation (`store`, `load`, `cas`,
  `exchange`, `fetch_*`), a fence, or a call that has one of these inside.
* Every label stands at two statements at least.

A label is `[subject.word]` or `[word/word]`. The second form is for two variables of which each
side stores one and then loads the other.

Usage: python tools/native_labels.py
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

NATIVE = Path(__file__).resolve().parents[1] / "native"
LABEL = re.compile(r"\[([a-z_]+(?:[./][a-z_]+)+)\]")
RELEASE = re.compile(r"\bstore_release\(")
ACQUIRE = re.compile(r"\bload_acquire\(")
LEFT_OUT = {"base/shm_atomic.hpp"}  # defines the operations


@dataclass
class Ends:
    """Where a label stands, at a release and at an acquire."""

    release: list[str] = field(default_factory=list)
    acquire: list[str] = field(default_factory=list)


def statements(text: str) -> list[tuple[int, str, str]]:
    """Split a file: number of its first line, code and comments of each statement."""
    found = []
    start, code, comment = 1, "", ""
    for number, line in enumerate(text.splitlines(), 1):
        body, _, said = line.partition("//")
        comment += " " + said
        if body.strip():
            if not code.strip():
                start = number
            code += " " + body
        if re.search(r"[;{}]\s*$", body):
            found.append((start, code, comment))
            code = comment = ""
    return [*found, (start, code, comment)]


def problems(native: Path) -> list[str]:
    """List what is wrong with the labels of all files below a folder."""
    labels: dict[str, Ends] = {}
    wrong = []
    for path in sorted([*native.rglob("*.cpp"), *native.rglob("*.hpp")]):
        name = path.relative_to(native).as_posix()
        if name in LEFT_OUT or name.startswith("tests/"):
            continue
        for line, code, comment in statements(path.read_text(encoding="utf-8")):
            here = f"{name}:{line}"
            said = LABEL.findall(comment)
            releases, acquires = RELEASE.search(code), ACQUIRE.search(code)
            if (releases or acquires) and not said:
                wrong.append(f"{here}: no label: {' '.join(code.split())[:90]}")
            for label in said:
                ends = labels.setdefault(label, Ends())
                if releases or not acquires:
                    ends.release.append(here)
                if acquires or not releases:
                    ends.acquire.append(here)
    for label, ends in sorted(labels.items()):
        if len({*ends.release, *ends.acquire}) < 2:
            wrong.append(f"[{label}] stands once: {', '.join(ends.release or ends.acquire)}")
        elif not ends.release:
            wrong.append(f"[{label}] stands at no release: {', '.join(ends.acquire)}")
        elif not ends.acquire:
            wrong.append(f"[{label}] stands at no acquire: {', '.join(ends.release)}")
    return wrong


def main() -> int:
    """Check all files; give the exit status."""
    wrong = problems(NATIVE)
    sys.stderr.writelines(f"{each}\n" for each in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
