"""`onecopy.record`: what of a stream is in the file, and how a recording ends."""

import queue
import sys
import threading

import numpy as np
import pytest
from children import LIMIT, eventually, start

import onecopy as oc

ALL = 1 << 10  # the history of a stream of that depth


def publish(stream, count):
    for number in range(count):
        stream.publish({"id": number})
    stream.shutdown()


def test_a_stream_to_its_end(pool, tmp_path):
    stream = pool.stream("numbers", depth=ALL)
    publish(stream, 100)
    report = oc.record(stream, tmp_path / "run.mcap", history=ALL)
    assert report == (
        str(tmp_path / "run.mcap"),
        (tmp_path / "run.mcap").stat().st_size,
        {"numbers": 100},
        {"numbers": 0},
        {},
        {},
        None,
        "shut_down",
    )
    with oc.open_recording(tmp_path / "run.mcap") as recording:
        assert recording.complete
        assert list(recording) == [{"id": number} for number in range(100)]
        assert recording.channels["numbers"].missed == 0
        assert (np.diff(recording.times) >= 0).all()


@pytest.mark.parametrize("method", ["fork", "spawn", "stranger"])
def test_streams_of_other_processes(pool, tmp_path, method):
    """Lossless streams: every message is there, in the order of each stream."""
    streams = [pool.stream(name, depth=8, policy="lossless") for name in "abc"]
    reports = []
    recorder = threading.Thread(
        target=lambda: reports.append(oc.record(streams, tmp_path / "run.mcap"))
    )
    recorder.start()
    eventually(lambda: all(each.subscribers for each in streams), "the recorder")
    children = [start(method, publish, stream, 200) for stream in streams]
    assert [child.wait() for child in children] == [0] * 3
    for child in children:
        child.end()
    recorder.join(LIMIT)
    assert reports[0].messages == dict.fromkeys("abc", 200)
    with oc.open_recording(tmp_path / "run.mcap") as recording:
        for name in "abc":
            assert list(recording.channel(name)) == [{"id": number} for number in range(200)]


class Held:
    """A value whose pickling waits, so that the recorder falls behind."""

    taken = threading.Event()
    released = threading.Event()

    def __reduce__(self):
        if threading.current_thread().name.startswith("record"):
            Held.taken.set()
            assert Held.released.wait(LIMIT)
        return Held, ()


def test_what_a_slow_recorder_missed_is_counted(pool, tmp_path):
    """It is in the report and in the file, and the numbers of messages show the gap."""
    Held.taken.clear()
    Held.released.clear()
    stream = pool.stream("numbers", depth=4)
    reports = []
    recorder = threading.Thread(
        target=lambda: reports.append(oc.record(stream, tmp_path / "run.mcap"))
    )
    recorder.start()
    eventually(lambda: stream.subscribers, "the recorder")
    stream.publish(0)
    stream.publish(Held())
    assert Held.taken.wait(LIMIT)
    for number in range(2, 20):
        stream.publish(number)
    Held.released.set()
    stream.shutdown()
    recorder.join(LIMIT)
    (report,) = reports
    assert report.messages["numbers"] + report.missed["numbers"] == 20
    assert report.missed["numbers"] >= 14
    assert report.pickled == {"numbers": 1}
    with oc.open_recording(tmp_path / "run.mcap") as recording:
        assert recording.channels["numbers"].missed == report.missed["numbers"]
        assert recording[0] == 0
        assert recording[-1] == 19


def test_it_ends_when_it_is_asked_to(pool, tmp_path):
    stream, stop = pool.stream("numbers"), threading.Event()
    reports = []
    path = tmp_path / "run.mcap"
    recorder = threading.Thread(
        target=lambda: reports.append(oc.record(stream, path, stop=stop, flush_seconds=0.01))
    )
    recorder.start()
    eventually(lambda: stream.subscribers, "the recorder")
    stream.publish(1)

    def has_it():
        with oc.open_recording(path) as recording:  # while it is recorded
            return len(recording) == 1 and not recording.complete

    eventually(has_it, "the message to be in the file")
    stop.set()
    recorder.join(LIMIT)
    assert (reports[0].ended, reports[0].messages) == ("stopped", {"numbers": 1})
    assert stream.subscribers == 0
    with oc.open_recording(path) as recording:
        assert recording.complete


def test_an_exception_ends_the_file(pool, tmp_path, monkeypatch):
    """As Ctrl-C does it, wherever the main thread is."""
    stream = pool.stream("numbers", depth=ALL)
    for number in range(10):
        stream.publish(number)
    got = threading.Event()
    write = oc.RecordingWriter._write

    def written(self, name, prepared, sequence):
        done = write(self, name, prepared, sequence)
        if sequence == 9:
            got.set()
        return done

    def interrupt(self):
        if got.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr(oc.RecordingWriter, "_write", written)
    monkeypatch.setattr(oc.RecordingWriter, "flush_due", interrupt)
    with pytest.raises(KeyboardInterrupt):
        oc.record(stream, tmp_path / "run.mcap", history=ALL)
    with oc.open_recording(tmp_path / "run.mcap") as recording:
        assert recording.complete
        assert list(recording) == list(range(10))


def test_a_number_of_messages(pool, tmp_path):
    stream = pool.stream("numbers", depth=ALL)
    for number in range(100):
        stream.publish(number)
    report = oc.record(stream, tmp_path / "run.mcap", history=ALL, messages=30)
    assert (report.ended, report.messages) == ("messages", {"numbers": 30})
    with oc.open_recording(tmp_path / "run.mcap") as recording:
        assert list(recording) == list(range(30))


def test_a_number_of_bytes(pool, tmp_path):
    stream = pool.stream("arrays", depth=ALL)
    for number in range(100):
        stream.publish(np.full(1000, number, "u1"))
    report = oc.record(stream, tmp_path / "run.mcap", history=ALL, max_bytes=20_000)
    assert report.ended == "max_bytes"
    assert report.bytes == (tmp_path / "run.mcap").stat().st_size <= 20_000
    assert 15 <= report.messages["arrays"] < 20


def test_a_number_of_seconds(pool, tmp_path):
    stream = pool.stream("numbers")
    report = oc.record(stream, tmp_path / "run.mcap", seconds=0.01)
    assert (report.ended, report.messages) == ("seconds", {"numbers": 0})


class Gone:
    """Its module is not there when it is received."""


def test_messages_that_cannot_be_recorded_are_counted(pool, tmp_path, monkeypatch):
    stream = pool.stream("mixed", depth=ALL)
    queue_of_pool = pool.queue()
    for value in (1, Gone(), [queue_of_pool], 2):
        stream.publish(value)
    stream.shutdown()
    monkeypatch.delattr(sys.modules[__name__], "Gone")
    report = oc.record(stream, tmp_path / "run.mcap", history=ALL)
    assert report.messages == {"mixed": 2}
    assert report.skipped == {"mixed": 2}
    assert "Gone" in report.problem
    assert report.problem.startswith("'mixed': ")
    with oc.open_recording(tmp_path / "run.mcap") as recording:
        assert list(recording) == [1, 2]


def test_names(pool, tmp_path):
    named, unnamed = pool.stream("a"), pool.stream()
    for wrong, said in (
        ([], "no stream"),
        (unnamed, "has no name"),
        ([named, pool.stream("a")], "two streams have the name 'a'"),
    ):
        with pytest.raises(ValueError, match=said):
            oc.record(wrong, tmp_path / "run.mcap")
    for limit in ("seconds", "messages"):
        with pytest.raises(ValueError, match=f"{limit}=0"):
            oc.record(named, tmp_path / "run.mcap", **{limit: 0})
    assert list(tmp_path.iterdir()) == []
    unnamed.publish(1)
    unnamed.shutdown()
    report = oc.record({"given": unnamed}, tmp_path / "run.mcap", history=1)
    assert report.messages == {"given": 1}


def test_a_frame_becomes_free_while_the_recorder_waits(pool, tmp_path):
    stream = pool.stream("frames", depth=1, policy="lossless")
    frames = pool.frames("f", (10,), "u1", 4)
    stop = threading.Event()
    recorder = threading.Thread(
        target=oc.record, args=(stream, tmp_path / "run.mcap"), kwargs={"stop": stop}
    )
    recorder.start()
    eventually(lambda: stream.subscribers, "the recorder")
    frame = frames.acquire()
    frame[:] = 3
    stream.publish(frame)
    del frame
    stream.publish(None)  # when the recorder has the frame; the stream no longer keeps it
    eventually(lambda: frames.available == 4, "the recorder to release the frame")
    stop.set()
    recorder.join(LIMIT)
    with oc.open_recording(tmp_path / "run.mcap") as recording:
        assert (recording[0] == 3).all()


def test_the_recorder_leaves_no_subscription_if_the_file_cannot_be_made(pool, tmp_path):
    stream = pool.stream("a")
    with pytest.raises(FileNotFoundError):
        oc.record(stream, tmp_path / "no/run.mcap")
    assert stream.subscribers == 0
    with pytest.raises(queue.Empty):
        stream.subscribe().get(timeout=0)
