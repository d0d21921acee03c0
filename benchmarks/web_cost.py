"""What `onecopy web` costs while a page is open: processor time, and the speed of a pool.

Run ``python -m benchmarks.web_cost``. Members of a pool sleep in it. One process puts messages
into a queue of the pool and gets them, in rounds. The server is asked for snapshots as a page asks,
in every third round only. What is printed: the processor time of the server with a page and without
one, and the medians of the rounds. The other two of three rounds are counted apart: their difference
is noise.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
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


def worker(rounds: int, seconds: float, turn: Callable[[bool], None]) -> tuple[list[float], ...]:
    """Measure rounds: without a page, with one, and without one again."""
    found: tuple[list[float], ...] = ([], [], [])
    with oc.Pool.open(NAME) as pool, pool.queue("jobs") as queue:

        def put_get() -> object:
            queue.put(1)
            return queue.get()

        for number in range(3 * rounds):
            turn(number % 3 == 1)
            found[number % 3].append(spent_per_call(put_get, seconds))
    return found


def main() -> None:
    """Print what it costs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--members", type=int, default=8, help="processes that wait in the pool")
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--seconds", type=float, default=4.0, help="of one round")
    chosen = arguments.parse_args()
    with (
        oc.Pool.create(NAME, size="64MiB") as pool,
        members(chosen.members, pool),
        served() as (pid, port, token),
    ):
        context = multiprocessing.get_context("fork")
        page, every = context.Event(), context.Value("d")
        context.Process(target=Page(port, token).run, args=(page, every), daemon=True).start()
        spent = [0.0, 0.0]
        last = [used(pid), 0.0]

        def turn(is_open: bool) -> None:
            now = used(pid)
            spent[int(last[1])] += now - last[0]
            last[:] = [now, is_open]
            (page.set if is_open else page.clear)()

        rounds = worker(chosen.rounds, chosen.seconds, turn)
        turn(False)
        whole = chosen.rounds * chosen.seconds
        print(f"{chosen.members + 1} processes; a snapshot every {every.value:.1f} s")
        print(f"server, no page:   {spent[0] / whole / 2:.2%} of a core")
        print(f"server, one page:  {spent[1] / whole:.2%} of a core")
        without, with_page, again = map(statistics.median, rounds)
        print(f"put and get, no page:        {without:.4f} us")
        print(f"put and get, one page:       {with_page:.4f} us ({with_page / without - 1:+.2%})")
        print(f"put and get, no page again:  {again:.4f} us ({again / without - 1:+.2%})")


if __name__ == "__main__":
    main()
