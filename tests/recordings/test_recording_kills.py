"""A recorder that dies at any time, or whose disk is full, leaves a file that can be read."""

import errno
import os
import random
import resource
import signal

import numpy as np
import pytest
from children import eventually
from forks import in_child
from namespaces import small
from programs import Running
from seeds import SEED, more

import onecopy as oc

NOW = 1_800_000_000_000_000_000


def value_of(number):
    """What message `number` is: of three channels, arrays and others."""
    if number % 3 == 0:
        return np.full((number % 5 + 1, 3), number, "u2")
    return {"id": number, "text": "x" * (number % 7)}


def check(path, at_least, at_most):
    """Open a file: it has the first messages, completely, and so many of them."""
    with oc.open_recording(path) as recording:
        assert at_least <= len(recording) <= at_most
        for number, message in enumerate(recording.messages()):
            assert message.time_ns == NOW + number
            assert message.channel == f"c{number % 3}"
            np.testing.assert_equal(message.value, value_of(number))
        return recording.complete, len(recording)


def run(path, count, chunk_bytes=300, compression="none"):
    with oc.RecordingWriter(path, chunk_bytes=chunk_bytes, compression=compression) as writer:
        for number in range(count):
            writer.write(f"c{number % 3}", value_of(number), NOW + number)


class Steps:
    """Replaces `os.pwrite`, and calls `act` at the step that is asked for.

    Before each write, in its middle, and after it is a step. `begun` and `done` count the chunks
    whose last bytes are perhaps, or surely, in the file.
    """

    def __init__(self, step, act):
        self.step, self.act, self.now = step, act, 0

    def reached(self):
        self.now += 1
        if self.now == self.step:
            self.act()

    def pwrite(self, fd, data, at):
        self.reached()
        half = len(data) // 2
        if half:
            os_pwrite(fd, data[:half], at)
        self.reached()
        os_pwrite(fd, data[half:], at + half)
        self.reached()
        return len(data)


os_pwrite = os.pwrite


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_killed_at_each_border_of_each_write(tmp_path, compression):
    """Before, in the middle of, and after each write; the last chunk may be there, or not."""
    count, before, step = 20, 0, 0
    while True:
        step += 1
        path = tmp_path / f"{step}.mcap"

        def die():
            os.kill(os.getpid(), signal.SIGKILL)

        def child(path=path, step=step):
            os.pwrite = Steps(step, die).pwrite
            run(path, count, compression=compression)

        how = in_child(child)
        if how is None:
            break
        assert how == "Killed"
        if path.stat().st_size < 8:  # not even the first bytes of the file
            with pytest.raises(oc.BadFile, match="not a recording"):
                oc.open_recording(path)
            continue
        _, found = check(path, before, count)
        before = found  # a later death leaves no less
    assert check(path, count, count) == (True, count)
    assert step > 20


def test_cut_at_each_byte(tmp_path):
    """A kill in the middle of a write leaves a part of its bytes: any beginning of the file."""
    run(tmp_path / "whole.mcap", 4, chunk_bytes=80)
    whole = (tmp_path / "whole.mcap").read_bytes()
    path, before = tmp_path / "cut.mcap", 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length < 8:
            with pytest.raises(oc.BadFile, match="not a recording"):
                oc.open_recording(path)
            continue
        complete, before = check(path, before, 4)
        assert not complete
    assert before == 4


@pytest.mark.parametrize("filled", [1, 9, 300])
def test_zeros_after_a_loss_of_power(tmp_path, filled):
    """Some file systems leave zeros where the size was written, but not yet the data."""
    run(tmp_path / "whole.mcap", 7, chunk_bytes=100)
    whole = (tmp_path / "whole.mcap").read_bytes()
    path = tmp_path / "cut.mcap"
    for length in range(8, len(whole), 11):
        path.write_bytes(whole[:length] + bytes(filled))
        check(path, 0, 7)


RECORDER = """
    stream = oc.Pool.open({pool!r}).stream("numbers")
    print("ready", flush=True)
    oc.record(stream, {path!r}, flush_seconds={flush}, history=1 << 10)
"""


@pytest.mark.stress
@pytest.mark.parametrize("round_", range(more(15)))
def test_killed_at_random(tmp_path, pool, round_):
    """While a stream is recorded: what was in the file for sure is there, without a gap."""
    dice = random.Random(SEED + round_)  # noqa: S311
    stream = pool.stream("numbers", depth=1 << 10, policy="lossless")
    path = tmp_path / "run.mcap"
    flush = dice.choice([0, 0.001, 1])
    program = Running(RECORDER.format(pool=pool.name, path=str(path), flush=flush), holding=False)
    try:
        program.says("ready")
        # Before, the stream would lose all but the last messages.
        eventually(lambda: stream.subscribers, "the recorder")
        last = dice.randrange(1, 3000)
        for number in range(3000):
            stream.publish((number, np.full(dice.randrange(2000), number % 256, "u1")), timeout=60)
            if number == last:
                break
    finally:
        program.kill()
    if not path.exists() or path.stat().st_size < 8:
        return
    with oc.open_recording(path) as recording:
        assert not recording.complete
        for wanted, (number, data) in enumerate(recording):
            assert number == wanted
            assert (data == number % 256).all()


# ----------------------------------------------------------------------------------- exceptions


class Interrupt(BaseException):
    pass


def test_an_exception_at_each_write_damages_nothing(tmp_path, monkeypatch):
    """As Ctrl-C raises it: the writer continues, and the file has every message once."""
    for step in range(1, 200):
        path = tmp_path / f"{step}.mcap"

        def interrupt():
            raise Interrupt

        monkeypatch.setattr(os, "pwrite", Steps(step, interrupt).pwrite)
        try:
            writer = oc.RecordingWriter(path, chunk_bytes=300)
        except Interrupt:
            assert not path.exists()
            continue
        missing = []
        try:
            for number in range(40):
                try:
                    writer.write(f"c{number % 3}", value_of(number), NOW + number)
                except Interrupt:
                    missing.append(number)
            writer.close()
        except Interrupt:
            check(path, 0, 40)
        else:
            assert check(path, 40, 40) == (True, 40)
            if not missing:
                break
    else:
        pytest.fail("it never came to an end")


# ------------------------------------------------------------------------------------ full disks


@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", [331, pytest.param(31, marks=pytest.mark.check)])
def test_a_disk_that_is_full_at_some_byte(tmp_path, step):
    """Here: a limit of the size of a file. What was written is readable, with an index or not."""
    run(tmp_path / "whole.mcap", 30)
    whole = (tmp_path / "whole.mcap").stat().st_size

    def record(path, limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(OSError, match="File too large") as raised:
            run(path, 30)
        assert raised.value.filename == str(path)
        if path.exists():
            assert "all messages before are whole" in raised.value.strerror

    found = [0]
    for limit in range(1, whole, step):
        path = tmp_path / f"{limit}.mcap"
        assert in_child(record, path, limit) is None
        if path.exists():
            complete, length = check(path, 0, 30)
            assert path.stat().st_size <= limit
            found.append(length)
            assert length >= found[-2] or not complete
    assert max(found) >= 25


def test_a_full_disk_ends_the_recording(tmp_path, pool):
    """The error says so, the file has an index, and its messages are the first ones."""
    (tmp_path / "disk").mkdir()
    path = tmp_path / "disk/run.mcap"
    stream = pool.stream("numbers", depth=200, policy="lossless")
    for number in range(200):
        stream.publish(np.full(20_000, number, "u1"))
    program = Running(
        f"""
        import errno
        stream = oc.Pool.open({pool.name!r}).stream("numbers")
        try:
            oc.record(stream, {str(path)!r}, history=200)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            assert "all messages before are whole" in str(error), error
        else:
            raise AssertionError("there was room")
        with oc.open_recording({str(path)!r}) as recording:
            assert recording.complete
            assert len(recording) > 50, len(recording)
            for number, message in enumerate(recording):
                assert (message == number).all()
        """,
        holding=False,
        inside=small("3m", tmp_path / "disk"),
    )
    assert program.end() == (0, "")


def write_more(writer):
    for number in range(10, 30):
        writer.write(f"c{number % 3}", value_of(number), NOW + number)


def test_later_calls_after_a_full_disk_raise_the_same(tmp_path, monkeypatch):
    writer = oc.RecordingWriter(tmp_path / "run.mcap", chunk_bytes=100)
    for number in range(10):
        writer.write(f"c{number % 3}", value_of(number), NOW + number)
    before = sum(writer.counts.values())
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "pwrite", full)
        for _ in range(2):
            with pytest.raises(OSError, match="all messages before are whole"):
                write_more(writer)
        with pytest.raises(OSError, match="No space left"):
            writer.flush()
        writer.flush_due()
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert check(tmp_path / "run.mcap", before, before) == (True, before)
