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


# Errors that no call of a user raises: they are caught within the package.
INNER = {"DemoError", "Late", "NotJoinedError", "NotNowError", "NotPlain", "RemoteTraceback"}
INNER |= {"Unexpected", "UnfitError", "UnreadablePictureError", "Wrong"}
ERROR = re.compile(
    r"^ *class ([A-Z]\w+)\([^)]*\b(?:Exception|\w*Error|\w*Warning|_StandardShutDown)\b[^)]*\):",
    re.MULTILINE,
)


def test_every_class_of_error_is_in_the_index():
    made = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in ERROR.findall(path.read_text(encoding="utf-8"))
    }
    assert {*errors.__all__, "BadFile", "ServerEnded", "WorkerDied"} - made == set()
    assert made - INNER - set(re.findall(r"`(\w+)`", text_of("errors.md"))) == set()


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
    assert "kNameBytes = 200" in layout
    assert "| 200 bytes in UTF-8 |" in text
    assert "kMaxRefs = (1u << 20) - 1" in layout
    assert f"| {(1 << 20) - 1:,} references" in text
    assert "kWaitRecords = 20" in layout
    assert "see waiting | 20 |" in text


@pytest.mark.parametrize(
    ("file", "code", "words"),
    [
        (
            "layout/layout.cpp",
            "(g.capacity / kKiB, 4096, 262144)",
            "least 4,096 and at most 262,144",
        ),
        ("layout/layout.cpp", "(g.capacity / 256, 4096, u64{1} << 26)", f"at most {1 << 26:,} |"),
        ("bindings/codec_buffers.hpp", "kMostParts = 4096", "up to 4,096;"),
        ("bindings/frames.cpp", "kMaxDims = 15", "| 15 of a frame;"),
        ("stream/stream.hpp", "kSubscribers = 64", "subscriptions of a stream | 64 |"),
        ("locks/rwlock.cpp", "kMost = 64", "at the same time | 64 |"),
        ("locks/barrier.hpp", "kMostParties = 0xffff", f"parties of a barrier | {0xFFFF:,} |"),
        ("segment/private_pages.cpp", "kMost = 16'384", "| 16,384 mappings"),
        ("shareable/shareable.hpp", "kMostRoom = 10'000'000", "| 10,000,000 bytes |"),
        ("containers/container.hpp", "kFirstChunk = 16", f"| {16 * ((1 << 26) - 1):,} |"),
        ("containers/container.hpp", "kChunks = 26", f"| {16 * ((1 << 26) - 1):,} |"),
    ],
)
def test_a_limit_is_that_of_its_file(file, code, words):
    assert code in (ROOT / "native" / file).read_text(encoding="utf-8")
    assert words in text_of("limits.md")
