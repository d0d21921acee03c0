"""Every adapter that can be imported here moves data, and what it moves is checked; what is missing
is skipped by name.

`make test` has the standard library's, `make check` all of them, `make bench-test` runs them where
the peers are installed.
"""

import contextlib
import importlib

import pytest

from benchmarks import peers
from benchmarks.flows import batch_rate, single_rate
from benchmarks.harness import Options, RunFailed, apart
from benchmarks.peers.handmade import SharedMemoryPerFrame
from benchmarks.peers.multiprocessing_ import QueueFrames, QueueMessages
from benchmarks.workloads import cold, deaths, frames, handoff, idle, latency, promises

SECONDS = 0.02
LIMIT = 110.0
# iceoryx2's publisher waits only for a subscriber that has polled since the publisher came. Where
# the first poll comes late, on a busy machine, the first fill of the buffer overflows.
RETRIES = {"iceoryx2_": 3}
HANDED = 64_000

MEASURED = {
    "frames": lambda make: frames.measure(make, SECONDS)["frames/s"],
    "messages": lambda make: single_rate(make, SECONDS),
    "batches": lambda make: batch_rate(make, SECONDS),
    "messages_hot": lambda make: latency.measure(make, SECONDS)["p50"],
    "messages_cold": lambda make: cold.measure(make, SECONDS)["p50"],
    "handoff": lambda make: handoff.microseconds(make, HANDED, SECONDS),
    "idle": lambda make: idle.measure(make, SECONDS)[idle.CASE] + 1,
}
IN_CORE = {("multiprocessing_", "messages"), ("multiprocessing_", "frames")}
CASES = [
    pytest.param(module, kind, marks=() if (module, kind) in IN_CORE else pytest.mark.check)
    for module in peers.MODULES
    for kind in MEASURED
]


def measured(module, kind):
    """What each contender of an adapter reaches, or why there is nothing to measure."""
    try:
        adapter = importlib.import_module(f"benchmarks.peers.{module}")
    except ImportError as error:
        return f"{peers.MODULES[module]}: {error}"
    makes = {peer.name: getattr(peer, kind) for peer in adapter.PEERS}
    if not any(makes.values()):
        return f"{peers.MODULES[module]} has no {kind}"
    return {name: MEASURED[kind](make) for name, make in makes.items() if make}


# Adapters are imported in processes of their own: some packages keep descriptors, threads and
# segments until the process ends, and torch changes how arrays arrive.
@pytest.mark.parametrize(("module", "kind"), CASES)
def test_an_adapter_moves_what_it_says(module, kind):
    for _ in range(RETRIES.get(module, 0)):
        with contextlib.suppress(RunFailed):
            found = apart(measured, module, kind, limit=LIMIT)
            break
    else:
        found = apart(measured, module, kind, limit=LIMIT)
    if isinstance(found, str):
        pytest.skip(found)
    assert found
    assert min(found.values()) > 0


def skipped_with_an_adapter_of_no_package():
    peers.MODULES["no_such_adapter"] = "no-such-peer"
    return peers.load(Options()).skipped["no-such-peer"]


def test_a_peer_that_is_not_installed_is_named():
    assert "no_such_adapter" in apart(skipped_with_an_adapter_of_no_package, limit=LIMIT)


class DamagedFrames(QueueFrames):
    """The last byte of each frame is not as it was sent."""

    def reader(self):
        read = super().reader()

        def damage(look):
            def look_at(frame):
                frame[-1, -1, -1] ^= 1
                look(frame)

            read(look_at)

        return damage


class LosingMessages(QueueMessages):
    """Every second message is lost."""

    def receiver(self):
        receive = self.queue.get

        def take():
            receive()
            return receive()

        return take


class RepeatedMessages(QueueMessages):
    """Every message comes twice."""

    def sender(self):
        put = self.queue.put

        def send(message):
            put(message)
            put(message)

        return send


def test_a_damaged_frame_fails_the_run():
    with pytest.raises(RunFailed, match="came with stamps"):
        frames.measure(DamagedFrames, SECONDS)


def test_a_lost_message_fails_the_run():
    with pytest.raises(RunFailed, match="message 1 came for 0"):
        cold.measure(LosingMessages, SECONDS)


def test_a_message_that_comes_twice_fails_the_run():
    with pytest.raises(RunFailed, match="message 0 came for 1"):
        cold.measure(RepeatedMessages, SECONDS)


@pytest.mark.check
@pytest.mark.parametrize("side", deaths.SIDES)
@pytest.mark.parametrize("kind", list(deaths.KINDS))
def test_onecopy_survives_kills(kind, side):
    from benchmarks.peers.onecopy_ import PEERS

    found = deaths.rounds(getattr(PEERS[0], kind), kind, side, kills=2)
    # The one that a killed receiver had in hand is gone with it.
    assert found["lost"] <= (side == "receiver")
    assert found == {"survived": 100.0, "lost": found["lost"], "damaged": 0.0}


class DamagedMessages(QueueMessages):
    """Checksums do not hold."""

    def sender(self):
        put = self.queue.put
        return lambda message: put(message[:-1] + bytes([message[-1] ^ 1]))


@pytest.mark.check
def test_damage_counts_as_not_survived():
    """No item of it counts, so nothing gets through, and the run fails before anybody is killed."""
    with pytest.raises(RunFailed, match="did not finish"):
        deaths.rounds(DamagedMessages, "messages", "sender", kills=1)


@pytest.mark.check
@pytest.mark.parametrize("name", ["multiprocessing.Queue", "onecopy", "onecopy stream"])
def test_promises_are_tried(name):
    (peer,) = [
        peer
        for module in ("onecopy_", "multiprocessing_")
        for peer in importlib.import_module(f"benchmarks.peers.{module}").PEERS
        if peer.name == name
    ]
    found = {}
    for question, experiment in promises.EXPERIMENTS.items():
        with promises.bench_of(peer.messages) as bench:
            found[question] = experiment(bench)
    stream = name == "onecopy stream"
    assert found == {
        "before the receiver": "0 of 5" if stream else "5 of 5",
        "a full channel": "waits",
        "two senders": "yes",
        "two receivers": "each has all" if stream else "share them",
    }


@pytest.mark.check
@pytest.mark.parametrize(
    ("name", "fills", "reads"),
    [
        ("onecopy", "no", "yes"),
        ("onecopy frames", "yes", "yes"),
        ("hand-made pool", "yes", "yes"),
        ("multiprocessing.Queue", "no", "no"),
    ],
)
def test_copies_are_seen(name, fills, reads):
    (peer,) = [peer for peer in peers.load(Options()).peers if peer.name == name]
    with promises.bench_of(peer.frames) as bench:
        assert promises.in_place(bench) == (fills, reads)


def test_the_end_of_a_flow_does_not_wait_for_a_killed_receiver():
    """One that had the lock of the queue: `deaths` would then wait without end."""
    flow = SharedMemoryPerFrame()
    flow.names.put("a name")
    assert flow.names._rlock.acquire(timeout=60)
    flow.close()
