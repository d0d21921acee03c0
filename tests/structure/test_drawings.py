"""clang-format keeps the drawings in comments of the native core: their lines begin with `//|`.

It fills all other comments to the width of a line, which moves the columns of a drawing.
"""

import re
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"

# A comment on a line of its own, with two or more blanks between words.
DRAWING = re.compile(r"^\s*//(?!\|)\s*(?:\S.*)?\S {2,}\S")


def unmarked(name: str, text: str) -> list[str]:
    return [
        f"{name}:{number}: a drawing: begin its lines with //|"
        for number, line in enumerate(text.splitlines(), 1)
        if DRAWING.match(line)
    ]


def test_every_drawing_is_marked() -> None:
    found = []
    for path in sorted([*NATIVE.rglob("*.cpp"), *NATIVE.rglob("*.hpp")]):
        found += unmarked(path.relative_to(NATIVE).as_posix(), path.read_text(encoding="utf-8"))
    assert found == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("//   0    magic\n//   8    version\n", 2),
        ("    // a  b\n", 1),
        ("//|  0    magic\n", 0),
        ("// One sentence.\n//   * a rule\n//     of two lines\n", 0),
        ("int a;  // one  word\n", 0),
    ],
)
def test_what_is_found(text: str, count: int) -> None:
    assert len(unmarked("a.hpp", text)) == count
