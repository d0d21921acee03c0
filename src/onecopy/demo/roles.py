"""The roles of the processes: producers decode, workers find edges, the writer saves and checks.

The code is the same for both transports. A process holds only one picture: each loop releases the
last picture before it waits for the next one, so that its frame becomes free.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import zlib
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2

from onecopy.demo.errors import DemoError
from onecopy.demo.pipeline import find_edges
from onecopy.demo.transport import Item

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from onecopy.demo.sources import Source
    from onecopy.demo.transport import Transport

Details: TypeAlias = dict[str, Any]

PRODUCE, WORK, WRITE = (
    "decode",
    "edges",
    "write",
)  # the names of the roles in the progress bars
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 88]


def produce(
    transport: Transport, tick: Callable[[], None], source: Source, numbers: range
) -> Details:
    """Decode the frames with these numbers, each into memory from the transport."""
    copies = 0
    unreadable: set[str] = set()
    for number, picture, image, decode_copies in source.read(
        numbers, transport.picture_memory, unreadable
    ):
        copies += decode_copies
        transport.send_picture(Item(number, picture, image))
        del image
        tick()
    return {"copies": copies, "unreadable": sorted(unreadable)}


def work(transport: Transport, tick: Callable[[], None]) -> Details:
    """Run the pipeline on every picture that arrives."""
    while (item := transport.next_picture()) is not None:
        result = find_edges(item.image, transport.result_memory)
        transport.send_result(Item(item.number, item.picture, result))
        del item, result
        tick()
    return {}


def write(transport: Transport, tick: Callable[[], None], source: Source, out: Path) -> Details:
    """Save the first result of each picture; check that every later one is the same."""
    seen: set[int] = set()
    checksums: dict[int, int] = {}
    repeated = damaged = 0
    last = time.monotonic()
    while (item := transport.next_result()) is not None:
        repeated += item.number in seen
        seen.add(item.number)
        checksum = zlib.crc32(item.image.data)
        if item.picture not in checksums:
            checksums[item.picture] = checksum
            _save(out / file_name(source, item.picture), item)
        elif checksums[item.picture] != checksum:
            damaged += 1
        del item
        last = time.monotonic()
        tick()
    return {
        "frames": len(seen),
        "repeated": repeated,
        "damaged": damaged,
        "checksums": checksums,
        "last": last,
    }


def file_name(source: Source, picture: int) -> str:
    """Name the file of a picture's result.

    Returns
    -------
    str
        The number and the label, so that a listing has the order of the source.
    """
    return f"{picture + 1:04d}-{source.label(picture)}.jpg"


def _save(path: Path, item: Item) -> None:
    # Not imwrite: it hides the reason why a file cannot be written.
    _, encoded = cv2.imencode(".jpg", item.image, _JPEG)
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise DemoError(f"cannot write {path}: {error.strerror}") from error


def run(
    name: str,
    role: str,
    transport: Transport,
    job: Callable[..., Details],
    *arguments: Any,
) -> None:
    """Run one process: prepare, wait for the start, do the job, report.

    The reports are tuples: ("ready", name), ("progress", role, frames), ("done", name, CPU seconds,
    details), or ("failed", name, reason in one line).
    """
    # Ctrl-C reaches every process of the terminal. Only the conductor decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the processes are the parallelism
    pending = 0
    reported = time.monotonic()

    def tick() -> None:
        nonlocal pending, reported
        pending += 1
        now = time.monotonic()
        if now - reported > 0.05:
            transport.report(("progress", role, pending))
            pending, reported = 0, now

    try:
        transport.report(("ready", name))
        transport.wait_for_start()
        before = time.process_time()
        details = job(transport, tick, *arguments)
        used = time.process_time() - before
        transport.report(("progress", role, pending))
        transport.report(("done", name, used, details))
    except Exception as error:  # noqa: BLE001 - the conductor reports any error to the user
        reason = " ".join(str(error).split()) or "no reason given"
        if not isinstance(error, DemoError):
            reason = f"{name} failed: {type(error).__name__}: {reason}"
        with contextlib.suppress(Exception):
            transport.report(("failed", name, reason))


def _end_with_parent() -> None:
    """End this process when the conductor has ended, also if it was killed."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
