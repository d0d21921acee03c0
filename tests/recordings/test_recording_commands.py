"""`onecopy record`, `replay` and `tail`, as processes of their own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from children import LIMIT, eventually
from terminals import COLOURS, onecopy_in_a_terminal

import onecopy as oc
from onecopy._core.showing import described

SCRIPT = Path(sys.executable).with_name("onecopy")
NOW = 1_800_000_000_000_000_000


class Command:
    """The installed command; its output goes into pipes."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [SCRIPT, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONWARNINGS": "error", "PYTHONUTF8": "1"},
        )

    def end(self, code=0):
        """Return its lines on stdout and on stderr."""
        try:
            out, err = self.process.communicate(timeout=LIMIT)
        finally:
            self.process.kill()
            self.process.wait()
        assert self.process.returncode == code, err
        return out.splitlines(), err.splitlines()

    def signal(self, number):
        self.process.send_signal(number)


@pytest.fixture
def pool():
    """A pool with a name."""
    with oc.Pool.create("robot", size="64MiB") as pool:
        yield pool


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run.mcap"
    with oc.RecordingWriter(path) as writer:
        for number in range(10):
            writer.write("odd" if number % 2 else "even", number, NOW + number)
    return path


def test_record(pool, tmp_path):
    stream, other = pool.stream("camera", depth=50), pool.stream("odd name/é", depth=50)
    for number in range(30):
        stream.publish(np.full((4, 5), number, "u1"))
        other.publish({"id": number})
    stream.shutdown()
    other.shutdown()
    path = tmp_path / "run.mcap"
    lines, errors = Command(
        "record", "robot/camera", "robot/odd name/é", path, "--history", 50
    ).end()
    assert errors == [f"recording camera, 'odd name/é' to {path}; Ctrl-C ends it"]
    assert lines[0] == "The streams were shut down."
    assert re.fullmatch(rf"60 messages, .* KiB, in {path}", lines[1])
    assert lines[2].split() == ["stream", "messages", "missed", "pickled", "skipped"]
    assert [line.split()[-4:] for line in lines[3:]] == [["30", "0", "0", "0"]] * 2
    with oc.open_recording(path) as recording:
        assert recording.complete
        assert len(recording.channel("camera")) == 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_signals_end_a_recording(pool, tmp_path, number):
    stream, path = pool.stream("camera", policy="lossless", depth=4), tmp_path / "run.mcap"
    command = Command("record", "--pool", "robot", "camera", path, "--json")
    eventually(lambda: stream.subscribers, "the recorder")
    for each in range(10):
        stream.publish(each)
    command.signal(number)
    lines, _ = command.end()
    assert '  "ended": "stopped"' in lines
    with oc.open_recording(path) as recording:
        assert recording.complete
        assert list(recording) == list(range(len(recording)))
        assert len(recording) >= 5  # 4 may wait in the stream, and one in the recorder


def test_limits_of_a_recording(pool, tmp_path):
    stream = pool.stream("camera", depth=100)
    for number in range(100):
        stream.publish(np.full(1000, number, "u1"))
    for options, said, messages in (
        (["--count", 7], "All messages are there (--count).", 7),
        (["--max-bytes", "20KiB"], "The file has its largest size (--max-bytes).", None),
        (["--for", 0.05], "The time is over (--for).", None),
    ):
        path = tmp_path / f"{options[0]}.mcap"
        lines, _ = Command("record", "robot/camera", path, "--history", 100, *options).end()
        assert lines[0] == said
        with oc.open_recording(path) as recording:
            assert messages is None or len(recording) == messages
        assert "--max-bytes" not in options or path.stat().st_size <= 20 << 10


class Thing:
    """Of a module that the command does not have."""


def test_what_was_skipped_and_pickled_is_said(pool, tmp_path):
    stream = pool.stream("things", depth=10)
    for value in (1, Thing(), {1, frozenset()}, ..., 2):
        stream.publish(value)
    stream.shutdown()
    path = tmp_path / "run.mcap"
    lines, _ = Command("record", "robot/things", path, "--history", 10).end(code=1)
    assert lines[3].split() == ["things", "4", "0", "1", "1"]
    assert lines[4].startswith("pickled: reading them runs code of the file")
    assert lines[5].startswith("skipped, the first one: 'things': ")
    assert "test_recording_commands" in lines[5]
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["record", "camera", "x.mcap"], 2, "does not say which pool: write POOL/STREAM"),
        (["record", "none/camera", "x.mcap"], 1, "`onecopy ls` lists the existing pools"),
        (["record", "robot/none", "x.mcap"], 1, "no stream 'none'. Its streams: camera"),
        (["record", "robot/camera", "/none/x.mcap"], 1, "No such file or directory"),
        (["record", "robot/camera", "{path}"], 1, "The file exists"),
        (["record", "robot/camera", "x.mcap", "--max-bytes", "much"], 2, "much"),
        (["record", "robot/camera", "x.mcap", "--compression", "gzip"], 2, "gzip"),
        (["record", "robot/camera", "x.mcap", "--for", "-1"], 2, "seconds=-1"),
        (["replay", "none.mcap", "robot/x"], 1, "No such file or directory"),
        (["replay", "{path}"], 2, "where to? Write POOL/STREAM"),
        (["replay", "{path}", "x"], 2, "does not say which pool"),
        (["replay", "{path}", "robot/x", "--channel", "x"], 1, "no channel 'x'; it has: 'even'"),
        (["replay", "{path}", "robot/x", "--speed", "-1"], 2, "speed=-1"),
        (["replay", "pyproject.toml", "robot/x"], 1, "is not a recording"),
        (["tail", "camera"], 2, "does not say which pool"),
        (["tail", "robot/none"], 1, "no stream 'none'"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_errors_are_one_line(pool, path, arguments, code, said):
    pool.stream("camera")
    before = path.read_bytes()
    arguments = [each.format(path=path) for each in arguments]
    command = Command(*arguments)
    lines, errors = command.end(code)
    errors = [line for line in errors if not line.startswith("recording ")]
    assert lines == []
    assert len(errors) == 1
    assert errors[0].startswith("onecopy: ")
    assert said in errors[0]
    assert path.read_bytes() == before
    assert not Path("x.mcap").exists()


def test_replay(pool, path):
    subscriptions = [pool.stream(name).subscribe() for name in ("even", "odd")]
    lines, errors = Command("replay", path, "--pool", "robot", "--speed", 0).end()
    assert (lines, errors) == ([f"published 10 messages of {path}"], [])
    assert [list(each) for each in subscriptions] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_replay_one_channel_into_one_stream(pool, path):
    subscription = pool.stream("other").subscribe()
    lines, _ = Command("replay", path, "robot/other", "-c", "odd", "--speed", 2).end()
    assert lines == [f"published 5 messages of {path}"]
    assert list(subscription) == [1, 3, 5, 7, 9]


def test_replay_needs_trust_for_pickles(pool, tmp_path):
    path = tmp_path / "pickles.mcap"
    with oc.RecordingWriter(path) as writer:
        writer.write("a", ...)
    _, errors = Command("replay", path, "robot/a").end(code=1)
    assert "on the command line: --trust" in errors[0]
    subscription = pool.stream("a").subscribe()
    Command("replay", path, "robot/a", "--trust").end()
    assert list(subscription) == [...]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_signals_end_a_loop(pool, path, number):
    stream = pool.stream("all")
    subscription = stream.subscribe()
    command = Command("replay", path, "robot/all", "--loop")
    for _ in range(25):  # more than once through the recording
        subscription.get(timeout=LIMIT)
    command.signal(number)
    lines, errors = command.end(code=130)
    assert (lines, errors) == ([], ["onecopy: stopped by a signal"])


def test_tail(pool):
    stream = pool.stream("camera", depth=20)
    stream.publish(np.arange(12, dtype="u1").reshape(3, 4))
    stream.publish({"id": 7, "box": np.zeros((2, 2), "f4"), "text": "a\nb" * 100})
    stream.publish("two\nlines")
    stream.shutdown()
    lines, errors = Command("tail", "robot/camera", "--history", 5).end()
    assert errors == []
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3}  ", line) for line in lines)
    lines = [line[14:] for line in lines]
    assert lines[0] == "uint8 (3, 4), 0 to 11"
    assert lines[1].startswith("{'id': 7, 'box': <float32 (2, 2), 0.0 to 0.0>, 'text': 'a\\nb")
    assert lines[2] == r"'two\nlines'"
    assert max(map(len, lines)) <= 100


@pytest.fixture
def pictures(pool):
    """A stream of a picture by itself, one in a dict, and an array that is no picture."""
    stream = pool.stream("camera", depth=20)
    picture = (np.add.outer(np.arange(48), np.arange(64)) * 2).astype("u1")
    stream.publish(picture)
    stream.publish({"id": 7, "image": picture})
    stream.publish(np.zeros(5))
    stream.shutdown()
    return stream


def test_tail_draws_pictures_on_a_terminal(pictures):
    ask = "tail", "robot/camera", "--history", 3
    lines = onecopy_in_a_terminal(*ask)
    assert len(lines) == 3 + 2 * 16
    assert [line[14:30] for line in lines[::17]] == [
        "uint8 (48, 64), ", "{'id': 7, 'image", "float64 (5,), 0.",
    ]  # fmt: skip
    assert all(line.startswith("        ") and len(line) <= 8 + 48 for line in lines[1:17])
    assert not any(COLOURS in line for line in lines)
    coloured = onecopy_in_a_terminal(*ask, COLORTERM="truecolor")
    assert sum(COLOURS in line for line in coloured) == 2 * 16
    assert len(onecopy_in_a_terminal(*ask, "--no-pictures")) == 3


def test_tail_draws_pictures_into_a_pipe_only_if_it_is_asked_to(pictures):
    ask = "tail", "robot/camera", "--history", 3
    assert len(Command(*ask).end()[0]) == 3
    assert len(Command(*ask, "--pictures").end()[0]) == 3 + 2 * 16


def test_tail_keeps_no_frame_while_it_waits(pool):
    stream = pool.stream("camera", depth=1, policy="lossless")
    frames = pool.frames("f", (48, 64), "u1", count=1)
    command = Command("tail", "robot/camera", "--count", 2, "--pictures")
    eventually(lambda: stream.subscribers, "the command")
    frame = frames.acquire(timeout=LIMIT)
    stream.publish(frame)
    del frame
    stream.publish(1)  # waits for the command; the stream keeps one message
    frames.acquire(timeout=LIMIT)  # the command has released it, too
    lines, _ = command.end()
    assert len(lines) == 2 + 16


def test_tail_counts(pool):
    stream = pool.stream("camera")
    command = Command("tail", "robot/camera", "--count", 3)
    eventually(lambda: stream.subscribers, "the command")
    for number in range(5):
        stream.publish(number)
    lines, _ = command.end()
    assert [line[14:] for line in lines] == ["0", "1", "2"]


def test_tail_of_what_it_does_not_have(pool):
    stream = pool.stream("things")
    stream.publish(Thing())
    stream.shutdown()
    lines, _ = Command("tail", "robot/things", "--history", 5).end()
    assert lines[0][14:].startswith("cannot be shown: ")


class Rude:
    def __repr__(self):
        raise OSError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array(5.5), "float64 (), 5.5 to 5.5"),
        (np.zeros((0, 3), "i2"), "int16 (0, 3)"),
        (np.array([1.0, np.nan]), "float64 (2,), nan to nan"),
        (np.array([True, False]), "bool (2,), False to True"),
        (np.array(["a"]), "str32 (1,)"),
        (np.zeros(2, [("a", "u1")]), "record('a',) (2,)"),
        (np.array(["2026-01-01"], "M8[D]"), "datetime64[D] (1,), 2026-01-01 to 2026-01-01"),
        ([1] * 100, "[1, 1, 1, 1, 1, 1, ...]"),
        ({"z": 1, "a": {"d": 2, "c": 3}}, "{'z': 1, 'a': {'d': 2, 'c': 3}}"),
        (dict.fromkeys("hgfedcba"), "{'h': None, 'g': None, 'f': None, 'e': None, 'd': None, 'c'"),
        ({"b": {"b": {"b": {"b": {}}}}}, "{'b': {'b': {'b': {...}}}}"),
        ({1: {}}, "{1: {}}"),
        ({2, 1}, "{1, 2}"),
        pytest.param(10**500, "1000", id="large"),
        (None, "None"),
        (Rude(), "<Rude instance at"),
    ],
)
def test_how_values_are_described(value, text):
    assert described(value).startswith(text)
    assert len(described(value)) <= 100


@pytest.mark.parametrize("command", ["record", "replay", "tail"])
def test_help(command):
    lines, errors = Command(command, "--help").end()
    assert errors == []
    assert f"onecopy {command}" in "\n".join(lines)
