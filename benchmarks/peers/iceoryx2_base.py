"""What the adapters of iceoryx2 share: nodes and publish-subscribe services."""

from __future__ import annotations

import ctypes
from typing import Any

import iceoryx2 as iox

from benchmarks.peers.base import new_name

# Room for those that come while iceoryx2 still counts one that was killed.
ENDS = 4


def payload_type(nbytes: int) -> type[ctypes.Structure]:
    """A fixed-size payload; both sides must give it the same name."""
    fields = {"_fields_": [("data", ctypes.c_uint8 * nbytes)]}
    return type(f"Bytes{nbytes}", (ctypes.Structure,), fields)


def new_node() -> Any:
    iox.set_log_level(iox.LogLevel.Error)
    builder = iox.NodeBuilder.new().signal_handling_mode(iox.SignalHandlingMode.Disabled)
    return builder.create(iox.ServiceType.Ipc)


class Service:
    """A publish-subscribe service for payloads of one size, a few publishers and subscribers."""

    def __init__(self, nbytes: int, depth: int) -> None:
        self.name = new_name()
        self.nbytes = nbytes
        self.depth = depth

    def _open(self) -> tuple[Any, Any]:
        node = new_node()
        service = (
            node.service_builder(iox.ServiceName.new(self.name))
            .publish_subscribe(payload_type(self.nbytes))
            .enable_safe_overflow(False)
            .history_size(0)
            .max_publishers(ENDS)
            .max_subscribers(ENDS)
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
        """Sweep up what members that were killed have left; the others took theirs along."""
        node, _service = self._open()
        node.try_cleanup_dead_nodes()
