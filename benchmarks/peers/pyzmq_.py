"""pyzmq: PUSH and PULL over `ipc://`, a Unix socket. A frame is copied into the socket's
message, and out by the kernel.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from benchmarks.peers.base import (
    FRAME_DEPTH,
    FRAME_SHAPE,
    MESSAGE_DEPTH,
    Frame,
    Look,
    Peer,
    new_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Pipeline:
    """The receiver binds, senders connect. Each side keeps half of what may be on the way,
    besides the socket.
    """

    depth = MESSAGE_DEPTH

    def __init__(self) -> None:
        self.path = f"{tempfile.gettempdir()}/{new_name()}.sock"

    def pushing(self) -> Any:
        socket = zmq.Context.instance().socket(zmq.PUSH)
        socket.sndhwm = self.depth // 2
        socket.connect(f"ipc://{self.path}")
        return socket

    def pulling(self) -> Any:
        socket = zmq.Context.instance().socket(zmq.PULL)
        socket.rcvhwm = self.depth // 2
        socket.bind(f"ipc://{self.path}")
        return socket

    def close(self) -> None:
        Path(self.path).unlink(missing_ok=True)


class Frames(Pipeline):
    depth = FRAME_DEPTH

    def writer(self) -> Callable[[Frame], object]:
        send = self.pushing().send

        def write(frame: Frame) -> None:
            send(frame.reshape(-1))

        return write

    def reader(self) -> Callable[[Look], None]:
        receive = self.pulling().recv

        def read(look: Look) -> None:
            # Not copied out of the message: a view of it.
            message = receive(copy=False)
            look(np.frombuffer(message.buffer, np.uint8).reshape(FRAME_SHAPE))

        return read


class Messages(Pipeline):
    def sender(self) -> Callable[[bytes], object]:
        send: Callable[[bytes], object] = self.pushing().send
        return send

    def receiver(self) -> Callable[[], bytes]:
        receive: Callable[[], bytes] = self.pulling().recv
        return receive


class Idle:
    """Each waiter has a socket of its own: only one may bind."""

    def __init__(self) -> None:
        self.pipelines = [Messages() for _ in range(8)]

    def waiter(self, number: int) -> Callable[[], object]:
        return self.pipelines[number].receiver()

    def close(self) -> None:
        for pipeline in self.pipelines:
            pipeline.close()


PEERS = (Peer("pyzmq ipc", frames=Frames, messages=Messages, idle=Idle),)
