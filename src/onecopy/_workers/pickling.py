"""How calls and results are pickled: references in them keep their objects alive on the way."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from onecopy._codec.backing import lease_of
from onecopy._codec.pickler import Pickler
from onecopy._core.keepalive import keep_for_child
from onecopy._native import Ref

if TYPE_CHECKING:
    import io

    from _typeshed import ReadableBuffer

    from onecopy._codec.packing import Later
    from onecopy._native import Member

    Part = ReadableBuffer | Later

__all__ = ["CallPickler", "Picklers"]


class CallPickler(Pickler):
    """Pickle for calls and results: a reference in them keeps its object alive on the way.

    Parameters
    ----------
    file, buffers, member
        As for any `Pickler`.
    keeps : bool
        Whether what goes by a name is kept until it has arrived, as it is for calls: then arrays in
        other pools go so, too.
    """

    def __init__(
        self, file: io.BytesIO, buffers: list[Part], member: Member, keeps: bool = False
    ) -> None:
        self.keeps = keeps
        super().__init__(file, buffers, member)

    def reducer_override(self, obj: Any) -> Any:
        """Send the block that a reference is for; leave all other objects to the codecs."""
        if type(obj) is Ref and not obj.released and obj.member is self.member:
            # What is sent by reference is held by the message, as the reference itself is not.
            block = np.frombuffer(memoryview(obj.member.lease(obj.handle)), np.uint8)
            return _ref_to, (self._out_of_band(block),)
        if type(obj) is Ref:
            keep_for_child(obj)
        return super().reducer_override(obj)

    def refers_to(self, _: Member) -> bool:
        """Send a copy of what is not kept until it has arrived: of results above all."""
        return False


Picklers = type[CallPickler]


def _ref_to(block: Any) -> Ref:
    lease = lease_of(np.frombuffer(block, np.uint8))
    if lease is None:
        raise pickle.UnpicklingError("a reference arrived without its block")
    return lease.member.ref(lease.handle)
