"""`tools/aarch64.py`: what it names is there."""

import re
import runpy
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(PROJECT / "tools"))
    return runpy.run_path(str(PROJECT / "tools" / "aarch64.py"))


def test_the_campaigns_are_those_of_the_makefile(tool):
    text = (PROJECT / "Makefile").read_text("utf-8")
    names = re.search(r"^CAMPAIGNS\s*:=(.*)$", text, re.MULTILINE)[1].split()
    assert list(tool["CAMPAIGNS"]) == names


def test_what_cannot_work_under_qemu_is_there_and_has_a_reason(tool):
    for name, reason in tool["UNDER_QEMU"].items():
        program, _, case = name.partition(" ")
        source = (PROJECT / "native" / "tests" / f"{program}.cpp").read_text("utf-8")
        assert f'{{"{case}", ' in source
        assert len(reason) > 20


def test_the_folders_of_tests_are_there(tool):
    assert all((PROJECT / folder).is_dir() for folder in tool["FOLDERS"])


def test_a_command_has_the_emulator_and_the_pages(tool, tmp_path):
    builder = tool["Builder"]()
    small, large = builder.qemu("program", page=4096), builder.qemu("program", page=65536)
    assert "-p" not in small
    assert large[large.index("-p") + 1] == "65536"
    wrapper = tmp_path / "folder" / "python"
    builder.wrap(wrapper, Path("/a b/python"))
    assert wrapper.read_text("utf-8").endswith('-0 "$0" \'/a b/python\' "$@"\n')
    assert wrapper.stat().st_mode & 0o100
