"""iceoryx2's events: what a process waits for that does not poll."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import iceoryx2 as iox

from benchmarks.peers.base import IDLE_PROCESSES, MESSAGE_BYTES, MESSAGE_DEPTH, new_name
from benchmarks.peers.iceoryx2_base import Service, new_node

if TYPE_CHECKING:
    from collections.abc import Callable


def event(name: str) -> tuple[Any, Any]:
    """A node and an event service of that name. Keep the node while the service is used."""
    node = new_node()
    builder = node.service_builder(iox.ServiceName.new(name)).event()
    return node, builder.max_listeners(IDLE_PROCESSES).open_or_create()


class Idle:
    """One listener per process."""

    def __init__(self) -> None:
        self.name = new_name()

    def waiter(self, _number: int) -> Callable[[], object]:
        node, service = event(self.name)
        listener = service.listener_builder().create()

        def wait(_keep: object = (node, service)) -> object:
            return listener.blocking_wait()

        return wait

    def close(self) -> None:
        node, _service = event(self.name)
        node.try_cleanup_dead_nodes()


class WokenMessages(Service):
    """Messages with a notification each: the receiver sleeps until one comes."""

    def __init__(self) -> None:
        super().__init__(MESSAGE_BYTES, MESSAGE_DEPTH)

    def sender(self) -> Callable[[bytes], object]:
        publisher, keep = self.publisher()
        node, service = event(self.name)
        notify = service.notifier_builder().create().notify
        loan, move = publisher.loan_uninit, ctypes.memmove

        def send(message: bytes, _keep: object = (keep, node, service)) -> None:
            sample = loan()
            move(sample.payload_ptr, message, MESSAGE_BYTES)
            sample.assume_init().send()
            notify()

        return send

    def receiver(self) -> Callable[[], bytes]:
        subscriber, keep = self.subscriber()
        node, service = event(self.name)
        receive, wait = subscriber.receive, service.listener_builder().create().blocking_wait

        def take(_keep: object = (keep, node, service)) -> bytes:
            sample = receive()
            while sample is None:
                wait()
                sample = receive()
            message = ctypes.string_at(sample.payload_ptr, MESSAGE_BYTES)
            sample.delete()
            return message

        return take
