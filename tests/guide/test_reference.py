"""The reference names everything that there is."""

import re

import pytest
from pages import ROOT

import onecopy as oc
from onecopy import errors

REFERENCE = ROOT / "docs" / "reference"


def text_of(page):
    return (REFERENCE / page).read_text(encoding="utf-8")


def test_every_public_name_is_in_the_reference_once():
    named = re.findall(
        r"^\.\. auto(?:class|function|exception):: onecopy\.(\w+)$", text_of("api.md"), re.MULTILINE
    )
    assert sorted(named) == sorted(oc.__all__)


def test_every_error_has_a_cause_and_a_cure():
    rows = re.findall(r"^\| `(\w+)`.*\|$", text_of("errors.md"), re.MULTILINE)
    assert {*errors.__all__, "BadFile"} - set(rows) == set()


def test_every_environment_variable_is_in_the_reference():
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "native").rglob("*.cpp")]
    read = {
        name
        for path in sources
        if "tests" not in path.parts
        for name in re.findall(r'"(ONECOPY_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert read
    assert read - set(re.findall(r"ONECOPY_[A-Z_]+", text_of("environment.md"))) == set()


def test_every_command_is_in_the_reference():
    pytest.importorskip("typer")
    from onecopy.cli import build

    commands = {
        command.name or command.callback.__name__ for command in build().registered_commands
    }
    named = re.findall(
        r"^```\{command-help\} onecopy (\w+)$", text_of("command-line.md"), re.MULTILINE
    )
    assert commands == set(named)


def test_the_limits_are_those_of_the_core():
    layout = (ROOT / "native" / "layout" / "layout.hpp").read_text(encoding="utf-8")
    text = text_of("limits.md")
    assert "kMaxProcesses = 512" in layout
    assert "| 512 at the same time" in text
    assert "kMaxCapacity = u64{1} << 46" in layout
    assert "| 64 TiB;" in text
