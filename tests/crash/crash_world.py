"""What every death of the campaign needs: a pool, a second survivor, a victim, and what must hold.

The campaign's own process is one survivor. The pool is empty between two deaths: what an operation
works with is made for it, and taken away afterwards, so that the baseline is zero of everything.
"""

from __future__ import annotations

import gc
import math
import mmap
import os
import pickle
import signal
import struct
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty
from typing import TYPE_CHECKING, Any

import numpy as np
from children import eventually

import onecopy as oc
from onecopy import _native
from onecopy._core.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds within which the survivors must have handled a death. It takes milliseconds. The limit
# holds only in the long run, which has a machine for itself. In a slice only the watchdog ends it.
BOUND = 1.0 if os.environ.get("ONECOPY_CRASH") == "full" else math.inf
HANG = 60  # seconds: a watchdog
NEVER = 1 << 40  # a step that no operation reaches


def nothing(_world: World) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Operation:
    """One entry of the campaign's table."""

    name: str
    covers: tuple[str, ...]  # public operations: "Queue.put"
    act: Callable[[World], object]  # in the victim, with crash points
    prepare: Callable[[World], object] = nothing  # by the survivor
    ready: Callable[[World], object] = nothing  # in the victim, before crash points count
    look: Callable[[World], object] = nothing  # what survivors see: as before, or as after
    several: bool = False  # more than one commit: intermediate states may be seen
    in_child: bool = False  # a forked child of the victim is the process that dies
    repeats: bool = True  # can be done again after a death


# ------------------------------------------------------------------------------ the second survivor


class Second:
    """The second survivor: a process that follows commands, and is a member of the pool."""

    def __init__(self, name: str) -> None:
        asked_in, self._asked = os.pipe()
        self._answered, answer_out = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._asked)
            os.close(self._answered)
            _obey(name, asked_in, answer_out)
        os.close(asked_in)
        os.close(answer_out)
        self("look")  # it has joined

    def __call__(self, order: str) -> None:
        """Let it do something; raise an error of it."""
        data = order.encode()
        os.write(self._asked, struct.pack("B", len(data)) + data)
        answer = os.read(self._answered, 1 << 16)
        if answer != b"ok":
            raise AssertionError(f"the second survivor: {answer.decode(errors='replace')}")

    def end(self) -> None:
        """Let it leave."""
        os.close(self._asked)
        os.waitpid(self.pid, 0)
        os.close(self._answered)


def _obey(name: str, asked: int, answer: int) -> None:
    """Run the second survivor."""
    pool = oc.Pool.open(name)
    orders: dict[str, Callable[[], object]] = {
        "look": lambda: _is_sound(pool),
        "use": lambda: _use(pool),
        "make other": lambda: others.append(oc.Pool.create("other", size="1MiB")),
        "leave other": lambda: [other.close() for other in others] and others.clear(),
    }
    others: list[oc.Pool] = []
    while length := os.read(asked, 1):
        try:
            orders[os.read(asked, length[0]).decode()]()
            gc.collect()
            os.write(answer, b"ok")
        except BaseException:  # noqa: BLE001 - whatever it is, the other side has to hear of it
            os.write(answer, traceback.format_exc().encode()[-4000:])
    pool.close()
    _native.leave_all()
    os._exit(0)


def _is_sound(pool: oc.Pool) -> None:
    wrong = pool.validate()
    assert wrong == [], wrong


def _use(pool: oc.Pool) -> None:
    """Do ordinary work with everything, without checking for deaths."""
    queue = pool.queue(maxsize=2)
    queue.put(item(1))
    queue.put(2, timeout=HANG)
    assert number(queue.get(timeout=HANG)) == 1
    assert queue.get(timeout=HANG) == 2
    pool["use"] = item(3)
    assert number(pool["use"]) == 3
    del pool["use"]
    with pool.lock() as locked, pool.rwlock().write(), pool.semaphore():
        assert locked
    array = pool.zeros(300_000, "u1")
    assert not array.any()


# ---------------------------------------------------------------------------------------- the world


def item(index: int) -> Any:
    """Make a numbered object, part of which is too large for the slot."""
    return {"number": index, "data": np.full(3000, index, "i4")}


def number(thing: Any) -> int:
    """Return the number of an item, after checking that it is complete."""
    if isinstance(thing, int):
        return thing
    if isinstance(thing, tuple):  # of a typed queue
        thing = thing._asdict()
    assert (thing["data"] == thing["number"]).all()
    return int(thing["number"])


@dataclass
class World:
    """The pool, and the things that the current operation uses."""

    pool: oc.Pool
    second: Second
    directory: Any
    things: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.things[name]
        except KeyError:
            raise AttributeError(name) from None

    def settle(self) -> None:
        """Remove everything, and check that nothing is left."""
        if "queue" in self.things:
            drain(self.queue)
        if "eye" in self.things:
            watch(self.eye)
        self.things.clear()
        gc.collect()
        for name in list(self.pool):
            del self.pool[name]
        for kind in Kind:
            for name in self.pool.member.name_list(kind):
                self.pool.member.name_del(kind, name)
        stats = self.pool.stats()
        left = {
            "used": stats.used,
            "blocks": stats.blocks,
            "structures": stats.structures,
            "structure_bytes": stats.structure_bytes,
            "processes": stats.processes,
        }
        assert left == {
            "used": 0,
            "blocks": 0,
            "structures": 0,
            "structure_bytes": 0,
            "processes": 2,
        }


def drain(queue: oc.Queue) -> None:
    """Empty a queue: the numbers must be in order, without gaps and repetitions."""
    numbers = []
    with suppress(Empty):
        while True:
            numbers.append(number(queue.get(timeout=0)))
    assert queue.qsize() == 0
    assert not numbers or numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def watch(eye: oc.Subscription) -> None:
    """Read the messages of a lossless stream for a survivor: none may be missing."""
    numbers = []
    with suppress(Empty):
        while True:
            numbers.append(number(eye.get(timeout=0)))
    assert numbers == list(range(len(numbers)))


@contextmanager
def world(directory: Any) -> Any:
    """Make the pool and the second survivor."""
    name = "campaign"
    with oc.Pool.create(name, size="16MiB", max_processes=16) as pool:
        second = Second(name)
        made = World(pool, second, directory)
        # The first use loads modules of numpy and pickle, which stay.
        _use(pool)
        gc.collect()
        gc.freeze()  # objects of pytest need not be scanned after each death
        try:
            yield made
        finally:
            gc.unfreeze()
            made.things.clear()
            gc.collect()
            second.end()


# ----------------------------------------------------------------------------------------- a victim


class Victims:
    """Kills processes at a crash point, and checks what they leave."""

    def __init__(self, at: World, operation: Operation) -> None:
        self.world = at
        self.operation = operation
        # step and place, which the core writes right before the signal; steps of a completed act
        self._record = mmap.mmap(-1, 32)
        self.deaths = 0
        self.slowest = 0.0
        self.before: Any = None
        self.after: Any = None
        self.last = 0
        self._through = 0  # the last victim was killed after the operation

    def _die(self, step: int) -> tuple[int, int]:
        """Fork a victim and wait for its end; return its last step (0: none), and all its steps."""
        self._record[:32] = bytes(32)
        gc.collect()
        all_ended, held = os.pipe()  # held by the victim and its forked children
        pid = os.fork()
        if pid == 0:
            self._be_the_victim(step)
        os.close(held)
        _, status = os.waitpid(pid, 0)
        assert os.read(all_ended, 1) == b""
        os.close(all_ended)
        assert os.WIFSIGNALED(status), f"the victim failed, status {status}"
        assert os.WTERMSIG(status) == signal.SIGKILL, f"signal {os.WTERMSIG(status)}"
        died_at, _place, steps, self._through = struct.unpack("4Q", self._record[:32])
        return died_at, steps

    def _be_the_victim(self, step: int) -> None:
        operation, at = self.operation, self.world
        try:
            signal.alarm(HANG)
            operation.ready(at)
            if step:
                arm = _native.crash_child_after if operation.in_child else _native.crash_after
                arm(step, self._record)
                kept = operation.act(at)  # noqa: F841 - it dies with it
                steps = _native.crash_steps()
                _native.crash_after(0)
                self._record[16:32] = struct.pack("QQ", steps, 1)
        except BaseException:  # noqa: BLE001 - nothing may get back into pytest from here
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)

    def _recover(self) -> Any:
        """Survive, and return what exists afterwards."""
        at = self.world
        start = time.monotonic()
        at.pool.collect()
        if at.pool.stats().processes != 2:  # a forked child of the victim has not ended yet
            eventually(lambda: (at.pool.collect(), at.pool.stats().processes)[1] == 2, "the end")
        _is_sound(at.pool)
        took = time.monotonic() - start
        assert took < BOUND, f"it took {took:.2f} s"
        self.slowest = max(self.slowest, took)
        stats = at.pool.stats()
        counts = (stats.used, stats.blocks, stats.structures, stats.structure_bytes)
        return (*counts, self.operation.look(at))

    def measure(self) -> None:
        """Determine the states before and after the operation, and the number of steps."""
        self.operation.prepare(self.world)
        assert self._die(0) == (0, 0)
        self.before = self._recover()
        self._go_on()
        self.operation.prepare(self.world)
        died_at, self.last = self._die(NEVER)
        assert died_at == 0
        self.after = self._recover()
        self._go_on()
        if self.operation.in_child:
            self.last = NEVER  # trying finds the last step

    def kill_at(self, step: int, again: bool) -> bool:
        """Let a victim die at a step. False: it finished before that step."""
        self.operation.prepare(self.world)
        died_at, _ = self._die(step)
        # This proves where it died: a kill that does not happen leaves both, or neither.
        if not self.operation.in_child:
            assert (died_at != 0) != self._through, (died_at, self._through)
        assert died_at in {0, step}
        if (step + len(self.operation.name)) % 3 == 0:
            self.world.second("use")  # before any collection
        found = self._recover()
        if not self.operation.several:  # `settle` checks these
            for is_, before, after in zip(found, self.before, self.after, strict=True):
                assert is_ in (before, after), f"{found}; {self.before} before, {self.after} after"
        self._found = found
        self._go_on()
        if again and self.operation.repeats:
            self.operation.prepare(self.world)
            assert self._die(NEVER)[0] == 0
            self._recover()
            self._go_on()
        if died_at == 0:
            return False
        self.deaths += 1
        return True

    def happened(self) -> bool:
        """Tell whether the operation had happened when the last victim died."""
        return self._found != self.before

    def _go_on(self) -> None:
        self.world.second("look")
        self.world.settle()

    # ---- which steps

    def all_steps(self) -> None:
        """Kill at each step, until a victim finishes."""
        step = 1
        while self.kill_at(step, again=True):
            step += 1

    def some_steps(self, seed: int, between: int) -> None:
        """Kill at the first and last steps, at some in between, and around the commit."""
        if self.last == NEVER:
            self.last = 1
            while self.kill_at(self.last, again=False):
                self.last *= 2
            low = self.last // 2
            while low + 1 < self.last:
                middle = (low + self.last) // 2
                if self.kill_at(middle, again=False):
                    low = middle
                else:
                    self.last = middle
            self.last = low
        stride = max(1, self.last // between)
        steps = {1, 2, self.last - 1, self.last}
        steps.update(range(1 + seed % stride, self.last + 1, stride))
        for index, step in enumerate(sorted(steps & set(range(1, self.last + 1)))):
            self.kill_at(step, again=index % 4 == 3)
        if self.before == self.after:
            return
        # The commit lies between the last step that undoes and the first step that completes.
        low, high = 1, self.last
        while low + 1 < high:
            middle = (low + high) // 2
            self.kill_at(middle, again=False)
            if self.happened():
                high = middle
            else:
                low = middle


def by_reference(thing: Any) -> Any:
    """Send something through pickle."""
    return pickle.loads(pickle.dumps(thing))
