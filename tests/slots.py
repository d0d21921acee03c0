"""Slots of a pool that are in use, without as many processes."""

import contextlib
import fcntl
import os
import struct

SLOT = 1 << 62  # the byte whose lock is slot 0's


@contextlib.contextmanager
def occupied(pool, *, but=0):
    """Take all but some slots of a pool, as members do: by a lock on one byte for each."""
    own = pool.member.slot
    others = [slot for slot in range(pool.member.max_processes) if slot != own]
    descriptor = os.open(pool.member.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for slot in others[: len(others) - but]:
            region = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, SLOT + slot, 1, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, region)
        yield
    finally:
        os.close(descriptor)
