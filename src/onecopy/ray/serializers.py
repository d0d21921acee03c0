"""How arrays, references and shared arrays of the pool are pickled for Ray."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.cloudpickle import CloudPickler

from onecopy._codec.arrays import SharedArray
from onecopy._codec.places import ID_BYTES
from onecopy._codec.private_views import origin_of
from onecopy._core import membership
from onecopy._native import Ref
from onecopy.errors import OneCopyError, StaleRef
from onecopy.pool import Pool
from onecopy.ray.counts import counts
from onecopy.ray.sharing import in_band, sharing

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from onecopy._core.membership import PoolHandle

__all__ = ["install", "uninstall"]


def install() -> None:
    """Have Ray pickle such objects by their places, in this process."""
    CloudPickler.dispatch[np.ndarray] = reduce_array
    for kind in (Ref, SharedArray):
        CloudPickler.dispatch[kind] = reduce_reference


def uninstall() -> None:
    """Have Ray pickle as without onecopy."""
    for kind, ours in (
        (np.ndarray, reduce_array),
        (Ref, reduce_reference),
        (SharedArray, reduce_reference),
    ):
        if CloudPickler.dispatch.get(kind) is ours:
            del CloudPickler.dispatch[kind]


def reduce_array(array: npt.NDArray[Any]) -> Any:
    """Take apart an array: by its place if it lies in the pool, else as numpy does."""
    plain = array.__reduce_ex__(5)
    pool, settings = sharing.usable(), sharing.settings
    if pool is None or settings is None or array.nbytes < settings.threshold or not in_band():
        return plain
    build, arguments = plain[0], plain[1]
    # Otherwise numpy has copied it: it has objects, or it is not contiguous.
    if len(plain) > 2 or not isinstance(arguments[0], pickle.PickleBuffer):
        return plain
    try:
        place = pool.where(arguments[0]) or origin_of(arguments[0].raw())
        if place is None or not pool.can_see(place.pool):
            return plain
        ticket = sharing.ticket(_bottom(array), pool.id, place)
        if ticket is None:
            return plain
        sealed: Any = array  # numpy's types say from Python 3.12 on that it is a buffer
        pool.seal(sealed)
    except OneCopyError:  # closed meanwhile
        return plain
    counts.sent += 1
    handle = membership.handle_of(pool.member)
    return _array_at, (handle, tuple(place), ticket, build, arguments[1:])


def _bottom(obj: Any) -> object:
    """Return the array of which all views are made; the views may be made for the pickle only."""
    while isinstance(obj, np.ndarray) and isinstance(obj.base, np.ndarray):
        obj = obj.base
    return obj


def _array_at(
    handle: PoolHandle,
    place: tuple[Any, ...],
    ticket: object,
    build: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> npt.NDArray[Any]:
    """Build an array where it lies. The ticket keeps the memory until this has it."""
    memory = _memory(handle, place)
    del ticket
    array: npt.NDArray[Any] = build(memory, *arguments)
    return array


def _memory(handle: PoolHandle, place: tuple[Any, ...]) -> Any:
    try:
        member = membership.join(handle)
        pool = Pool.of(member)
        if pool.can_see(place[0]):
            memory = pool.import_([place])[0]
            counts.received += 1
            return memory
        reason: Exception = StaleRef("this process does not see the pool of the array")
    except StaleRef as error:
        raise StaleRef(
            "the array is gone: most likely its holder, an actor of onecopy on the host of the "
            "driver, has died. Call the task again"
        ) from error
    except (OneCopyError, OSError, ValueError, MemoryError) as error:
        reason = error
    found = sharing.fetch(place[0][:ID_BYTES], place)
    if found is None:
        raise StaleRef(
            f"the array is out of reach: {reason}. Its bytes could not be fetched either, because "
            "this job has no holder: read the array in the job that made it"
        ) from reason
    counts.fetched += 1
    return found


def reduce_reference(obj: Any) -> Any:
    """Take apart a `Ref` or a `SharedArray`, which travel by reference; add a ticket."""
    plain = obj.__reduce_ex__(5)
    pool = sharing.usable()
    if pool is None or len(plain) > 2 or not in_band():
        return plain
    ticket = sharing.ticket(_bottom(obj), pool.id, None, pickle.dumps(obj))
    if ticket is None:
        return plain
    counts.sent += 1
    return _reference, (ticket, *plain)


def _reference(ticket: object, build: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Build a reference, which holds its object. The ticket keeps the object until then."""
    obj = build(*arguments)
    del ticket
    counts.received += 1
    return obj
