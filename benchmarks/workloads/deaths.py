"""Senders and receivers are killed (SIGKILL) while they work: what is left of the channel.

"sender": a receiver receives without a pause. A sender sends until it is killed, at a time drawn
from a fixed seed, and then another one takes its place. The channel has survived when the receiver
has 50 items of the new sender within three seconds, none of them damaged. "receiver" is the same
with the sides exchanged.

Each item carries its sender's number, its own number, and a checksum; frames carry them at both
ends, and the sum of a sample of the bytes between. What a receiver misses between two items of one
sender is counted as lost. A receiver's last number is in a small mapped file, so that what was lost
with a killed one is known too: one item a kill is the one that it had in hand.

Values are percent of the kills that the channel survived: one per round, so that the median and the
extremes tell how sure that is. The harness ends a contender's round at the first kill that it does
not survive.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks import peers
from benchmarks.harness import Member, RunFailed, Team, interleave
from benchmarks.peers.base import FRAME_SHAPE, MESSAGE_BYTES, Frame
from benchmarks.report import Report, at_least, at_most

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Options, Run, Step

SIDES = ("sender", "receiver")
KILLS, KILLS_QUICKLY = 8, 3
# A kill costs a start, and one that is not survived a time bound: more rounds would take hours.
MOST_ROUNDS = 2
# What the new one has to get through, and how long that may take; it has started before.
ENOUGH, LIMIT = 50, 3.0
EARLIEST, LATEST = 0.02, 0.06
HEAD = 16
ENDLESS = 1 << 62
SAMPLE = slice(2048, -2048, 4096)


class Item(NamedTuple):
    generation: int
    number: int
    whole: bool


def head_of(generation: int, number: int) -> bytes:
    return generation.to_bytes(8, "little") + number.to_bytes(8, "little")


def item_of(head: bytes, whole: bool) -> Item:
    return Item(int.from_bytes(head[:8], "little"), int.from_bytes(head[8:16], "little"), whole)


class Messages:
    """Sends and receives items as messages."""

    @staticmethod
    def sending(channel: Any) -> Callable[[int, int], None]:
        send = channel.sender()
        room = bytes(MESSAGE_BYTES - HEAD - 4)

        def give(generation: int, number: int) -> None:
            head = head_of(generation, number)
            send(head + room + zlib.crc32(head + room).to_bytes(4, "little"))

        return give

    @staticmethod
    def receiving(channel: Any) -> Callable[[], Item]:
        receive = channel.receiver()

        def take() -> Item:
            message = bytes(receive())
            whole = len(message) == MESSAGE_BYTES and zlib.crc32(message[:-4]) == int.from_bytes(
                message[-4:], "little"
            )
            return item_of(message[:HEAD], whole)

        return take


class Frames:
    """Sends and receives items as frames of 2.33 MB; all of their bytes depend on the sender."""

    @staticmethod
    def sending(channel: Any) -> Callable[[int, int], None]:
        write = channel.writer()
        frame = np.zeros(FRAME_SHAPE, np.uint8)
        flat = frame.reshape(-1)

        def give(generation: int, number: int) -> None:
            head = np.frombuffer(head_of(generation, number), np.uint8)
            if number == 0:
                flat[:] = generation % 251
            flat[:HEAD] = flat[-HEAD:] = head
            write(frame)

        return give

    @staticmethod
    def receiving(channel: Any) -> Callable[[], Item]:
        read = channel.reader()
        seen: list[Item] = []

        def look(frame: Frame) -> None:
            flat = frame.reshape(-1)
            head = flat[:HEAD].tobytes()
            item = item_of(head, whole=True)
            whole = head == flat[-HEAD:].tobytes() and bool(
                (flat[SAMPLE] == item.generation % 251).all()
            )
            seen.append(item._replace(whole=whole))

        def take() -> Item:
            read(look)
            return seen.pop()

        return take


KINDS: dict[str, Any] = {"messages": Messages, "frames": Frames}


class Progress:
    """The last item that any receiver has seen, in a file: it outlives the receiver."""

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            self.page = mmap.mmap(descriptor, mmap.PAGESIZE)
        finally:
            os.close(descriptor)

    def store(self, item: Item) -> None:
        self.page[:HEAD] = head_of(item.generation, item.number)

    def load(self) -> Item:
        return item_of(self.page[:HEAD], whole=True)


def send(channel: Any, kind: str, generation: int) -> Step:
    give = KINDS[kind].sending(channel)

    def step(count: int) -> int:
        for number in range(count):
            give(generation, number)
        return count

    return step


def receive(channel: Any, kind: str, path: str) -> Step:
    """A step receives ENOUGH items of the generation given, or of any; its answer:
    damaged and lost items.
    """
    take = KINDS[kind].receiving(channel)
    progress = Progress(path)

    def step(generation: int) -> dict[str, int]:
        got = damaged = lost = 0
        last = progress.load()
        while got < ENOUGH:
            item = take()
            if not item.whole:
                damaged += 1
                continue
            if item.generation == last.generation and item.number > last.number:
                lost += item.number - last.number - 1
            last = item
            progress.store(item)
            got += generation in {0, item.generation}
        return {"damaged": damaged, "lost": lost}

    return step


def kill(team: Team, name: str) -> None:
    os.kill(team.pids[name], signal.SIGKILL)


def rounds(make: Callable[[], Any], kind: str, side: str, kills: int) -> dict[str, float]:
    """Kill one after the other; the percentage survived, and items damaged and lost per kill."""
    pauses = random.Random(7)
    survived = damaged = lost = 0
    channel = make()
    with tempfile.TemporaryDirectory(prefix="onecopy-deaths-") as folder:
        path = str(Path(folder) / "progress")
        Path(path).write_bytes(bytes(mmap.PAGESIZE))
        teams: list[Team] = []

        def start(name: str, generation: int) -> Team:
            member = (
                Member(name, send, (channel, kind, generation))
                if name == "sender"
                else Member(name, receive, (channel, kind, path))
            )
            team = Team([member]).__enter__()
            teams.append(team)
            return team

        try:
            receiver, sender = start("receiver", 0), start("sender", 1)
            sender.tell(ENDLESS)
            receiver.step(1, 20.0)
            for number in range(1, kills + 1):
                # The receiver is at it when it is hit, or when the sender is: it waits for what
                # comes after.
                receiver.tell(number + 1 if side == "sender" else ENDLESS)
                time.sleep(pauses.uniform(EARLIEST, LATEST))
                if side == "sender":
                    kill(sender, "sender")
                    sender = start("sender", number + 1)
                    sender.tell(ENDLESS)
                    answer = receiver.collect(LIMIT)["receiver"]
                else:
                    kill(receiver, "receiver")
                    receiver = start("receiver", 0)
                    answer = receiver.step(0, LIMIT)["receiver"]
                damaged += answer["damaged"]
                lost += answer["lost"]
                survived += not answer["damaged"]
        except RunFailed:
            if not teams or len(teams) < 3:
                raise  # nobody has been killed yet
        finally:
            for team in teams:
                team.stop(kill=True)
            channel.close()
    return {"survived": 100 * survived / kills, "lost": lost / kills, "damaged": float(damaged)}


def run(options: Options) -> Report:
    field = peers.load(options)
    report = Report("deaths", "kill -9 of one side, again and again")
    report.skipped = field.skipped
    kills = KILLS_QUICKLY if options.quick else KILLS
    report.notes.append(f"{kills} kills a run")

    def contender(make: Callable[[], Any], kind: str, side: str) -> Run:
        return lambda: rounds(make, kind, side, kills)

    for kind in KINDS:
        for side in SIDES:
            case = f"{kind}, {side} killed"
            options.say(f" {case}")
            contenders = {
                peer.name: contender(make, kind, side)
                for peer in field.peers
                if (make := getattr(peer, f"{kind}_free") or getattr(peer, kind))
                and not peer.yardstick
            }
            outcomes = interleave(contenders, min(options.runs, MOST_ROUNDS), options.say)
            report.add(case, "% survived", outcomes, "survived")
            report.add(f"{case}: damaged", "items", outcomes, "damaged")
            report.add(f"{case}: lost", "items a kill", outcomes, "lost")
            for name in ("onecopy", "onecopy frames", "onecopy stream"):
                if name in contenders:
                    least = min(outcomes[name].values.get("survived", [0.0]))
                    report.targets.append(at_least(f"{name}: {case}", least, 100.0, "% survived"))
                    worst = max(outcomes[name].values.get("damaged", [0.0]))
                    report.targets.append(at_most(f"{name}: {case}, damaged", worst, 0.0, "items"))
    return report
