"""The planted bugs stand in the sources as their entries say. `make plant` plants them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from planted import BUGS

if TYPE_CHECKING:
    from planted_bug import Bug

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_the_text_of_a_planted_bug_stands_once(bug: Bug) -> None:
    source = (ROOT / bug.file).read_text(encoding="utf-8")
    for old, new in ((bug.old, bug.new), *bug.more):
        assert source.count(old) == 1, f"{bug.file} has changed: adapt the entry"
        assert old != new


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.test], ids=lambda bug: bug.name)
def test_the_test_that_has_to_notice_it_is_there(bug: Bug) -> None:
    path, _, name = bug.test.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not name or f"def {name.split('[')[0]}(" in text


def test_no_two_bugs_have_the_same_name() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS)
