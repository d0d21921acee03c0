"""Start, kill, stop and replace the processes of a soak; check each round."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onecopy as oc
from onecopy._core import stale
from onecopy._core.kinds import Kind

from . import ledger, roles
from .audit import Account, Counts, Pauses, additions, audit

POPULATION = {
    "producer": 2,
    "worker": 3,
    "publisher": 1,
    "subscriber": 2,
    "locker": 2,
    "visitor": 2,
}
POOL, SIZE = "soak", 96 << 20
END_TIMEOUT = 60.0  # seconds after which a process that was asked to end counts as stuck


@dataclass
class Options:
    """The options of the command line."""

    minutes: float
    seed: int
    round_seconds: float
    redeliver: str  # "yes", "no", or "auto": in every other round
    pace: float  # seconds between two acts of the killer, on average


@dataclass
class Child:
    """A process of the soak."""

    role: str
    identity: int
    process: Any  # multiprocessing's Process, or subprocess's Popen
    killed: int | None = None
    doomed: int | None = None
    told: bool = False
    stopped: int | None = None
    continue_at: float = 0.0
    status: int | None = field(default=None)

    @property
    def pid(self) -> int:
        return self.process.pid

    def poll(self) -> int | None:
        """Return the exit status after it has ended."""
        if self.status is None:
            if isinstance(self.process, subprocess.Popen):
                self.status = self.process.poll()
            else:
                self.status = self.process.exitcode
        return self.status

    def signal(self, number: int) -> None:
        # Its process id is not used again until another process has waited for it.
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)


class Soak:
    """A pool, and the rounds on it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.counts = Counts()
        self.randomness = random.Random(options.seed)  # noqa: S311 - not for secrets
        self.identity = 0
        self.children: list[Child] = []
        self.pauses: list[tuple[int, int]] = []
        self.books = Path(tempfile.mkdtemp(prefix="onecopy-soak-"))
        self.forkserver = multiprocessing.get_context("forkserver")
        self.forkserver.set_forkserver_preload([roles.__name__])
        self.fork = multiprocessing.get_context("fork")

    def run(self) -> Counts:
        """Run rounds until the time is over; return the counts."""
        end = time.monotonic() + self.options.minutes * 60
        directory = Path(os.environ["ONECOPY_DIR"])
        try:
            with oc.Pool.create(POOL, size=SIZE, max_processes=64) as pool:
                self.population = {
                    role: count
                    for role, count in POPULATION.items()
                    if role != "locker" or hasattr(pool, "lock")
                }
                if "locker" not in self.population:
                    print("this build has no locks: no lockers", flush=True)
                while time.monotonic() < end:
                    seconds = min(self.options.round_seconds, end - time.monotonic())
                    self.round(pool, max(seconds, 1.0))
                    self.say(self.summary())
            gc.collect()
            for left in directory.iterdir():
                self.counts.accuse("leaked_files", left.name)
        finally:
            for child in self.children:
                child.signal(signal.SIGKILL)
        if self.counts.good:
            shutil.rmtree(self.books)
        else:
            print(f"the ledgers of the rounds that went wrong are in {self.books}")
        return self.counts

    def summary(self) -> str:
        c = self.counts
        wrong = (
            ", ".join(f"{w} {getattr(c, w)}" for w in c.WRONG if getattr(c, w)) or "nothing wrong"
        )
        return (
            f"round {c.rounds}: {c.kills} kills, {c.stops} stops, {c.messages} messages, "
            f"{c.broadcasts} broadcasts, longest stall {c.longest_stall:.0f} ms; {wrong}"
        )

    @staticmethod
    def say(text: str) -> None:
        print(text, flush=True)

    # --------------------------------------------------------------------------------- a round

    def round(self, pool: oc.Pool, seconds: float) -> None:
        """Let the killer run, then check the round."""
        directory = self.books / f"round-{self.counts.rounds}"
        directory.mkdir()
        reported = len(self.counts.notes)
        chosen = self.options.redeliver
        self.redelivers = chosen == "yes" or (chosen == "auto" and self.counts.rounds % 2 == 0)
        round_ = roles.Round(pool, redeliver=self.redelivers)
        self.pauses = []
        self.all: list[Child] = []
        self._refill(directory)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(self.randomness.expovariate(1 / self.options.pace), 0.2))
            self._act()
            self._reap(directory)
            self._refill(directory)
        abruptly = self.randomness.random() < 0.5
        if abruptly:
            for child in self.children:
                self._kill(child)
        else:
            self._finish(round_, directory)
        self._wait(directory)
        book = ledger.Ledger(directory / "worker-0.book")
        self._alone(pool)
        while roles.take(round_, book, 1, timeout=0) or round_.queue.qsize():
            pass
        book.close()
        self._settle(round_, directory)
        del round_
        self._empty(pool)
        self.counts.rounds += 1
        for note in self.counts.notes[reported:]:
            self.say(f"  {note}")
        if len(self.counts.notes) == reported:
            shutil.rmtree(directory)

    def _start(self, role: str, directory: Path) -> None:
        self.identity += 1
        arguments = (
            str(directory),
            POOL,
            role,
            self.identity,
            self.options.seed,
            self.redelivers,
        )
        how = self.randomness.random()
        process: Any
        if how < 0.05:
            process = subprocess.Popen(
                [sys.executable, "-m", roles.__name__, *map(str, arguments)],
                cwd=Path(__file__).resolve().parents[len(roles.__name__.split(".")) - 1],
            )
        else:
            context = self.fork if how < 0.5 else self.forkserver
            process = context.Process(target=roles.run, args=arguments)
            process.start()
        child = Child(role, self.identity, process)
        self.children.append(child)
        self.all.append(child)
        self.counts.processes += 1

    def _refill(self, directory: Path) -> None:
        for role, count in self.population.items():
            for _ in range(count - sum(child.role == role for child in self.children)):
                self._start(role, directory)

    def _act(self) -> None:
        for child in self.children:
            if child.stopped is not None and time.monotonic() > child.continue_at:
                self._continue(child)
        child = self.randomness.choice(self.children)
        what = self.randomness.random()
        if what < 0.6:
            self._kill(child)
        elif what < 0.9:
            if child.stopped is None:
                child.stopped = time.monotonic_ns()
                child.continue_at = time.monotonic() + self.randomness.uniform(0.002, 0.15)
                child.signal(signal.SIGSTOP)
                self.counts.stops += 1
        else:
            child.told = True
            child.signal(signal.SIGTERM)

    def _kill(self, child: Child) -> None:
        if child.poll() is None and child.killed is None:
            child.doomed = time.monotonic_ns()
            child.signal(signal.SIGKILL)
            child.killed = time.monotonic_ns()  # after the kill: it did nothing later than this
            self.counts.kills += 1

    def _continue(self, child: Child) -> None:
        child.signal(signal.SIGCONT)
        if child.stopped is not None:
            self.pauses.append((child.stopped, time.monotonic_ns()))
        child.stopped = None

    def _reap(self, directory: Path) -> None:
        for child in list(self.children):
            status = child.poll()
            if status is None:
                continue
            self.children.remove(child)
            if child.stopped is not None:
                self.pauses.append((child.stopped, time.monotonic_ns()))
            complaint = ""
            with contextlib.suppress(FileNotFoundError):
                complaint = (directory / f"{child.role}-{child.identity}.err").read_text()
            expected = {-signal.SIGKILL, 0} if child.killed else {0}
            # It got the signal before it had set its handler: that ends it as well.
            expected |= {-signal.SIGTERM} if child.told else set()
            if (
                status not in expected
                or (status == 0 and not (child.told or child.killed))
                or complaint
            ):
                self.counts.accuse(
                    "failed", f"{child.role} {child.identity} ended with {status}: {complaint}"
                )
            if status == -signal.SIGTERM:
                child.killed = time.monotonic_ns()

    # ------------------------------------------------------------------------ the end of a round

    def _finish(self, round_: roles.Round, directory: Path) -> None:
        """Tell all processes to end, the workers when there is no work left."""
        for child in self.children:
            self._continue(child)
        for child in self.children:
            if child.role != "worker":
                child.told = True
                child.signal(signal.SIGTERM)
        deadline = time.monotonic() + END_TIMEOUT
        while round_.queue.qsize() or any(child.role != "worker" for child in self.children):
            self._reap(directory)
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        for child in self.children:
            child.told = True
            child.signal(signal.SIGTERM)

    def _wait(self, directory: Path) -> None:
        deadline = time.monotonic() + END_TIMEOUT
        while self.children:
            self._reap(directory)
            if time.monotonic() > deadline:
                for child in self.children:
                    child.signal(signal.SIGUSR1)  # faulthandler prints where it is
                time.sleep(1)
                for child in self.children:
                    self.counts.accuse("failed", f"{child.role} {child.identity} is stuck")
                    self._kill(child)
            time.sleep(0.005)

    def _alone(self, pool: oc.Pool) -> None:
        """Wait until no other process is in the pool, and check the pool."""
        deadline = time.monotonic() + END_TIMEOUT
        while True:
            pool.collect()
            if pool.stats().processes == 1:
                break
            if time.monotonic() > deadline:
                self.counts.accuse("invalid", f"still there: {pool.member.holders()}")
                break
            time.sleep(0.002)  # a visitor's forked child that lives longer than the visitor
        for finding in pool.validate():
            self.counts.accuse("invalid", f"after the processes had gone: {finding}")

    def _settle(self, round_: roles.Round, directory: Path) -> None:
        accounts = []
        drained = Child("worker", 0, None, status=0)
        for child in [*self.all, drained]:
            path = directory / f"{child.role}-{child.identity}.book"
            entries, accusations = ledger.read(path)
            accounts.append(
                Account(child.role, child.identity, entries, child.killed, child.doomed)
            )
            for text in accusations:
                self.counts.accuse("corrupt", f"{child.role} {child.identity}: {text}")
        audit(self.counts, accounts, Pauses(self.pauses), redeliver=self.redelivers)
        least, most = additions(accounts)
        if not least <= int(round_.pair[0]) <= most:
            self.counts.accuse("lost", f"additions: {round_.pair.tolist()} of {least} to {most}")

    def _empty(self, pool: oc.Pool) -> None:
        """Remove every name; then nothing may be left."""
        gc.collect()
        for kind in Kind:
            for name in pool.member.name_list(kind):
                pool.member.name_del(kind, name)
        pool.collect()
        stats = pool.stats()
        if stats.used or stats.structure_bytes:
            self.counts.accuse("leaked_bytes", str(stats), stats.used + stats.structure_bytes)
        for finding in pool.validate():
            self.counts.accuse("invalid", f"after everything was deleted: {finding}")
        for name, state in stale.sweep(os.environ["ONECOPY_DIR"], remove=True):
            if (name, state) != (f"{POOL}.pool", "in_use"):
                self.counts.accuse("leaked_files", f"{name} is {state}")
