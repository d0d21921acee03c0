"""A process in which the kernel makes no unnamed files: for what is done on such file systems."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct

_OPENAT = {"x86_64": 257, "aarch64": 56}
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_TMPFILE = os.O_TMPFILE & ~os.O_DIRECTORY
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EOPNOTSUPP


def refuse_unnamed_files() -> None:
    """Have this process, and what it starts, get EOPNOTSUPP for O_TMPFILE. It cannot be undone."""
    load, equals, any_bit, answer = 0x20, 0x15, 0x45, 0x06
    openat = _OPENAT[platform.machine()]
    program = b"".join(
        struct.pack("HBBI", *step)
        for step in (
            (load, 0, 0, 0),  # the number of the call
            (equals, 0, 3, openat),
            (load, 0, 0, 32),  # its third argument
            (any_bit, 0, 1, _TMPFILE),
            (answer, 0, 0, _REFUSE),
            (answer, 0, 0, _ALLOW),
        )
    )
    steps = ctypes.create_string_buffer(program)
    whole = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(steps))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(_SECCOMP, _FILTER, whole, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR))  # noqa: S108 - what is tried
        raise AssertionError("the filter does nothing")
