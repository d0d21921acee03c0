"""The holder: an actor that holds what travels by place, as long as Ray has a reference to it.

A place in one of Ray's objects holds nothing. Ray may read such an object often, late or never. So
the sender gives the holder the place, and gets a reference of Ray's, a *ticket*, which it puts into
the object, too. Ray counts tickets as all references. When no process and no object has the ticket
any more, Ray tells the holder (`garbage_collect` of a tensor transport), which drops the memory.
docs/design/0030-ray.md says what each death leaves.
"""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

from ray.experimental.rdt import (
    CommunicatorMetadata,
    TensorTransportManager,
    TensorTransportMetadata,
    register_tensor_transport,
)

from onecopy._codec.places import checked, memory_at
from onecopy._core import membership
from onecopy.pool import Pool

if TYPE_CHECKING:
    from onecopy._core.membership import PoolHandle

__all__ = ["Bytes", "Holder"]

TRANSPORT = "ONECOPY"


class Held:
    """What the holder holds for one ticket."""

    def __init__(self, what: object) -> None:
        self.what = what


class Tickets(TensorTransportManager):  # type: ignore[misc]
    """The transport of `Held`. Nothing is sent: Ray only tells when the last ticket is gone."""

    def tensor_transport_backend(self) -> str:
        """Return the name."""
        return TRANSPORT

    @staticmethod
    def is_one_sided() -> bool:
        """Only such transports are for `ray.put`."""
        return True

    @staticmethod
    def can_abort_transport() -> bool:
        """There is nothing to abort. Otherwise Ray would kill actors."""
        return True

    def actor_has_tensor_transport(self, actor: Any) -> bool:  # noqa: ARG002 - Ray's signature
        """Return True: nobody receives."""
        return True

    def extract_tensor_transport_metadata(self, obj_id: str, rdt_object: list[Any]) -> Any:  # noqa: ARG002
        """Return what Ray stores for a ticket."""
        return TensorTransportMetadata([((), None) for _ in rdt_object], "cpu")

    def get_communicator_metadata(self, src_actor: Any, dst_actor: Any, backend: Any = None) -> Any:  # noqa: ARG002
        """Return nothing of interest."""
        return CommunicatorMetadata()

    def recv_multiple_tensors(self, *_args: Any, **_named: Any) -> list[Any]:
        """Refuse: tickets are only counted."""
        raise NotImplementedError("a ticket of onecopy has no value")

    def send_multiple_tensors(self, *_args: Any, **_named: Any) -> None:
        """Refuse, as above."""
        raise NotImplementedError("a ticket of onecopy has no value")

    def garbage_collect(self, obj_id: str, tensor_transport_meta: Any, tensors: list[Any]) -> None:  # noqa: ARG002
        """Drop the memory: Ray has no reference to this ticket any more."""
        for held in tensors:
            held.what = None

    def abort_transport(self, *_args: Any, **_named: Any) -> None:
        """Nothing is ever under way."""


class Bytes:
    """Bytes for a process that does not see the pool. Ray writes them to its store once."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, _protocol: Any) -> Any:
        """Give the memory out of band."""
        return Bytes, (pickle.PickleBuffer(self.memory),)


class Holder:
    """The actor. There is one for each job, on the host of the driver.

    Parameters
    ----------
    handle : PoolHandle
        The pool.
    """

    def __init__(self, handle: PoolHandle) -> None:
        register_tensor_transport(TRANSPORT, ["cpu"], Tickets, Held)
        self._pool = Pool.of(membership.join(handle))
        self._ticket(None)  # Ray's first one loads torch, if there is one

    def hold(self, place: tuple[Any, ...] | None, pickled: bytes = b"") -> tuple[Any, int]:
        """Hold memory, or an object that was pickled by reference, and return the ticket.

        Parameters
        ----------
        place : Place or None
            Where the memory is.
        pickled : bytes
            The pickle, if there is no place. The sender is a process of this job.

        Returns
        -------
        tuple
            The ticket, and the number of this process.
        """
        what = pickle.loads(pickled) if place is None else self._memory(place)
        return self._ticket(what), os.getpid()

    @staticmethod
    def _ticket(what: object) -> Any:
        import ray

        counted = ray.put(Held(what), _tensor_transport=TRANSPORT)
        # A process that unpickles `counted` itself keeps its metadata for ever (Ray's issue 57962).
        # So it stays in an object that nobody reads.
        return ray.put([counted])

    def _memory(self, place: tuple[Any, ...]) -> Any:
        return memory_at(self._pool.member, checked(place), {})

    def fetch(self, place: tuple[Any, ...]) -> Bytes:
        """Return the bytes of a place, for a process on another host."""
        return Bytes(self._memory(place))

    def held(self) -> tuple[int, int]:
        """Return how many bytes of the pool this process holds (its share), and its number."""
        return self._pool.share(), os.getpid()
