"""A microscope's camera, a slow writer to zarr, and live figures: no image is lost.

python acquire.py [--images 200] [--interval 5] [--slow 10] [--kill] [--out images.zarr]
"""

import argparse
import multiprocessing
import os
import queue
import signal
import sys
import time

import core as microscope
import numpy as np
import zarr

import onecopy as oc


def acquire(images: int, interval: float, frames: oc.Frames, jobs: oc.Queue, live: oc.Stream):
    core = microscope.CMMCore()
    core.startSequenceAcquisition(images, interval, False)
    time_left = core.getBufferTotalCapacity() * interval / 1000  # seconds until images are lost
    number = most = 0
    while core.isSequenceRunning() or core.getRemainingImageCount():
        if core.getRemainingImageCount() == 0:
            time.sleep(0.0005)
            continue
        most = max(most, core.getRemainingImageCount())
        try:
            frame = frames.acquire(timeout=time_left)  # while it waits, the core's buffer fills
        except queue.Empty:
            waited = f"no frame was free for {1000 * time_left:.0f} ms"
            sys.exit(f"{waited}: the writer is too slow for {frames.count} frames")
        np.copyto(frame, core.popNextImage())  # the one copy
        jobs.put((number, frame))
        live.publish((number, frame))
        number += 1
    print(f"camera: up to {most} of {core.getBufferTotalCapacity()} images were in its own buffer")
    if core.isBufferOverflowed():
        sys.exit("the core's buffer was full: images are lost")


def write(jobs: oc.Queue, path: str, slow: float) -> None:
    array = zarr.open_array(path, mode="r+")
    while True:
        with jobs.get_message() as message:  # if this process is killed, its successor gets it
            number, frame = message.item
            array[number] = frame
            time.sleep(slow)


def show(live: oc.Stream, frames: oc.Frames, jobs: oc.Queue) -> int:
    """Print figures of the newest image; return how many images wait for the writer."""
    try:
        number, image = live.latest()
    except queue.Empty:
        return 0
    waiting = jobs.qsize()
    print(
        f"image {number}: mean {image.mean():.1f}, {image.min()} to {image.max()}; "
        f"{waiting} wait for the writer, {frames.available} frames are free",
        flush=True,
    )
    return waiting


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--interval", type=float, default=5, help="milliseconds between images")
    parser.add_argument("--slow", type=float, default=10, help="milliseconds more for each write")
    parser.add_argument("--frames", type=int, default=256, help="images that may wait")
    parser.add_argument("--kill", action="store_true", help="kill the writer meanwhile")
    parser.add_argument("--out", default="images.zarr")
    options = parser.parse_args()
    shape = (core := microscope.CMMCore()).getImageHeight(), core.getImageWidth()
    zarr.create_array(
        options.out,
        shape=(options.images, *shape),
        chunks=(1, *shape),  # a chunk for each image: writers do not meet
        dtype="u2",
        overwrite=True,
    )
    context = multiprocessing.get_context("spawn")
    with oc.Pool.create(size=2 * options.frames * shape[0] * shape[1] * 5 // 4 + 2**26) as pool:
        frames = pool.frames(shape=shape, dtype="u2", count=options.frames)
        jobs, live = pool.queue(redeliver=True), pool.stream(policy="latest")
        to_write = jobs, options.out, options.slow / 1000
        to_acquire = options.images, options.interval, frames, jobs, live
        writer = oc.supervise(write, args=to_write, mp_context=context)
        camera = oc.supervise(acquire, args=to_acquire, mp_context=context, restart="never")
        most, kill = 0, options.kill
        while not camera.join(timeout=0.2):
            most = max(most, show(live, frames, jobs))
            if kill and live.published - jobs.qsize() > 10:
                os.kill(writer.pids[0], signal.SIGKILL)
                kill = False
        jobs.join()  # the writer finishes what waits
        show(live, frames, jobs)
        writer.stop()
        replaced = writer.workers[0].restarts
        end = camera.workers[0].last_exit
    written = zarr.open_array(options.out, mode="r")
    right = sum(int(written[number, 0, 0]) == number for number in range(options.images))
    print(
        f"{right} of {options.images} images are in {options.out}; up to {most} waited for the "
        f"writer; {replaced} writers replaced"
    )
    sys.exit(end.code or right != options.images)
