"""The sockets of a server. gRPC keeps them to itself, so they are found by their port."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["abandon", "cut"]


def _of(port: int) -> Iterator[tuple[int, socket.socket]]:
    """Find the descriptors of this process whose own port it is; with a copy of each."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a pathlib iterator holds one open
        with suppress(OSError):  # closed meanwhile, or no socket
            descriptor = int(name)
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue  # `socket` would refuse the copy, and not close it
            with socket.socket(fileno=os.dup(descriptor)) as copy:
                name_of_it = copy.getsockname()
                if isinstance(name_of_it, tuple) and name_of_it[1] == port:
                    yield descriptor, copy


def cut(port: int) -> None:
    """End the connections of a server, so that its calls fail."""
    for _, copy in _of(port):
        if not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            with suppress(OSError):
                copy.shutdown(socket.SHUT_RDWR)


def abandon(port: int) -> None:
    """Replace the sockets of the parent's server, in a forked child.

    While a child has them, clients would not notice the death of the parent. The numbers stay in
    use: gRPC may close them.
    """
    found = [descriptor for descriptor, _ in _of(port)]
    if found:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in found:
            os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)
