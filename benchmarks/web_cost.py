"""What `onecopy web` costs while a page is open: processor time, and the speed of a pool.

Run ``python -m benchmarks.web_cost``. Members of a pool sleep in it. First, the processor time of
the server is measured without a page and with one. Then a process puts messages into a queue of the
pool and gets them, in rounds of a second: alone; with a page, so that the server takes a snapshot
in each round; alone; and while another process takes snapshots without a pause. What is printed of
them are medians of the ratios to the rounds beside them, so slow changes of the machine cancel out.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import onecopy as oc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.sharedctypes import Synchronized
    from multiprocessing.synchronize import Event

    from onecopy.pool import Pool

NAME = f"web-cost-{os.getpid()}"


def member() -> None:
    """Wait in the pool."""
    with oc.Pool.open(NAME) as pool:
        pool.queue("idle").get()


@contextlib.contextmanager
def members(count: int, pool: Pool) -> Iterator[None]:
    """Start processes that wait."""
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=member) for _ in range(count)]
    for each in started:
        each.start()
    while pool.stats().processes < count + 1:
        time.sleep(0.01)
    yield
    for each in started:
        each.kill()
        each.join()


@contextlib.contextmanager
def served() -> Iterator[tuple[int, int, str]]:
    """Run the command: its pid, port and token."""
    program = Path(sys.executable).with_name("onecopy")
    with subprocess.Popen([program, "web", NAME], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[1]
        yield server.pid, int(url.split(":")[2].split("/")[0]), url.split("=")[1]
        server.send_signal(signal.SIGINT)


class Page:
    """Asks as the page does, while `is_open` is set. It runs in a process of its own."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self._connect()
        (pool,) = self._ask("/api/pools")[0]
        self._path = f"/api/pools/{pool['key']}"

    def _connect(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port)

    def _ask(self, path: str) -> tuple[list[dict[str, str]], float]:
        try:
            self._connection.request("GET", path, headers={"X-Onecopy-Token": self._token})
            answer = self._connection.getresponse()
        except ConnectionError:  # the server closes a connection that was idle
            self._connect()
            return self._ask(path)
        every = float(answer.headers["x-onecopy-every"])
        return json.loads(answer.read()), every

    def run(self, is_open: Event, every: Synchronized[float]) -> None:
        """Ask again and again."""
        next_list = 0.0
        while is_open.wait():
            if time.monotonic() > next_list:
                self._ask("/api/pools")
                next_list = time.monotonic() + 3
            every.value = self._ask(self._path)[1]
            time.sleep(every.value)


def used(pid: int) -> float:
    """Return the processor time of all threads of a process, in seconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(task.read_text("ascii").split()[0])
    return total / 1e9


def spent_per_call(put_get: Callable[[], object], seconds: float) -> float:
    """Return the microseconds that a call takes, of this process's own processor time."""
    end = time.monotonic() + seconds
    calls, start = 0, time.process_time()
    while time.monotonic() < end:
        for _ in range(1000):
            put_get()
        calls += 1000
    return (time.process_time() - start) / calls * 1e6


def snapshots(is_on: Event, took: Synchronized[float]) -> None:
    """Take snapshots without a pause, while it is on."""
    with oc.observe(NAME) as observer:
        while is_on.wait():
            start = time.thread_time()
            observer.snapshot()
            took.value = time.thread_time() - start


def turns(page: Event, busy: Event) -> Iterator[int]:
    """Switch from one kind of round to the next: alone, page, alone, snapshots."""
    for number in itertools.count():
        (page.set if number % 4 == 1 else page.clear)()
        (busy.set if number % 4 == 3 else busy.clear)()
        yield number % 4


def compared(cycles: int, seconds: float, page: Event, busy: Event) -> tuple[list[float], ...]:
    """Return the ratios of rounds to those beside them: with a page, alone, with snapshots."""
    spent: list[list[float]] = [[], [], [], []]
    with oc.Pool.open(NAME) as pool, pool.queue("jobs") as queue:

        def put_get() -> object:
            queue.put(1)
            return queue.get()

        for kind in itertools.islice(turns(page, busy), 4 * cycles):
            spent[kind].append(spent_per_call(put_get, seconds))
    first, with_page, second, with_snapshots = spent
    following = [*first[1:], first[-1]]
    return (
        [each * 2 / (a + b) for each, a, b in zip(with_page, first, second, strict=True)],
        [b / a for a, b in zip(first, second, strict=True)],
        [each * 2 / (a + b) for each, a, b in zip(with_snapshots, second, following, strict=True)],
    )


def share(pid: int, seconds: float) -> float:
    """Return the share of a core that a process uses."""
    before = used(pid)
    time.sleep(seconds)
    return (used(pid) - before) / seconds


def main() -> None:
    """Print what it costs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--members", type=int, default=8, help="processes that wait in the pool")
    arguments.add_argument("--cycles", type=int, default=60, help="of four rounds")
    arguments.add_argument("--seconds", type=float, default=1.0, help="of one round")
    arguments.add_argument("--watch", type=float, default=40.0, help="seconds to watch the server")
    chosen = arguments.parse_args()
    context = multiprocessing.get_context("fork")
    page, busy = context.Event(), context.Event()
    every, took = context.Value("d"), context.Value("d")
    with (
        oc.Pool.create(NAME, size="64MiB") as pool,
        members(chosen.members, pool),
        served() as (pid, port, token),
    ):
        for target, shared in (
            (Page(port, token).run, (page, every)),
            (snapshots, (busy, took)),
        ):
            context.Process(target=target, args=shared, daemon=True).start()
        print(f"{chosen.members + 1} processes in the pool")
        print(f"server, no page:   {share(pid, chosen.watch):.2%} of a core")
        page.set()
        time.sleep(1)
        print(f"server, one page:  {share(pid, chosen.watch):.2%} of a core", end="")
        print(f", a snapshot every {every.value:.1f} s")
        if chosen.cycles:
            ratios = compared(chosen.cycles, chosen.seconds, page, busy)
            words = ("with a page", "alone, again (noise)", "with snapshots without a pause")
            for what, found in zip(words, ratios, strict=True):
                print(f"put and get {what}: {statistics.median(found) - 1:+.2%}")
            print(f"a snapshot takes {took.value * 1e3:.1f} ms of processor time")


if __name__ == "__main__":
    main()
