"""The work of the processes of a soak. Each runs until it gets SIGTERM, or is killed."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue as standard
import random
import signal
import sys
import time
import zlib
from pathlib import Path

import numpy as np

import onecopy as oc

from .ledger import Ledger

FRAME = 20_000  # bytes
POLL_TIMEOUT = 0.2  # seconds that an operation waits before it looks whether it is to finish
NAMES = 24
QUEUE, MAXSIZE = "jobs", 512
LOSSY, LOSSLESS = "lossy", "lossless"
DEPTH = 16
FRAMES = "frames"
PAIR, LOCK = "pair", "lock"


class Round:
    """The named structures of a round, opened by name."""

    def __init__(self, pool: oc.Pool, *, redeliver: bool) -> None:
        self.pool = pool
        self.redeliver = redeliver
        options = {"redeliver": True} if redeliver else {}
        self.queue = pool.queue(QUEUE, maxsize=MAXSIZE, **options)
        self.frames = pool.frames(FRAMES, (FRAME,), "u1", 24)
        self.lossy = pool.stream(LOSSY, depth=DEPTH, policy="lossy")
        self.lossless = pool.stream(LOSSLESS, depth=DEPTH, policy="lossless")
        self.pair = pool.shared_array(2, "i8", name=PAIR)


# ------------------------------------------------------------------------------------- what is sent


def message(randomness: random.Random, identity: int, number: int, frames: oc.Frames | None):
    """Make a message: its producer, its number, the checksum of the bytes, the bytes."""
    kind = randomness.randrange(5)
    if kind == 0 and frames is not None:
        with contextlib.suppress(standard.Empty):
            frame = frames.acquire(timeout=0)
            frame[:] = _pattern(randomness, FRAME)
            return identity, number, zlib.crc32(frame), frame
    if kind <= 1:
        payload = randomness.randbytes(randomness.randrange(120))  # inline in the slot
        return identity, number, zlib.crc32(payload), payload
    array = _pattern(randomness, randomness.choice([300, 5_000, 40_000, 300_000]))
    if kind == 2:
        return identity, number, zlib.crc32(array), array
    if kind == 3:
        return identity, number, zlib.crc32(array), {"array": array, "name": f"m{number}"}  # pickle
    return identity, number, zlib.crc32(array), array.tobytes()


def _pattern(randomness: random.Random, size: int) -> np.ndarray:
    start = randomness.randrange(256)
    return (np.arange(start, start + size, dtype="u4") * 2654435761 >> 13).astype("u1")


def check(received: object) -> tuple[int, int]:
    """Return producer and number of a received message; ValueError if it is broken."""
    identity, number, checksum, payload = received
    if isinstance(payload, dict):
        if payload["name"] != f"m{number}":
            raise ValueError(f"message {identity}/{number} has the name {payload['name']!r}")
        payload = payload["array"]
    if zlib.crc32(payload) != checksum:
        raise ValueError(f"message {identity}/{number} has another checksum")
    return identity, number


# -------------------------------------------------------------------------------------------- roles


def producer(all_: Round, book: Ledger, randomness: random.Random, identity: int, going) -> None:
    """Put messages."""
    number = 0
    while going():
        if all_.queue.qsize() > MAXSIZE // 2:
            time.sleep(0.002)
            continue
        batch = randomness.choice([1, 1, 1, 8])
        items = []
        for _ in range(batch):
            with contextlib.suppress(oc.PoolFull):
                items.append(message(randomness, identity, number, all_.frames))
                number += 1
        if len(items) > 1 and all(
            isinstance(item[3], bytes) and len(item[3]) < 200 for item in items
        ):
            _put_many(all_.queue, book, items)
            continue
        while items:
            item = items.pop(0)
            _step(book, item[1], lambda item=item: all_.queue.put(item, timeout=POLL_TIMEOUT))
            del item
        time.sleep(0.001)


def _put_many(queue: oc.Queue, book: Ledger, items: list) -> None:
    numbers = [item[1] for item in items]
    book.notes([("?", n) for n in numbers])
    queue.put_many(items)
    book.notes([("!", n) for n in numbers])


def _step(book: Ledger, number: int, act) -> None:
    book.note("?", number)
    try:
        act()
    except (standard.Full, oc.PoolFull):
        book.note("x", number)
    else:
        book.note("!", number)


def worker(all_: Round, book: Ledger, randomness: random.Random, identity: int, going) -> None:
    """Take messages and look at them; keep a few for a while.

    From a queue that redelivers, it has up to four unfinished messages, and finishes them in any
    order.
    """
    kept: list[object] = []
    in_hand: list[object] = []
    while going():
        messages = take(all_, book, randomness.choice([1, 1, 1, 6]), finish=False)
        kept.append(messages)
        del kept[: -randomness.randrange(1, 4)]
        if all_.redeliver:
            in_hand += messages
            while len(in_hand) > randomness.randrange(4):
                _finish(book, in_hand.pop(randomness.randrange(len(in_hand))))
    for message in in_hand:
        _finish(book, message)


def _finish(book: Ledger, message) -> None:
    """Finish the work on a message, and write that it was finished."""
    identity, number = message.item[:2]
    book.note("~", identity, number)
    message.task_done()
    book.note("=", identity, number)


def take(
    all_: Round, book: Ledger, most: int, timeout: float = POLL_TIMEOUT, *, finish: bool = True
) -> list:
    """Ask for messages once; return them."""
    if all_.redeliver:
        most = 1
    book.note("?", most)
    messages = []
    try:
        if all_.redeliver:
            messages = [all_.queue.get_message(timeout=timeout)]
        elif most == 1:
            messages = [all_.queue.get(timeout=timeout)]
        else:
            messages = all_.queue.get_many(most, timeout=timeout)
    except standard.Empty:
        book.note(".")
        return []
    # The times are those of arrival: the checksums come later.
    lines: list[tuple[str | int, ...]] = []
    for one in messages:
        item, again = (one.item, one.redelivered) if all_.redeliver else (one, False)
        lines.append(("g", item[0], item[1], int(again)))
    book.notes([*lines, (".",)])
    for one in messages:
        try:
            check(one.item if all_.redeliver else one)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            book.accuse(f"{type(error).__name__}: {error}")
            continue
        if all_.redeliver and finish:
            _finish(book, one)
    return messages


def publisher(all_: Round, book: Ledger, randomness: random.Random, identity: int, going) -> None:
    """Publish on both streams; even numbers on the lossless one."""
    number = 0
    while going():
        stream = all_.lossy if number % 2 else all_.lossless
        with contextlib.suppress(oc.PoolFull):
            sent = message(randomness, identity, number, None)
            _step(book, number, lambda stream=stream, sent=sent: stream.publish(sent, timeout=5))
        number += 1
        time.sleep(0.003)


def subscriber(all_: Round, book: Ledger, randomness: random.Random, identity: int, going) -> None:
    """Subscribe to one stream for a while, again and again."""
    while going():
        # "? 0" and "? 1" tell the streams apart; the subscription's account ends with "m".
        lossless = randomness.randrange(2)
        subscription = (all_.lossless if lossless else all_.lossy).subscribe()
        book.note("?", lossless)
        for _ in range(randomness.randrange(1, 400)):
            if not going():
                break
            try:
                received = subscription.get(timeout=POLL_TIMEOUT)
            except standard.Empty:
                continue
            try:
                book.note("g", *check(received), 0)
            except Exception as error:  # noqa: BLE001 - as above
                book.accuse(f"{type(error).__name__}: {error}")
        book.note("m", subscription.missed)
        subscription.close()


def locker(all_: Round, book: Ledger, randomness: random.Random, identity: int, going) -> None:
    """Add one to both words of the pair under the lock."""

    def repair(*_: object) -> None:
        pair[1] = pair[0]  # what was begun is finished

    pair = all_.pair
    lock = all_.pool.lock(LOCK, on_owner_death=repair)
    number = 0
    while going():
        book.note("?", number)
        with lock:
            before = int(pair[0])
            if before != int(pair[1]):
                book.accuse(f"the pair is {pair.tolist()} although nobody died")
            pair[0] = before + 1
            pair[1] = before + 1
        book.note("!", number)
        number += 1
        time.sleep(0.001)


def visitor(all_: Round, book: Ledger, randomness: random.Random, identity: int, going) -> None:
    """Set, read and remove names; fork; make and drop structures; fill the pool for a moment."""
    pool, number = all_.pool, 0
    while going():
        name = f"name {randomness.randrange(NAMES)}"
        number += 1
        book.note("?", number)
        try:
            _visit(pool, book, randomness, identity, name, number)
        except (oc.PoolFull, KeyError, standard.Empty, standard.Full):
            book.note("x", number)
        else:
            book.note("!", number)
        time.sleep(0.002)


def _visit(pool, book, randomness, identity, name, number) -> None:
    match randomness.randrange(12):
        case 0 | 1 | 2:
            pool[name] = message(randomness, identity, number, None)
        case 3 | 4 | 5:
            try:
                check(pool[name])
            except (ValueError, TypeError) as error:
                book.accuse(f"{name!r}: {error}")
        case 6:
            del pool[name]
        case 7:
            own = pool.queue(maxsize=8)
            own.put(np.zeros(10_000))
            own.put([pool.zeros(1_000), 1])
            own.get(timeout=POLL_TIMEOUT)
        case 8:
            stream, frames = pool.stream(depth=2), pool.frames(None, (100,), "u1", 3)
            subscription = stream.subscribe()
            stream.publish(frames.acquire(timeout=POLL_TIMEOUT))
            subscription.get(timeout=POLL_TIMEOUT)
        case 9:
            held = []
            with contextlib.suppress(oc.PoolFull):
                while len(held) < 40:
                    held.append(pool.empty(1 << 20, "u1"))
            del held
        case 10:
            reference = pool.put({"a": np.arange(randomness.randrange(1, 5000))})
            reference.get()
            reference.release()
        case 11:
            _fork(pool, name)


def _fork(pool: oc.Pool, name: str) -> None:
    """A child that uses what it inherits, and dies at once, by itself or by a kill."""
    array = pool.full(1_000, 7, "u1")
    child = os.fork()
    if child == 0:
        if array.sum() != 7_000:
            os._exit(1)
        pool[name] = (0, 0, zlib.crc32(b""), b"")
        os.kill(os.getpid(), signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise RuntimeError(f"the forked child saw other bytes, or failed: status {status}")


ROLES = {role.__name__: role for role in (producer, worker, publisher, subscriber, locker, visitor)}


def run(
    directory: str, pool_name: str, role: str, identity: int, seed: int, redeliver: bool
) -> None:
    """Be one process of the soak; its ledger and its stderr go to the directory."""
    wanted = True

    def finish(*_: object) -> None:
        nonlocal wanted
        wanted = False

    signal.signal(signal.SIGTERM, finish)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    base = Path(directory, f"{role}-{identity}")
    complaints = os.open(f"{base}.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(complaints, 2)
    os.close(complaints)
    faulthandler.register(signal.SIGUSR1)  # when it counts as stuck, print where it is
    with oc.Pool.open(pool_name) as pool:
        all_ = Round(pool, redeliver=redeliver)
        ROLES[role](
            all_,
            Ledger(base.with_suffix(".book")),
            random.Random(f"{seed} {identity}"),  # noqa: S311 - not for secrets
            identity,
            lambda: wanted,
        )


if __name__ == "__main__":  # another process
    _directory, _pool, _role, _identity, _seed, _redeliver = sys.argv[1:]
    run(_directory, _pool, _role, int(_identity), int(_seed), _redeliver == "True")
