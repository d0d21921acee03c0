"""`onecopy.replay`: what is published where, and when. A clock is handed in: nothing waits."""

import threading

import numpy as np
import pytest
from children import LIMIT

import onecopy as oc

NOW = 1_800_000_000_000_000_000
OFFSETS = [0, 5, 5, 30, 1000, 1001]  # milliseconds
ALL = 1 << 10


class Stopped(Exception):  # noqa: N818 - no error happened
    pass


class Clock:
    """Its time passes only when it is waited for, and when a message is published."""

    def __init__(self, cost=0.0, waits=1 << 20):
        self.time, self.asked, self.cost, self.waits = 100.0, [], cost, waits

    def now(self):
        return self.time

    def wait_until(self, when):
        self.asked.append(round(when - 100, 9))
        if len(self.asked) > self.waits:
            raise Stopped
        self.time = max(self.time, when) + self.cost


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run.mcap"
    with oc.RecordingWriter(path) as writer:
        for number, offset in enumerate(OFFSETS):
            writer.write("a" if number % 2 else "b", number, NOW + offset * 1_000_000)
    return path


def received(subscription):
    found = []
    while True:
        try:
            found.append(subscription.get(timeout=0))
        except oc.ShutDown:
            return found


@pytest.mark.parametrize("speed", [1.0, 2, 0.5])
@pytest.mark.parametrize("cost", [0, 0.02])
def test_the_pace(pool, path, speed, cost):
    """The times are absolute: a publisher that takes long does not shift the others."""
    stream, clock = pool.stream("all", depth=ALL), Clock(cost)
    subscription = stream.subscribe()
    assert oc.replay(path, stream, speed=speed, clock=clock) == len(OFFSETS)
    assert clock.asked == [round(offset / 1000 / speed, 9) for offset in OFFSETS]
    assert received(subscription) == list(range(len(OFFSETS)))


def test_without_waiting(pool, path):
    clock, stream = Clock(), pool.stream("all", depth=ALL)
    subscription = stream.subscribe()
    oc.replay(path, stream, speed=0, clock=clock)
    assert clock.asked == []
    assert received(subscription) == list(range(len(OFFSETS)))


def test_without_a_clock(pool, path):
    """The machine's own time: it has passed, at least as much as it should."""
    subscription = pool.stream("a", depth=ALL).subscribe()
    assert oc.replay(path, pool, speed=1000) == len(OFFSETS)
    assert received(subscription) == [1, 3, 5]


def test_again_and_again(pool, path):
    """The pause before the first message is the average one, 200.2 ms."""
    stream, clock = pool.stream("all", depth=ALL), Clock(waits=16)
    subscription = stream.subscribe()
    with pytest.raises(Stopped):
        oc.replay(path, stream, loop=True, clock=clock)
    period = 1001 + 1001 / 5
    wanted = [(period * each + offset) / 1000 for each in range(3) for offset in [*OFFSETS, period]]
    assert clock.asked == pytest.approx(wanted[:17])
    stream.shutdown()
    assert received(subscription) == [*range(6), *range(6), 0, 1]


def test_a_loop_of_one_message_or_none(pool, path, tmp_path):
    clock = Clock(waits=10)
    with oc.open_recording(path) as recording, pytest.raises(Stopped):
        oc.replay(recording[:1], pool.stream("one"), loop=True, clock=clock)
    with oc.RecordingWriter(tmp_path / "none.mcap"):
        pass
    assert oc.replay(tmp_path / "none.mcap", pool, loop=True) == 0


def test_into_the_streams_of_a_pool(pool, path):
    """Those with the names of the channels; the missing ones are made."""
    there = pool.stream("a", depth=ALL, policy="lossless").subscribe()
    other = pool.stream("b").subscribe()
    assert oc.replay(path, pool, speed=0) == 6
    assert received(there) == [1, 3, 5]
    assert received(other) == [0, 2, 4]


def test_into_other_streams(pool, path):
    streams = {"a": pool.stream("x", depth=ALL), "b": pool.stream(depth=ALL)}
    subscriptions = {name: stream.subscribe() for name, stream in streams.items()}
    with oc.open_recording(path) as recording:
        oc.replay(recording[1:], streams, speed=0)
        assert recording[0] == 0  # it stays open
    assert received(subscriptions["a"]) == [1, 3, 5]
    assert received(subscriptions["b"]) == [2, 4]
    with pytest.raises(ValueError, match="no stream for the channel 'b'"):
        oc.replay(path, {"a": streams["a"]})
    with oc.open_recording(path) as recording:
        assert oc.replay(recording.channel("b"), {"b": pool.stream("c")}, speed=0) == 3


def test_keeping_the_streams_open(pool, path):
    stream = pool.stream("all", depth=ALL)
    subscription = stream.subscribe()
    for _ in range(2):
        oc.replay(path, stream, speed=0, shutdown=False)
    stream.shutdown()
    assert received(subscription) == [*range(6), *range(6)]


@pytest.mark.parametrize("speed", [-1, float("nan"), float("inf")])
def test_wrong_speeds(pool, path, speed):
    with pytest.raises(ValueError, match="speed="):
        oc.replay(path, pool, speed=speed)


def test_recorded_replayed_and_recorded_again(pool, tmp_path):
    """The second recording has the same messages as the first one."""
    values = [np.full((4, 5), n, "u1") if n % 2 else {"id": n, "at": (n, None)} for n in range(50)]
    first, second = tmp_path / "first.mcap", tmp_path / "second.mcap"
    with oc.RecordingWriter(first) as writer:
        for number, value in enumerate(values):
            writer.write("c", value, NOW + number)
    stream = pool.stream("c", depth=4, policy="lossless")
    recorder = threading.Thread(target=oc.record, args=(stream, second))
    recorder.start()
    while not stream.subscribers:
        assert recorder.is_alive()
    oc.replay(first, pool, speed=0)
    recorder.join(LIMIT)
    with oc.open_recording(second) as recording:
        np.testing.assert_equal(list(recording), values)
        assert recording.channels["c"].missed == 0
