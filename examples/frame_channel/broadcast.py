"""One writer and several readers. Every reader gets every frame once.

python broadcast.py [--readers 3] [--frames 200]
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys

import scene

import onecopy as oc


def read(name: str, stream: oc.Stream, ready: oc.Queue, outcome: oc.Queue) -> None:
    subscription = stream.subscribe()
    ready.put(name)  # a reader gets only frames that are published after it has subscribed
    numbers = []
    damaged = 0
    for number, frame in subscription:  # ends when the stream is closed
        numbers.append(number)
        damaged += not scene.is_frame(number, frame)
        del frame
    outcome.put((name, numbers, damaged, subscription.missed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--frames", type=int, default=200)
    arguments = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    failed = False
    with oc.Pool.create(size="256MiB") as pool:
        frames = pool.frames("frames", shape=scene.SHAPE, dtype="uint8", count=12)
        # Lossless: the writer waits for the slowest living reader. If readers may skip frames, use
        # policy="lossy": each reader then knows how many it missed.
        stream = pool.stream("camera", depth=4, policy="lossless")
        ready = pool.queue("ready")
        outcome = pool.queue("outcome")
        readers = [
            context.Process(target=read, args=(f"reader{index}", stream, ready, outcome))
            for index in range(arguments.readers)
        ]
        for process in readers:
            process.start()
        for _ in readers:
            ready.get(timeout=60)
        for number in range(arguments.frames):
            frame = frames.acquire()
            scene.draw(number, frame)
            stream.publish((number, frame))
            del frame
        stream.close()
        for _ in readers:
            name, numbers, damaged, missed = outcome.get(timeout=60)
            complete = numbers == list(range(arguments.frames))
            failed |= not complete or bool(damaged or missed)
            print(
                f"{name}: {len(numbers)} frames, "
                f"{'each once and in order' if complete else 'NOT each once and in order'}, "
                f"{damaged} damaged, {missed} missed"
            )
        for process in readers:
            process.join()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
