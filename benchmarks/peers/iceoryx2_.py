"""iceoryx2: publish-subscribe with loaned samples, and numpy arrays made over them by hand.

This is its fastest fair use: the producer copies directly into the loaned payload, nothing is
serialised, the receiver polls without a pause, and a view is made once per address. If the receiver
is full, the publisher waits (RetryUntilDelivered), so that no sample is lost.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers.base import (
    FRAME_BYTES,
    FRAME_DEPTH,
    FRAME_SHAPE,
    MESSAGE_BYTES,
    MESSAGE_DEPTH,
    Filling,
    Frame,
    Look,
    Peer,
    filling,
)
from benchmarks.peers.iceoryx2_base import Service
from benchmarks.peers.iceoryx2_events import Idle, WokenMessages

if TYPE_CHECKING:
    from collections.abc import Callable


class Frames(Service):
    def __init__(self) -> None:
        super().__init__(FRAME_BYTES, FRAME_DEPTH)

    def filler(self) -> Callable[[], Filling]:
        publisher, keep = self.publisher()
        loan = publisher.loan_uninit
        views = Views()

        def fill(_keep: object = keep) -> Filling:
            sample = loan()
            return views[sample.payload_ptr], lambda: sample.assume_init().send()

        return fill

    def writer(self) -> Callable[[Frame], object]:
        return filling(self.filler())

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


PEERS = (
    Peer(
        "iceoryx2",
        frames=Frames,
        messages=Messages,
        messages_cold=WokenMessages,
        handoff=Handoff,
        idle=Idle,
    ),
)
