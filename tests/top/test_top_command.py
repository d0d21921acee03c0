"""The command `onecopy top`, as a process of its own: in pipes, and in a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import typer
from children import LIMIT

import onecopy as oc
from onecopy._core.lines import width
from onecopy.cli import top as command

SCRIPT = Path(sys.executable).with_name("onecopy")


@pytest.fixture
def factory():
    with oc.Pool.create("factory", size="4MiB") as pool:
        pool.queue("[red]jobs[/red]").put(1)
        yield pool


def environment(**changes):
    known = os.environ | {"PYTHONWARNINGS": "error", "PYTHONUTF8": "1", "COLUMNS": "100"}
    return known | changes


def top(*arguments, **changes):
    return subprocess.run(
        [SCRIPT, "top", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=LIMIT,
        env=environment(**changes),
    )


def printed(*arguments, **changes):
    done = top(*arguments, **changes)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_in_a_pipe_it_prints_one_plain_table_and_ends(factory, pool_directory):
    (pool_directory / "junk.pool").write_bytes(b"junk")
    text = printed("--interval", "0.1")
    (pool_directory / "junk.pool").unlink()
    assert text.count("onecopy top") == 1
    assert "\x1b" not in text
    assert "[red]jobs[/red]" in text
    assert any(line.startswith("junk ") for line in text.splitlines())
    assert all(width(line) <= 100 for line in text.splitlines())


def test_batches(factory, capsys):
    command.top("factory", interval=0.1, batch=True, count=2, sort="load", match="jobs")
    text, errors = capsys.readouterr()
    assert errors == ""
    assert text.count("onecopy top") == 2
    assert text.count("[red]jobs[/red]") == 2
    assert "No row has this text." in text


@pytest.mark.check
def test_a_terminal_without_unicode_gets_bars_of_ascii(factory):
    text = printed("-n1", "-i", "0.1", PYTHONUTF8="0", LC_ALL="C", PYTHONCOERCECLOCALE="0")
    assert text.isascii()
    assert "#." in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ({"pool": "no-such-pool"}, 1, "there is no pool"),
        ({"pool": "a/"}, 2, "is a directory"),
        ({"sort": "nonsense"}, 2, "there is no column 'nonsense': there are"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, code, words, capsys):
    with pytest.raises(typer.Exit) as ended:
        command.top(**arguments)
    text, errors = capsys.readouterr()
    assert (ended.value.exit_code, text, errors.count("\n")) == (code, "", 1)
    assert words in errors


def test_without_textual_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(command, "_is_terminal", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(typer.Exit) as ended:
        command.top()
    text, errors = capsys.readouterr()
    assert (ended.value.exit_code, text, errors.count("\n")) == (1, "", 1)
    assert "pip install 'onecopy[top]'" in errors


class Terminal:
    """A terminal in which the command runs."""

    def __init__(self, *arguments, size=(24, 80), **changes):
        self.seen = b""
        self.line, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        known = environment(**{"TERM": "xterm-256color"} | changes)
        del known["COLUMNS"]
        self.process = subprocess.Popen(
            [SCRIPT, "top", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=known
        )
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.line)

    def read(self):
        """Read what there is; false: the process has ended."""
        if not select.select([self.line], [], [], 1.0)[0]:
            return True
        with contextlib.suppress(OSError):  # EIO: no process has the terminal any more
            more = os.read(self.line, 1 << 16)
            self.seen += more
            return bool(more)
        return False

    def until(self, word):
        end = time.monotonic() + LIMIT
        while word not in self.seen:
            assert time.monotonic() < end, self.seen[-2000:]
            assert self.read(), self.seen

    def end(self):
        while self.read():
            pass
        return self.process.wait(LIMIT)


def test_on_a_terminal_it_is_a_screen(factory):
    pytest.importorskip("textual")
    with Terminal() as terminal:
        terminal.until(b"factory")
        os.write(terminal.line, b"q")
        assert terminal.end() == 0
        assert b"\x1b[?1049l" in terminal.seen  # the terminal is as it was


@pytest.mark.check
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_signals_leave_the_terminal_as_it_was(factory, number, code):
    pytest.importorskip("textual")
    with Terminal(size=(12, 40), NO_COLOR="1") as terminal:
        terminal.until(b"factory")
        if number == signal.SIGINT:
            os.write(terminal.line, b"\x03")
        else:
            terminal.process.send_signal(number)
        assert terminal.end() == code
        assert b"\x1b[?1049l" in terminal.seen


@pytest.mark.check
def test_a_dumb_terminal_gets_a_plain_table(factory):
    with Terminal("-i", "0.1", TERM="dumb") as terminal:
        assert terminal.end() == 0
    assert b"factory" in terminal.seen
    assert b"\x1b" not in terminal.seen


def test_ctrl_c_ends_batches(factory, monkeypatch, capsys):
    looks = []

    def sleep(_seconds):
        looks.append(1)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    with pytest.raises(typer.Exit) as ended:
        command.top(batch=True)
    assert ended.value.exit_code == 130
    assert capsys.readouterr().out.count("onecopy top") == 1
