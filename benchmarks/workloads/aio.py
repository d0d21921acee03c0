"""Tasks of an event loop: wake-up, throughput of a busy `async for`, and a thousand that wait.

*Wake-up*: a sender pauses, then puts the time into a queue; the receiver is a task that waits. Half
of each loop is asyncio's own: `asyncio.Queue` has both tasks in one loop, and `janus` has a thread
and a loop; nothing crosses a process there. The pipe is read by a stream reader of asyncio, the
stream of sharedbox by `async for`.

*Throughput*: the receiver loops over a queue that another process keeps filled. *Waiting*: the
processor time of a process with a thousand tasks that wait on one queue, or each on its own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import apart, interleave
from benchmarks.report import Report, at_least, at_most, quotient
from benchmarks.runners import OURS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.harness import Options, Run

IN_PROCESS, PIPE, JANUS, BLOCKING = "asyncio.Queue", "pipe", "janus", "blocking get"
SHAREDBOX = "sharedbox"
P50, P99 = "wake-up, median", "wake-up, 99th percentile"
RATE = "busy loop over a queue"
ONE, EACH = "1,000 tasks wait on one queue", "1,000 tasks wait on 1,000 queues"
PAUSE = 0.002
TASKS = 1000
LIMIT = 120.0


def percentiles(times: list[int]) -> dict[str, float]:
    p50, p99 = np.percentile(times[len(times) // 10 :], (50, 99)) / 1000
    return {P50: float(p50), P99: float(p99)}


def send_times(put: Callable[[int], object], count: int) -> None:
    for _ in range(count):
        time.sleep(PAUSE)
        put(time.perf_counter_ns())


async def receive(get: Callable[[], Awaitable[int]], count: int) -> list[int]:
    return [-(await get() - time.perf_counter_ns()) for _ in range(count)]


def onecopy_wakes(count: int) -> dict[str, float]:
    import onecopy

    with onecopy.Pool.create(size="16MiB") as pool:
        queue = pool.queue()
        sender = multiprocessing.get_context("fork").Process(
            target=send_times, args=(queue.put, count)
        )
        sender.start()
        times = asyncio.run(receive(queue.aio.get, count))
        sender.join()
    return percentiles(times)


def blocking_wakes(count: int) -> dict[str, float]:
    import onecopy

    with onecopy.Pool.create(size="16MiB") as pool:
        queue = pool.queue()
        sender = multiprocessing.get_context("fork").Process(
            target=send_times, args=(queue.put, count)
        )
        sender.start()
        times = [-(queue.get() - time.perf_counter_ns()) for _ in range(count)]
        sender.join()
    return percentiles(times)


def pipe_wakes(count: int) -> dict[str, float]:
    ours, theirs = os.pipe()

    def put(now: int) -> None:
        os.write(theirs, now.to_bytes(8, "little"))

    async def main() -> list[int]:
        reader = asyncio.StreamReader()
        with os.fdopen(ours, "rb") as pipe:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), pipe
            )

            async def get() -> int:
                return int.from_bytes(await reader.readexactly(8), "little")

            times = await receive(get, count)
            transport.close()
        return times

    sender = multiprocessing.get_context("fork").Process(target=send_times, args=(put, count))
    sender.start()
    times = asyncio.run(main())
    sender.join()
    return percentiles(times)


def asyncio_wakes(count: int) -> dict[str, float]:
    async def main() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def send() -> None:
            for _ in range(count):
                await asyncio.sleep(PAUSE)
                queue.put_nowait(time.perf_counter_ns())

        sender = asyncio.create_task(send())
        times = await receive(queue.get, count)
        await sender
        return times

    return percentiles(asyncio.run(main()))


def janus_wakes(count: int) -> dict[str, float]:
    import janus

    async def main() -> list[int]:
        queue: Any = janus.Queue()
        sender = threading.Thread(target=send_times, args=(queue.sync_q.put, count))
        sender.start()
        times = await receive(queue.async_q.get, count)
        sender.join()
        await queue.aclose()
        return times

    return percentiles(asyncio.run(main()))


def sharedbox_wakes(count: int) -> dict[str, float]:
    from typing import Annotated

    from sharedbox import Capacity

    from benchmarks.peers.sharedbox_ import Stream

    stream = Stream(Annotated[bytes, Capacity(8)], 64)
    sender = multiprocessing.get_context("spawn").Process(
        target=send_by_sharedbox, args=(stream, count)
    )
    sender.start()

    async def main() -> list[int]:
        with stream.stream.reader(start="oldest") as reader:

            async def get() -> int:
                return int.from_bytes(await anext(reader), "little")

            return await receive(get, count)

    times = asyncio.run(main())
    sender.join()
    stream.close()
    return percentiles(times)


def send_by_sharedbox(stream: Any, count: int) -> None:
    with stream.stream.sender() as sender:
        send_times(lambda now: sender.send(now.to_bytes(8, "little")), count)


def fill(queue: Any, count: int) -> None:
    for number in range(count):
        queue.put(number)
    queue.shutdown()


def rate(count: int, *, blocking: bool) -> dict[str, float]:
    import onecopy

    with onecopy.Pool.create(size="64MiB") as pool:
        queue = pool.queue(maxsize=4096)
        sender = multiprocessing.get_context("fork").Process(target=fill, args=(queue, count))
        sender.start()
        got = 0

        async def loop() -> None:
            nonlocal got
            async for _ in queue.aio:
                got += 1

        first = queue.get()
        began = time.perf_counter()
        if blocking:
            for _ in queue:
                got += 1
        else:
            asyncio.run(loop())
        took = time.perf_counter() - began
        sender.join()
    if (first, got) != (0, count - 1):
        message = f"{got} of {count} messages came"
        raise AssertionError(message)
    return {RATE: got / took / 1000}


def waiting(seconds: float) -> dict[str, float]:
    import onecopy

    async def main(queues: list[Any]) -> float:
        tasks = [asyncio.create_task(queue.aio.get()) for queue in queues]
        await asyncio.sleep(2)  # until the naps have their length
        used, began = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        share = (time.process_time() - used) / (time.perf_counter() - began)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        return 100 * share

    with onecopy.Pool.create(size="64MiB") as pool:
        one = asyncio.run(main([pool.queue()] * TASKS))
        each = asyncio.run(main([pool.queue(maxsize=1) for _ in range(TASKS)]))
    return {ONE: one, EACH: each}


def run(options: Options) -> Report:
    report = Report("aio", "tasks of an event loop that wait for another process", PIPE)
    wakes = {
        OURS: onecopy_wakes,
        BLOCKING: blocking_wakes,
        PIPE: pipe_wakes,
        IN_PROCESS: asyncio_wakes,
        JANUS: janus_wakes,
        SHAREDBOX: sharedbox_wakes,
    }
    for name in (JANUS, SHAREDBOX):
        if importlib.util.find_spec(name) is None:
            del wakes[name]
            report.skipped[name] = f"{name} is not installed"
    count = max(100, round(options.seconds / PAUSE))

    def contender(function: Callable[..., Any], *arguments: Any, **named: Any) -> Run:
        return lambda: apart(function, *arguments, limit=LIMIT, **named)

    outcomes = interleave(
        {name: contender(function, count) for name, function in wakes.items()},
        options.runs,
        options.say,
    )
    for case in (P50, P99):
        report.add(case, "µs", outcomes, case)
    messages = 20_000 if options.quick else 300_000
    rates = interleave(
        {OURS: contender(loop_rate, messages), BLOCKING: contender(blocking_rate, messages)},
        options.runs,
        options.say,
    )
    report.add(RATE, "thousand messages/s", rates, RATE)
    shares = interleave(
        {OURS: contender(waiting, 1.0 if options.quick else 5.0)}, options.runs, options.say
    )
    for case in (ONE, EACH):
        report.add(case, "% of a core", shares, case)
        report.targets.append(at_most(case, report.median(case, OURS), 1.0, "% of a core"))
    report.targets.append(at_most(P50, report.median(P50, OURS), 30.0, "µs"))
    ratio = quotient(report.median(RATE, OURS), report.median(RATE, BLOCKING))
    report.targets.append(at_least("busy `async for` against the blocking loop", ratio, 0.5))
    return report


def loop_rate(count: int) -> dict[str, float]:
    return rate(count, blocking=False)


def blocking_rate(count: int) -> dict[str, float]:
    return rate(count, blocking=True)
