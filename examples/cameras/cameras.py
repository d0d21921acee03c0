"""Two cameras, detectors, a recorder and a viewer of the newest frame; any of them may be killed.

python cameras.py [--frames 200] [--kill]
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

import onecopy as oc

SHAPE = 480, 640


def place(camera: int, number: int) -> tuple[int, int]:
    """Return the position of the bright square in a frame."""
    return (number * (3 + camera)) % (SHAPE[0] - 20), (number * 7) % (SHAPE[1] - 20)


def film(camera: int, taken, last: int, frames: oc.Frames, live: oc.Stream, jobs: oc.Queue) -> None:
    while taken.value < last:  # a replacement process continues at this frame
        frame = frames.acquire()  # waits while the detectors are behind
        row, column = place(camera, taken.value)
        frame[:] = 16
        frame[row : row + 20, column : column + 20] = 255
        live.publish((taken.value, frame))
        jobs.put((camera, taken.value, frame))
        taken.value += 1


def detect(jobs: oc.Queue, found: oc.Queue) -> None:
    while True:
        with jobs.get_message() as message:  # if this process is killed, another one gets it
            camera, number, frame = message.item
            rows, columns = np.nonzero(frame > 128)
            found.put((camera, number, int(rows.min()), int(columns.min())))


def record(found: oc.Queue, path: Path) -> None:
    while True:
        with found.get_message() as message, path.open("a") as file:
            file.write(json.dumps(message.item) + "\n")


def view(live: list[oc.Stream]) -> None:
    for camera, stream in enumerate(live):
        number, frame = stream.latest()
        path = Path(f"camera{camera}.pgm")
        path.write_bytes(b"P5 %d %d 255\n" % SHAPE[::-1] + frame.tobytes())
        print(f"viewer: frame {number} of camera {camera} is in {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200, help="of each camera")
    parser.add_argument("--kill", action="store_true", help="kill a process of each kind meanwhile")
    options = parser.parse_args()
    (path := Path("found.jsonl")).write_text("")
    with oc.Pool.create(size="64MiB") as pool:
        jobs, found = pool.queue(redeliver=True), pool.queue(redeliver=True)
        live = [pool.stream(depth=2, policy="latest") for _ in range(2)]
        frames = [pool.frames(shape=SHAPE, dtype="u1", count=16) for _ in range(2)]
        filming = [
            (c, pool.value("q", 0), options.frames, frames[c], live[c], jobs) for c in (0, 1)
        ]
        recorder = oc.supervise(record, args=(found, path))
        detectors = oc.supervise(detect, 3, args=(jobs, found))
        cameras = [oc.supervise(film, args=filming[c], name=f"camera{c}") for c in (0, 1)]
        groups = [recorder, detectors, *cameras]
        for group in groups if options.kill else ():
            os.kill(group.pids[0], signal.SIGKILL)
        for each in (*cameras, jobs, found):
            each.join()
        for group in groups:
            group.stop()
        view(live)
    lines = {tuple(json.loads(line)) for line in path.read_text().splitlines()}
    wanted = {(c, n, *place(c, n)) for c in (0, 1) for n in range(options.frames)}
    replaced = sum(worker.restarts for group in groups for worker in group.workers)
    print(f"{len(lines & wanted)} of {len(wanted)} squares found, {replaced} processes replaced")
    sys.exit(lines != wanted)
