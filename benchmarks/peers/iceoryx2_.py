"""iceoryx2: publish-subscribe with loaned samples, and numpy arrays made over them by hand.

This is its fastest fair use: the producer copies directly into the loaned payload, nothing is
serialised, the receiver polls without a pause, and a view is made once per address. If the receiver
is full, the publisher waits (RetryUntilDelivered), so that no sample is lost.
"""

from __future__ import annotations

import ctypes
import os
from itertools import count
from typing import TYPE_CHECKING, Any

import iceoryx2 as iox
import numpy as np

from benchmarks.peers.base import (
    FRAME_BYTES,
    FRAME_DEPTH,
    FRAME_SHAPE,
    IDLE_PROCESSES,
    MESSAGE_BYTES,
    MESSAGE_DEPTH,
    Frame,
    Look,
    Peer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = count()


def payload_type(nbytes: int) -> type[ctypes.Structure]:
    """Return a fixed-size payload type. Both sides must use the same name."""
    fields = {"_fields_": [("data", ctypes.c_uint8 * nbytes)]}
    return type(f"Bytes{nbytes}", (ctypes.Structure,), fields)


def new_node() -> Any:
    iox.set_log_level(iox.LogLevel.Error)
    builder = iox.NodeBuilder.new().signal_handling_mode(iox.SignalHandlingMode.Disabled)
    return builder.create(iox.ServiceType.Ipc)


class Service:
    """A publish-subscribe service for payloads of one size, one publisher and one subscriber."""

    def __init__(self, nbytes: int, depth: int) -> None:
        self.name = f"onecopy-bench/{os.getpid()}/{next(NUMBERS)}"
        self.nbytes = nbytes
        self.depth = depth

    def _open(self) -> tuple[Any, Any]:
        node = new_node()
        service = (
            node.service_builder(iox.ServiceName.new(self.name))
            .publish_subscribe(payload_type(self.nbytes))
            .enable_safe_overflow(False)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(1)
            .subscriber_max_buffer_size(self.depth)
            .subscriber_max_borrowed_samples(2)
            .open_or_create()
        )
        return node, service

    def publisher(self) -> tuple[Any, Any]:
        node, service = self._open()
        builder = service.publisher_builder()
        wait = iox.BackpressureStrategy.RetryUntilDelivered
        publisher = builder.backpressure_strategy(wait).max_loaned_samples(2).create()
        return publisher, (node, service)

    def subscriber(self) -> tuple[Any, Any]:
        node, service = self._open()
        return service.subscriber_builder().create(), (node, service)

    def close(self) -> None:
        """Clean up after killed members. The others have removed their own resources."""
        node, _service = self._open()
        node.try_cleanup_dead_nodes()


class Frames(Service):
    def __init__(self) -> None:
        super().__init__(FRAME_BYTES, FRAME_DEPTH)

    def writer(self) -> Callable[[Frame], object]:
        publisher, keep = self.publisher()
        loan, copyto = publisher.loan_uninit, np.copyto
        views = Views()

        def write(frame: Frame, _keep: object = keep) -> None:
            sample = loan()
            copyto(views[sample.payload_ptr], frame)
            sample.assume_init().send()

        return write

    def reader(self) -> Callable[[Look], None]:
        subscriber, keep = self.subscriber()
        receive = subscriber.receive
        views = Views()

        def read(look: Look, _keep: object = keep) -> None:
            sample = receive()
            while sample is None:
                sample = receive()
            look(views[sample.payload_ptr])
            sample.delete()

        return read


class Views(dict[int, Frame]):
    """Arrays over payloads, by address. Samples use a few addresses again and again."""

    def __missing__(self, address: int) -> Frame:
        memory = (ctypes.c_uint8 * FRAME_BYTES).from_address(address)
        view = self[address] = np.frombuffer(memory, np.uint8).reshape(FRAME_SHAPE)
        return view


class Messages(Service):
    def __init__(self) -> None:
        super().__init__(MESSAGE_BYTES, MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        publisher, keep = self.publisher()
        loan, move = publisher.loan_uninit, ctypes.memmove

        def send(message: bytes, _keep: object = keep) -> None:
            sample = loan()
            move(sample.payload_ptr, message, MESSAGE_BYTES)
            sample.assume_init().send()

        return send

    def receiver(self) -> Callable[[], bytes]:
        subscriber, keep = self.subscriber()
        receive, string_at = subscriber.receive, ctypes.string_at

        def take(_keep: object = keep) -> bytes:
            sample = receive()
            while sample is None:
                sample = receive()
            message = string_at(sample.payload_ptr, MESSAGE_BYTES)
            sample.delete()
            return message

        return take


class Handoff(Service):
    """Loans, sends, receives and drops samples without using the payload."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes, MESSAGE_DEPTH if nbytes <= 4096 else FRAME_DEPTH)

    def giver(self) -> Callable[[int], None]:
        publisher, keep = self.publisher()
        loan = publisher.loan_uninit

        def give(_number: int, _keep: object = keep) -> None:
            loan().assume_init().send()

        return give

    def taker(self) -> Callable[[], int]:
        subscriber, keep = self.subscriber()
        receive, nbytes = subscriber.receive, self.nbytes

        def take(_keep: object = keep) -> int:
            sample = receive()
            while sample is None:
                sample = receive()
            sample.delete()
            return nbytes

        return take


class Idle:
    """Waits without polling, by the event pattern: one listener per process."""

    def __init__(self) -> None:
        self.name = f"onecopy-bench/{os.getpid()}/{next(NUMBERS)}"

    def _open(self) -> tuple[Any, Any]:
        node = new_node()
        builder = node.service_builder(iox.ServiceName.new(self.name)).event()
        return node, builder.max_listeners(IDLE_PROCESSES).open_or_create()

    def waiter(self, _number: int) -> Callable[[], object]:
        node, service = self._open()
        listener = service.listener_builder().create()

        def wait(_keep: object = (node, service)) -> object:
            return listener.blocking_wait()

        return wait

    def close(self) -> None:
        node, _service = self._open()
        node.try_cleanup_dead_nodes()


PEERS = (Peer("iceoryx2", frames=Frames, messages=Messages, handoff=Handoff, idle=Idle),)
