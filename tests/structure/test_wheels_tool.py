"""`tools/wheels.py`: the table has the rows of earlier calls, and says what each was made from."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return runpy.run_path(str(TOOLS / "wheels.py"))


@pytest.fixture
def source(tool):
    return tool["Source"]("onecopy-1.tar.gz", "a1", "c0ffee")


def lines_of(text):
    """Return the rows of the table, each as its cells."""
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_a_row_is_kept(tool, source, tmp_path):
    row = tool["Row"]("3.11", source, "3.11.7", "onecopy.whl", tests="5 passed", failed=True)
    row.write(tmp_path)
    assert tool["Row"].read(tmp_path) == row


def test_the_table_has_the_rows_of_earlier_calls(tool, source, tmp_path):
    for version, release in (("3.12", "3.12.1"), ("3.11", "3.11.7")):
        (tmp_path / version).mkdir()
        tool["Row"](version, source, release, "a wheel").write(tmp_path / version)
    text = tool["report"](source, ("3.12",), tmp_path)
    assert [row[:2] for row in lines_of(text)] == [["3.11.7", "a wheel"], ["3.12.1", "a wheel"]]
    assert [row[-1] for row in lines_of(text)] == ["c0ffee", "c0ffee"]
    assert text.startswith("Built from onecopy-1.tar.gz, SHA-256 a1.\n")
    assert (tmp_path / "table.md").read_text("utf-8") == text


def test_a_row_from_another_source_says_so(tool, source, tmp_path):
    (tmp_path / "3.11").mkdir()
    tool["Row"]("3.11", source).write(tmp_path / "3.11")
    later = replace(source, sha256="b2", commit="decade")
    assert lines_of(tool["report"](later, ("3.12",), tmp_path))[0][-1] == "other source: c0ffee"
    # Another commit with the same sources: the wheel would be the same.
    same = replace(source, commit="decade")
    assert lines_of(tool["report"](same, ("3.12",), tmp_path))[0][-1] == "c0ffee"


def test_a_python_that_is_not_there_has_a_row_only_if_it_was_asked_for(tool, source, tmp_path):
    rows = lines_of(tool["report"](source, ("3.14",), tmp_path))
    assert [row[:2] for row in rows] == [["3.14", "not there"]]


def test_a_source_is_known_by_its_bytes(tool, tmp_path):
    archives = [tmp_path / "a" / "x.tar.gz", tmp_path / "b" / "x.tar.gz"]
    for archive, content in zip(archives, (b"one", b"other"), strict=True):
        archive.parent.mkdir()
        archive.write_bytes(content)
    one, other = map(tool["Source"].of, archives)
    assert one.name == other.name == "x.tar.gz"
    assert one.sha256 != other.sha256
    assert one.commit == other.commit != ""
