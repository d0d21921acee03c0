"""Two processes read pictures and put them on a queue. A third one takes and times them.

Each picture is written into the pool once, when it is read. Then only references go through the
queue, in every round. So a round costs the same for thumbnails and for photographs of many
megabytes.

    python image_pipeline.py [--folder DIR] [--pictures 100] [--rounds 20]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import sys
import time
import zlib
from pathlib import Path

import cv2

import onecopy as oc

PRODUCERS = 2
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def produce(name: str, pool: oc.Pool, jobs: oc.Queue, files: list[Path], rounds: int) -> None:
    pictures = []
    for file in files:
        picture = cv2.imread(str(file))
        if picture is None:
            print(f"{name}: cannot read {file.name}, skipped", flush=True)
            continue
        # The one copy. With the check sum the consumer proves that it reads the same pixels.
        shared = pool.array(picture)
        pictures.append((file.name, zlib.crc32(shared), shared))
    for turn in range(rounds):
        for file_name, checksum, shared in pictures:
            # Nothing is copied here: the array lies in the pool, and a reference travels.
            jobs.put((name, turn, file_name, checksum, time.monotonic(), shared))
    jobs.put((name, "end", len(pictures) * rounds))


def consume(jobs: oc.Queue, outcome: oc.Queue, quiet: bool) -> None:
    expected = received = megabytes = 0
    seen: set[tuple[str, int, str]] = set()
    wrong: list[str] = []
    handing_over: list[float] = []
    ended = 0
    while ended < PRODUCERS:
        message = jobs.get()
        if message[1] == "end":
            ended += 1
            expected += message[2]
            continue
        producer, turn, file_name, checksum, sent, picture = message
        taken = time.monotonic()
        handing_over.append(taken - sent)
        if (producer, turn, file_name) in seen:
            wrong.append(f"{file_name} of round {turn} came twice")
        seen.add((producer, turn, file_name))
        if zlib.crc32(picture) != checksum:
            wrong.append(f"{file_name} of round {turn} is not as it was sent")
        received += 1
        megabytes += picture.nbytes / 1e6
        if not quiet:
            height, width = picture.shape[:2]
            print(
                f"{producer} round {turn:2d} {file_name:<24} {width:5d}x{height:<5d} "
                f"on the queue {1e6 * (taken - sent):9.0f} us, "
                f"read in {1e3 * (time.monotonic() - taken):6.2f} ms",
                flush=True,
            )
    if received != expected:
        wrong.append(f"{received} pictures received, {expected} sent")
    middle = sorted(handing_over)[received // 2] if received else 0.0
    outcome.put((received, megabytes, middle, wrong))


def main() -> int:
    arguments = parse_arguments()
    files = sorted(file for file in arguments.folder.glob("*") if file.suffix.lower() in SUFFIXES)[
        : arguments.pictures
    ]
    if not files:
        print(f"no pictures in {arguments.folder}", file=sys.stderr)
        return 1

    start = functools.partial(oc.supervise, mp_context="spawn", max_restarts=0)
    with oc.Pool.create(size=arguments.pool_size) as pool, contextlib.ExitStack() as running:
        jobs = pool.queue("pictures", maxsize=arguments.depth)
        outcome = pool.queue("outcome", maxsize=1)
        groups = [start(consume, args=(jobs, outcome, arguments.quiet))]
        for index in range(PRODUCERS):
            mine = files[index::PRODUCERS]
            to_produce = f"producer{index}", pool, jobs, mine, arguments.rounds
            groups.append(start(produce, args=to_produce))
        for group in groups:
            running.enter_context(group)  # a process that fails ends the block, and the others
        for group in groups:
            group.join()
        received, megabytes, middle, wrong = outcome.get()
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    print(
        f"{received} pictures ({megabytes:,.0f} MB) in {arguments.rounds} rounds; half of them "
        f"were on the queue for less than {1e6 * middle:.0f} us; lost, repeated or changed: "
        f"{len(wrong)}"
    )
    return 1 if wrong or not received else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="pictures (default: scikit-image's)")
    parser.add_argument("--pictures", type=int, default=100, help="at most so many files")
    parser.add_argument("--rounds", type=int, default=20, help="how often each is sent")
    parser.add_argument("--depth", type=int, default=16, help="pictures on the queue at most")
    parser.add_argument("--pool-size", default="2GiB", help="memory for all the pictures")
    parser.add_argument("--quiet", action="store_true", help="no line for each picture")
    arguments = parser.parse_args()
    if arguments.folder is None:
        skimage = importlib.util.find_spec("skimage")
        if skimage is None or not skimage.submodule_search_locations:
            parser.error("give --folder, or: pip install scikit-image (it ships photographs)")
        arguments.folder = Path(skimage.submodule_search_locations[0]) / "data"
    return arguments


if __name__ == "__main__":
    sys.exit(main())
