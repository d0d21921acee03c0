"""What /proc reports about the place of memory; and what children do with the memory."""

import hashlib
import os
from pathlib import Path

import numpy as np


def first_address(array):
    """Return the address of an array's first element."""
    return array.__array_interface__["data"][0]


def place_of(address):
    """Return the inode, and the offset in its file, of an address of this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, inode = line.split()[:5]
        low, high = (int(number, 16) for number in span.split("-"))
        if low <= address < high:
            return int(inode), int(offset, 16) + address - low
    raise AssertionError(f"{address:#x} is not mapped")


def mappings_of(inode):
    """Count the mappings of a file in this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sum(line.split()[4] == str(inode) for line in lines)


def answer_where(queue, answers):
    """Take an array, and report its place and its contents. Runs in a child."""
    array = queue.get()
    answers.put(
        (
            place_of(first_address(array)),
            type(array).__name__,
            array.flags.writeable,
            float(np.sum(array)),
        )
    )


def answer_argument(array, answers):
    """Report the same for an argument. Runs in a child."""
    answers.put(
        (place_of(first_address(array)), type(array).__name__, array.flags.writeable, os.getpid())
    )


def where_in_a_worker(array):
    """Report the same for an executor's task. Runs in a worker."""
    return place_of(first_address(array)), float(array.sum()), os.getpid()


def answer_table(queue, answers):
    """Take a table, and report the place of its first column's data. Runs in a child."""
    table = queue.get()
    buffer = table.column(0).chunk(0).buffers()[1]
    answers.put((place_of(buffer.address), table.num_rows, table.column(0)[7].as_py()))


def fingerprint(path):
    """Return values that a change would alter."""
    there = path.stat()
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return there.st_size, there.st_mtime_ns, there.st_ino, digest.hexdigest()
