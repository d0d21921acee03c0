"""`tools/suites.py`: what it reads of a run, and what it keeps."""

import runpy
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
END = '{"python": "3.14.8", "suite": "/usr/lib", "method": "fork", "ran": 9, "failed": 0}\n'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return runpy.run_path(str(TOOLS / "suites.py"))


def made(tool, suite, method, counts, *, passed=True):
    return tool["Run"]("3.14.8", suite, method, 1, "c0ffee", "decade", passed, counts)


def test_the_counts_are_the_numbers_of_the_last_line_of_a_run(tool):
    assert tool["counts_in"]("...\n" + END + "skipped: a reason\n") == {"ran": 9, "failed": 0}
    assert tool["counts_in"]("Traceback\n") == {}


@pytest.mark.parametrize(
    ("counts", "passed", "failed"),
    [
        ({"failed": 0}, True, "0"),
        ({"failed": 2}, False, "2"),
        ({"failed": 0}, False, "the run"),
        ({}, False, "the run"),
    ],
)
def test_a_run_that_has_failed_without_a_failed_test_says_so(tool, counts, passed, failed):
    row = made(tool, "multiprocessing", "fork", counts, passed=passed)
    assert dict(zip(tool["HEAD"], row.cells(), strict=True))["failed"] == failed


def test_a_run_is_kept_instead_of_the_earlier_one(tool, tmp_path):
    suites, methods = tuple(tool["SUITES"]), tool["METHODS"]
    for suite, method, ran in (
        *((suites[1], methods[0], 1), (suites[0], methods[1], 2)),
        *((suites[0], methods[0], 3), (suites[0], methods[1], 4)),
    ):
        tool["keep"](tmp_path, made(tool, suite, method, {"ran": ran}))
    assert [each.counts["ran"] for each in tool["read"](tmp_path)] == [3, 4, 1]


def test_its_suites_are_programs_of_the_tests(tool):
    for module in tool["SUITES"].values():
        path = TOOLS.parent / module.replace(".", "/")
        assert (path / "__main__.py").is_file() or path.with_suffix(".py").is_file()
