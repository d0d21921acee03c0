"""What each contender can and cannot do, found by experiments.

Each answer is one experiment with processes of its own. "-" is a thing that the adapter has no call
for, because the package has none.

- before the receiver: how many of five messages reach a receiver that starts after they were sent.
- a full channel: the receiver does nothing, and the sender sends four times what may be on the way.
  "waits" if it does not get through; otherwise how many of them the receiver then has.
- two senders, two receivers: 100 messages each way. Receivers share them, or each has all.
- fills, reads in place: whether the array that a producer's frame is copied into, and the one that
  a consumer is given, lies in memory that is mapped as shared. If not, there is one more copy on
  the way.
- left behind: files in /dev/shm and the folder for temporary files, and sockets there, that are
  left when both sides were killed and the channel was closed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import peers
from benchmarks.harness import Member, RunFailed, Team
from benchmarks.peers.base import FRAME_BYTES, FRAME_SHAPE, MESSAGE_BYTES, MESSAGE_DEPTH
from benchmarks.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Options, Step
    from benchmarks.peers.base import Frame, Peer

LATE, MANY = 5, 100
LIMIT = 5.0
# How long nothing has to come before nothing is expected any more.
QUIET = 1.0
NONE = "-"
YES, NO = "yes", "no"
FOLDERS = ("/dev/shm", tempfile.gettempdir())  # noqa: S108 - looked into


def message(sender: int, number: int) -> bytes:
    return sender.to_bytes(8, "little") + number.to_bytes(8, "little") + bytes(MESSAGE_BYTES - 16)


def sending(channel: Any, sender: int) -> Step:
    send = channel.sender()

    def step(count: int) -> int:
        for number in range(count):
            send(message(sender, number))
        return count

    return step


def receiving(channel: Any, path: str, gate: Path | None = None) -> Step:
    """Receives until it is killed, and writes a line for each message: what counts is what has
    come by then.

    With `gate` it stops after its first message until that file is there. It holds nothing of the
    channel then.
    """
    receive = channel.receiver()
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def step(_count: int) -> int:
        while True:
            got = bytes(receive())
            sender, number = (int.from_bytes(got[at : at + 8], "little") for at in (0, 8))
            whole = got == message(sender, number)
            os.write(log, b"%d %d\n" % (sender, number) if whole else b"damaged 0\n")
            while gate is not None and not gate.exists():
                time.sleep(0.001)

    return step


class Bench:
    """Processes of one experiment on one channel; all of them are killed at the end."""

    def __init__(self, make: Callable[[], Any], folder: Path) -> None:
        self.channel = make()
        self.folder = folder
        self.teams: list[Team] = []

    def start(self, setup: Callable[..., Step], *args: Any) -> Team:
        member = Member(f"{setup.__name__} {len(self.teams)}", setup, (self.channel, *args))
        team = Team([member]).__enter__()
        self.teams.append(team)
        return team

    def sender(self, number: int = 1) -> Team:
        return self.start(sending, number)

    def receiver(self, number: int = 1, gate: Path | None = None) -> Path:
        """Starts a receiver; gives the file of what it receives."""
        path = self.folder / f"receiver {number}"
        self.start(receiving, str(path), gate).tell(1)
        return path

    def close(self) -> None:
        for team in self.teams:
            team.stop(kill=True)
        self.channel.close()


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


def settled(paths: list[Path], enough: int) -> list[list[str]]:
    """What has come when it is `enough`, or when nothing more has come for QUIET seconds."""
    before, since = -1, time.monotonic()
    while True:
        found = [lines(path) for path in paths]
        total = sum(map(len, found))
        if total >= enough or time.monotonic() - since > QUIET:
            return found
        if total != before:
            before, since = total, time.monotonic()
        time.sleep(0.02)


def late(bench: Bench) -> str:
    sender = bench.sender()
    sender.tell(LATE)
    time.sleep(0.1)
    (found,) = settled([bench.receiver()], LATE)
    return f"{len(found)} of {LATE}"


def full(bench: Bench) -> str:
    """The receiver is stopped as a process, so that it is there and does not read."""
    path = bench.receiver()
    sender = bench.sender()
    sender.step(1, LIMIT)
    settled([path], 1)
    pid = next(iter(bench.teams[0].pids.values()))
    os.kill(pid, signal.SIGSTOP)
    count = 4 * MESSAGE_DEPTH
    waits = False
    try:
        sender.tell(count)
        end = time.monotonic() + QUIET
        while not (done := sender.answers()) and time.monotonic() < end:
            time.sleep(0.02)
        waits = not done
    finally:
        os.kill(pid, signal.SIGCONT)
    (found,) = settled([path], count + 1)
    got = len(found) - 1
    if got == count:
        return "waits" if waits else "grows"
    return f"loses: {got:,} of {count:,} came"


def two_senders(bench: Bench) -> str:
    path = bench.receiver()
    try:
        first, second = bench.sender(1), bench.sender(2)
        first.tell(MANY)
        second.tell(MANY)
    except RunFailed as error:
        return f"no: {str(error)[:60]}"
    (found,) = settled([path], 2 * MANY)
    each = [sum(line.startswith(f"{number} ") for line in found) for number in (1, 2)]
    return YES if each == [MANY, MANY] else f"no: {each[0]} and {each[1]} of {MANY} came"


def two_receivers(bench: Bench) -> str:
    """The receiver that has the first message takes no second one before the gate opens.

    Without that, one receiver can be so fast, and the other so late, that it gets all.
    """
    gate = bench.folder / "gate"
    paths = [bench.receiver(1, gate)]
    try:
        paths.append(bench.receiver(2, gate))
        sender = bench.sender()
        for _ in range(2):
            sender.step(1, LIMIT)
        settled(paths, 2)
        gate.touch()
        for _ in range(MANY - 2):
            sender.step(1, LIMIT)
    except RunFailed as error:
        return f"no: {str(error)[:60]}"
    counts = [len(found) for found in settled(paths, 2 * MANY)]
    if counts == [MANY, MANY]:
        return "each has all"
    if sum(counts) == MANY and all(counts):
        return "share them"
    return f"no: {counts[0]} and {counts[1]} of {MANY} came"


def is_shared(array: Frame) -> bool:
    """Whether an array's first byte lies in a mapping that is shared."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        bounds, rights = line.split()[:2]
        low, high = (int(bound, 16) for bound in bounds.split("-"))
        if low <= address < high:
            return rights.endswith("s")
    return False


class Spied(np.ndarray):
    """A frame that notes whether it is copied into shared memory. It keeps no reference to
    where.
    """

    shared = False

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.copyto:
            type(self).shared = is_shared(args[0])
            args = (args[0], args[1].view(np.ndarray), *args[2:])
        return super().__array_function__(function, types, args, kwargs)


def producing(channel: Any) -> Step:
    """Sends frames; its answer says whether the last one was copied into shared memory by the
    caller.
    """
    write = channel.writer()
    frame = np.full(FRAME_SHAPE, 7, np.uint8)

    def step(count: int) -> bool:
        for _ in range(count):
            write(frame)
        write(frame.view(Spied))
        return Spied.shared

    return step


def consuming(channel: Any) -> Step:
    read = channel.reader()
    seen: list[bool] = []

    def look(frame: Frame) -> None:
        assert frame.size == FRAME_BYTES, f"{frame.size} bytes came"
        assert bool((np.asarray(frame) == 7).all()), "a frame came damaged"
        seen.append(is_shared(frame))

    def step(count: int) -> bool:
        for _ in range(count + 1):
            read(look)
        return seen[count - 1]  # the last before the one that is spied on

    return step


def in_place(bench: Bench) -> tuple[str, str]:
    members = [
        Member("consumer", consuming, (bench.channel,)),
        Member("producer", producing, (bench.channel,)),
    ]
    with Team(members) as team:
        answers = team.step(3, LIMIT)
    return tuple(YES if answers[name] else NO for name in ("producer", "consumer"))  # type: ignore[return-value]


def entries() -> set[str]:
    return {
        entry.path
        for folder in FOLDERS
        for entry in os.scandir(folder)
        if "onecopy-promises" not in entry.name
    }


@contextlib.contextmanager
def bench_of(make: Callable[[], Any]) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="onecopy-promises-") as folder:
        bench = Bench(make, Path(folder))
        try:
            yield bench
        finally:
            bench.close()
            # The standard library's semaphores go when their last object does.
            bench.channel = None


def left_behind(make: Callable[[], Any]) -> str:
    """Files that appear while a channel is used and are still there when it has been closed.

    Counted are names with this process's id, and those that a peer or the standard library makes
    up. Of the latter, other programs may make some at the same time: on a machine that does
    something else, look again.
    """
    before = entries()
    with bench_of(make) as bench:
        path = bench.receiver()
        sender = bench.sender()
        sender.tell(MANY)
        settled([path], MANY)
        for team in bench.teams:
            for pid in team.pids.values():
                os.kill(pid, signal.SIGKILL)
    mine = {path for path in entries() - before if f"-{os.getpid()}-" in path or is_new(path)}
    return f"{len(mine)} files" if mine else "nothing"


def is_new(path: str) -> bool:
    """Whether a file is one that a peer has made under a name of its own, as iceoryx2 does."""
    return Path(path).name.startswith(("iox2_", "psm_", "sem.", "torch_"))


EXPERIMENTS: dict[str, Callable[[Bench], str]] = {
    "before the receiver": late,
    "a full channel": full,
    "two senders": two_senders,
    "two receivers": two_receivers,
}
IN_PLACE = ("fills in place", "reads in place")
LEFT = "left behind"


def facts_of(peer: Peer) -> dict[str, str]:
    """All answers of one contender."""
    answers = dict.fromkeys((*EXPERIMENTS, *IN_PLACE, LEFT), NONE)
    if messages := peer.messages_free or peer.messages:
        for question, experiment in EXPERIMENTS.items():
            try:
                with bench_of(messages) as bench:
                    answers[question] = experiment(bench)
            except Exception as error:  # noqa: BLE001 - an answer too
                answers[question] = f"failed: {' '.join(str(error).split())[:80]}"
        answers[LEFT] = left_behind(messages)
    if frames := peer.frames_free or peer.frames:
        try:
            with bench_of(frames) as bench:
                answers.update(zip(IN_PLACE, in_place(bench), strict=True))
        except Exception as error:  # noqa: BLE001 - as above
            answers[IN_PLACE[0]] = answers[IN_PLACE[1]] = (
                f"failed: {' '.join(str(error).split())[:80]}"
            )
    return answers


def run(options: Options) -> Report:
    field = peers.load(options)
    report = Report("promises", "what was tried, once each")
    report.skipped = field.skipped
    for peer in field.peers:
        if not (peer.yardstick or (peer.messages is None and peer.frames is None)):
            report.facts[peer.name] = facts_of(peer)
            options.say(f"  {peer.name}: {report.facts[peer.name]}")
    return report
