"""`tools/file_lengths.py`: files that are too long, and files that say why they are."""

import runpy
from pathlib import Path

import pytest

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "file_lengths.py"))
LIMIT = TOOL["LIMIT"]
REASON = f"This file has more than {LIMIT} lines because a table cannot be cut."


def lines(count, *top):
    return [*top, *["x = 1"] * (count - len(top))]


@pytest.mark.parametrize(
    "top",
    [
        [f'"""A table. {REASON}"""'],
        ['"""A table.', "", *REASON.split(" ", 7), '"""'],
        [f"# {REASON}"],
        ["// A table.", *(f"// {part}" for part in REASON.split(" ", 8))],
    ],
)
def test_a_reason_is_found_in_every_form(top):
    assert TOOL["problem"]("a.py", lines(LIMIT + 1, *top)) is None


def test_a_long_file_needs_a_reason():
    assert TOOL["problem"]("a.py", lines(LIMIT)) is None
    assert "a.py: 601 lines" in TOOL["problem"]("a.py", lines(LIMIT + 1))
    assert TOOL["problem"]("a.py", lines(LIMIT + 1, "# It is long because it is.")) is not None


def test_a_reason_must_stand_at_the_top():
    late = [*lines(TOOL["TOP"]), f"# {REASON}"]
    assert TOOL["problem"]("a.py", late + lines(LIMIT)) is not None


def test_a_reason_that_is_not_true_is_an_error():
    assert "not true" in TOOL["problem"]("a.py", lines(LIMIT, f"# {REASON}"))


def test_an_entry_that_nothing_needs_is_an_error():
    assert TOOL["problem"]("a.py", lines(LIMIT + 1), temporary=True) is None
    assert "no entry" in TOOL["problem"]("a.py", lines(LIMIT), temporary=True)
    assert "no entry" in TOOL["problem"]("a.py", lines(LIMIT + 1, f"# {REASON}"), temporary=True)


def test_the_files_of_this_repository():
    assert TOOL["main"]() == 0
