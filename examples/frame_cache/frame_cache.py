"""A cache of a hundred frames: the camera never waits for the processing of earlier frames.

    python frame_cache.py [--count 100] [--height 480] [--width 640] [--bursts 3]

The camera delivers bursts. Each burst has as many frames as the cache. The camera fills them as
fast as it can, while the consumer still works on the first ones.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time

import cv2
import numpy as np

import onecopy as oc


def produce(
    frames: oc.Frames, jobs: oc.Queue, done: oc.Queue, report: oc.Queue, bursts: int
) -> None:
    scene = np.random.default_rng(20).integers(0, 255, frames.shape, np.uint8)
    waits = 0
    spent = []
    for burst in range(bursts):
        started = time.monotonic()
        for position in range(frames.count):
            # This is the only producer, so an available frame stays available until `acquire`.
            waits += frames.available == 0
            frame = frames.acquire()
            number = burst * frames.count + position
            np.copyto(frame, scene)  # the camera's picture arrives: the one copy
            frame[0, 0] = list(number.to_bytes(3, "little"))
            jobs.put((number, frame))
            del frame
        spent.append(time.monotonic() - started)
        done.get()  # wait until the consumer has finished this burst
    jobs.put((None, None))
    report.put(("producer", waits, spent))


def consume(frames: oc.Frames, jobs: oc.Queue, done: oc.Queue, report: oc.Queue) -> None:
    cv2.setNumThreads(1)
    numbers = []
    spent = []
    began = 0.0
    while True:
        number, frame = jobs.get()
        if number is None:
            break
        if number % frames.count == 0:
            began = time.monotonic()
        if number == int.from_bytes(frame[0, 0].tobytes(), "little"):
            numbers.append(number)
        # Work that takes longer than copying the picture.
        blurred = cv2.GaussianBlur(frame, (0, 0), 3)
        cv2.Canny(cv2.cvtColor(blurred, cv2.COLOR_BGR2GRAY), 60, 140)
        del frame, blurred  # the frame becomes free
        if number % frames.count == frames.count - 1:
            spent.append(time.monotonic() - began)
            done.put(number)
    report.put(("consumer", numbers, spent))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="frames in the cache")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--bursts", type=int, default=3)
    arguments = parser.parse_args()

    shape = (arguments.height, arguments.width, 3)
    size = arguments.count * int(np.prod(shape))
    with oc.Pool.create(size=size + size // 4 + (32 << 20)) as pool:
        frames = pool.frames("cache", shape=shape, dtype="uint8", count=arguments.count)
        jobs = pool.queue("jobs", maxsize=arguments.count)
        done = pool.queue("done")
        report = pool.queue("report")
        to_produce = frames, jobs, done, report, arguments.bursts
        start = functools.partial(oc.supervise, mp_context="spawn", max_restarts=0)
        # A process that fails ends the block, and the other one.
        with (
            start(produce, args=to_produce) as producer,
            start(consume, args=(frames, jobs, done, report)) as consumer,
        ):
            producer.join()
            consumer.join()
        reports = {who: rest for who, *rest in (report.get(), report.get())}
        unused = frames.available
    waits, filling = reports["producer"]
    numbers, processing = reports["consumer"]

    for burst, (fill, process_time) in enumerate(zip(filling, processing, strict=True)):
        print(
            f"burst {burst}: the producer took {1e3 * fill:.0f} ms for {arguments.count} frames, "
            f"the consumer worked {1e3 * process_time:.0f} ms on them"
        )
    total = arguments.bursts * arguments.count
    complete = numbers == list(range(total))
    print(
        f"{len(numbers)} of {total} frames, "
        f"{'each once and in order' if complete else 'NOT each once and in order'}; the producer "
        f"found no free frame {waits} times; {unused} of {arguments.count} frames are free again"
    )
    return 0 if complete and waits == 0 and unused == arguments.count else 1


if __name__ == "__main__":
    sys.exit(main())
