"""A camera, detectors, a recorder and a viewer: a killed detector does not disturb the recording.

python recorder.py [SOURCE] [--kill]

SOURCE is what OpenCV opens: rtsp://…, the number of a USB camera, or a file, which is played at its
own speed. Without it, a video is made and played.
"""

import argparse
import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import time
from pathlib import Path

import cv2
import numpy as np

import onecopy as oc

CODEC = cv2.VideoWriter.fourcc(*"MJPG")


def video_of(source: str) -> cv2.VideoCapture:
    return cv2.VideoCapture(int(source) if source.isdigit() else source)


def film(source: str, taken, frames: oc.Frames, every: oc.Stream, jobs: oc.Queue) -> None:
    camera, is_file = video_of(source), Path(source).is_file()
    period = 1 / camera.get(cv2.CAP_PROP_FPS) if is_file else 0
    while camera.grab():
        due = time.monotonic() + period
        frame = frames.acquire()
        camera.retrieve(frame)  # the one copy: OpenCV decodes into shared memory
        every.publish((taken.value, frame))
        with contextlib.suppress(queue.Full):  # if detectors are behind, they skip this frame
            jobs.put_nowait((taken.value, frame))
        taken.value += 1
        time.sleep(max(0, due - time.monotonic()))
    if not is_file:
        raise ConnectionError(f"no more pictures from {source}")  # a new process connects again


def detect(jobs: oc.Queue, found: oc.Queue) -> None:
    while True:
        with jobs.get_message() as message:  # if this process is killed, another one gets it
            number, frame = message.item
            bright = cv2.inRange(frame, (128, 128, 128), (255, 255, 255))
            found.put((number, cv2.boundingRect(bright)))


def record(every: oc.Stream, ready: oc.Queue, path: str, size: tuple[int, int]) -> None:
    subscription, video = every.subscribe(), cv2.VideoWriter(path, CODEC, 25, size)
    ready.put(True)
    for _, frame in subscription:  # until the stream is shut down
        video.write(frame)
    video.release()


def view(every: oc.Stream, found: oc.Queue, boxes: dict, path: str) -> None:
    """Write the newest frame, with what was found last."""
    with contextlib.suppress(queue.Empty):
        boxes.update(found.get_many(1000, timeout=0))
        number, newest = every.latest()  # any process may look, at any time
        x, y, width, height = boxes[max(boxes)]
        picture = cv2.rectangle(newest.copy(), (x, y), (x + width, y + height), (0, 0, 255), 2)
        cv2.imwrite(path, cv2.putText(picture, str(number), (8, 24), 0, 0.8, (0, 0, 255), 2))


def make_video(path: str, frames: int) -> None:
    """Make a video of a bright square that moves to the right."""
    video = cv2.VideoWriter(path, CODEC, 25, (640, 480))
    for number in range(frames):
        picture = np.full((480, 640, 3), 16, np.uint8)
        picture[200:240, 4 * number : 4 * number + 40] = 255
        video.write(picture)
    video.release()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", help="what OpenCV opens; default: a video is made")
    parser.add_argument("--kill", action="store_true", help="kill a detector meanwhile")
    options = parser.parse_args()
    if options.source is None:
        make_video("made.avi", frames=100)
    source = options.source or "made.avi"
    is_read, first = video_of(source).read()
    if not is_read:
        sys.exit(f"OpenCV cannot read pictures from {source}")
    context, boxes = multiprocessing.get_context("spawn"), {}
    with oc.Pool.create(size="256MiB") as pool:
        every = pool.stream(depth=8, policy="lossless")  # the camera waits for the recorder
        jobs, found = pool.queue(maxsize=8, redeliver=True), pool.queue()
        ready, taken = pool.queue(), pool.value("q", 0)
        frames = pool.frames(shape=first.shape, dtype="u1", count=8 + 8 + 6)
        to_record = every, ready, "recorded.avi", first.shape[1::-1]
        to_film = source, taken, frames, every, jobs
        recorder = oc.supervise(record, args=to_record, mp_context=context)
        ready.get()  # a recorder gets what is published after it has subscribed
        detectors = oc.supervise(detect, 2, args=(jobs, found), mp_context=context)
        camera = oc.supervise(film, args=to_film, mp_context=context, max_restarts=1000)
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends a camera that has no end
            while not camera.join(timeout=0.1):
                seen = len(boxes)
                view(every, found, boxes, "newest.png")
                if options.kill and not seen and boxes:
                    os.kill(detectors.pids[0], signal.SIGKILL)
        camera.stop()
        jobs.join()  # also the frame that a killed detector had
        view(every, found, boxes, "newest.png")
        every.shutdown()  # the recorder ends its file
        recorder.join()
        detectors.stop()
        filmed = taken.value
    replaced = sum(worker.restarts for worker in detectors.workers)
    recorded = int(video_of("recorded.avi").get(cv2.CAP_PROP_FRAME_COUNT))
    print(f"{filmed} frames, {recorded} recorded, {len(boxes)} examined, {replaced} replaced")
    sys.exit(filmed != recorded)
