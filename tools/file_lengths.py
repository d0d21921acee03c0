"""Check that no source file is too long; part of `make lint`.

A file of more than `LIMIT` lines says at its top, in its docstring or in a comment, why it is not
several files. The sentence has a fixed form, so that it is found and so that it can be read alone:

    This file has more than 600 lines because <reason>.

A file that has the sentence and is shorter is an error too. `TEMPORARY` has the files that are
being split. An entry that nothing needs any more is an error: take it out.

Usage: python tools/file_lengths.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "native", "tests", "tools", "benchmarks", "examples")
SUFFIXES = {".py", ".pyi", ".cpp", ".hpp", ".h", ".sh"}
LIMIT = 600
TOP = 40  # lines that may have the sentence
SENTENCE = re.compile(rf"This file has more than {LIMIT} lines because \w[^.]*\.")
TEMPORARY: set[str] = set()


def says_why(lines: list[str]) -> bool:
    """Tell whether the sentence is at the top, on one line or on several."""
    top = " ".join(re.sub(r"^\s*(#|//[/!]?|\*|/\*+)?\s*", "", line) for line in lines[:TOP])
    return SENTENCE.search(re.sub(r"\s+", " ", top)) is not None


def problem(name: str, lines: list[str], *, temporary: bool = False) -> str | None:
    """Return what is wrong with the length of a file, if anything is."""
    long, explained = len(lines) > LIMIT, says_why(lines)
    if temporary:
        return None if long and not explained else f"TEMPORARY: {name} needs no entry any more"
    if long and not explained:
        return (
            f"{name}: {len(lines)} lines. Split it by subject, or say at its top: "
            f"'This file has more than {LIMIT} lines because ...'"
        )
    if explained and not long:
        return f"{name}: {len(lines)} lines, so the sentence about its length is not true"
    return None


def main() -> int:
    """Check all files; return the exit status."""
    wrong = []
    seen = set()
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")):
        if path.suffix in SUFFIXES and "__pycache__" not in path.parts:
            name = path.relative_to(ROOT).as_posix()
            seen.add(name)
            lines = path.read_text(encoding="utf-8").splitlines()
            wrong.append(problem(name, lines, temporary=name in TEMPORARY))
    wrong += [f"TEMPORARY: there is no {name}" for name in sorted(TEMPORARY - seen)]
    found = [each for each in wrong if each]
    sys.stderr.writelines(f"{each}\n" for each in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
