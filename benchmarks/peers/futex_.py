"""A yardstick: messages in a shared page, and a bare futex. What it takes to wake a process from
Python, and no more.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.base import MESSAGE_BYTES, Peer, new_name

if TYPE_CHECKING:
    from collections.abc import Callable

SYS_FUTEX = {"x86_64": 202, "aarch64": 98}
FUTEX_WAIT, FUTEX_WAKE = 0, 1
# Where messages lie: off the word that is waited for.
PLACES = [slice(start, start + MESSAGE_BYTES) for start in range(64, mmap.PAGESIZE, MESSAGE_BYTES)]

if platform.machine() not in SYS_FUTEX:
    raise ImportError(f"the number of the futex call is not known for {platform.machine()}")
NUMBER = SYS_FUTEX[platform.machine()]
LIBC = ctypes.CDLL(None)


class Page:
    """Holds the last 63 messages. Nobody waits for room: it is made for a sender that pauses, as
    that of `cold` does.
    """

    def __init__(self) -> None:
        self.path = str(Path(tempfile.gettempdir()) / new_name())
        Path(self.path).write_bytes(bytes(mmap.PAGESIZE))

    def _map(self) -> tuple[mmap.mmap, ctypes.c_uint32]:
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            page = mmap.mmap(descriptor, mmap.PAGESIZE)
        finally:
            os.close(descriptor)
        return page, ctypes.c_uint32.from_buffer(page)

    def sender(self) -> Callable[[bytes], object]:
        page, word = self._map()
        call, address = LIBC.syscall, ctypes.c_void_p(ctypes.addressof(word))

        def send(message: bytes) -> None:
            page[PLACES[word.value % len(PLACES)]] = message
            word.value += 1
            call(NUMBER, address, FUTEX_WAKE, 1, None, None, 0)

        return send

    def receiver(self) -> Callable[[], bytes]:
        page, word = self._map()
        call, address = LIBC.syscall, ctypes.c_void_p(ctypes.addressof(word))
        seen = 0

        def take() -> bytes:
            nonlocal seen
            while word.value == seen:
                call(NUMBER, address, FUTEX_WAIT, seen, None, None, 0)
            seen += 1
            return page[PLACES[(seen - 1) % len(PLACES)]]

        return take

    def close(self) -> None:
        Path(self.path).unlink(missing_ok=True)


PEERS = (Peer("(futex alone)", messages_cold=Page, yardstick=True),)
