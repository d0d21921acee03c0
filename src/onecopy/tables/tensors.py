"""torch's tensors on the CPU, sent like arrays.

torch makes multiprocessing send a tensor by a descriptor of torch's own shared memory. Such a
tensor can be received once, while its sender is alive, and the sender's later writes reach the
receiver. Here a tensor is written into the pool once, and can be received any number of times.

torch has no read-only tensors. So a receiver gets private pages: it shares the memory of the pool
until it writes to a page, and no other process sees its writes. For the same reason a tensor is
always copied when it is sent, also if its memory lies in a pool: a tensor cannot be sealed. The
exception is a tensor over the memory of a `SharedArray`: it stays shared.

torch's own pickling takes apart sparse and quantized tensors, and subclasses that define their own
pickling. The tensors and storages inside them travel as above. The result of a computation with
gradients arrives as from pickle: with its values and `requires_grad`. The graph stays in the
sender. Tensors on other devices are left to torch.
"""

from __future__ import annotations

import copyreg
import math
import sys
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from onecopy._codec.arrays import SharedArray
from onecopy._codec.backing import address
from onecopy._native import to_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from _typeshed import ReadableBuffer, WriteableBuffer

    from onecopy._codec.packing import Packing, Reducer

__all__ = ["types_of"]

_SMALL = 4096  # bytes; a smaller tensor is part of the pickle
# A tensor keeps its strides if its span in memory is at most this many times its elements.
_MOST_OF_ITSELF = 2
# numpy copies elements with gaps between them, as plain numbers of their size. torch would start
# its threads for this, and then a forked process hangs when it uses torch.
_MOVED_AS = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "c16"}


def types_of(_library: str) -> tuple[tuple[type[Any], Reducer], ...]:
    """Return the types that this module takes apart."""
    return (
        (torch.storage.TypedStorage, _reduce_typed_storage),
        (torch.storage.UntypedStorage, _reduce_storage),
        (torch.Tensor, _reduce),
    )


def _reduce(tensor: Any, packing: Packing) -> Any:
    kind = type(tensor)
    if _is_users(kind) or tensor.device.type not in {"cpu", "meta"}:
        return NotImplemented
    if not _is_plain(tensor):
        return _as_torch_does(tensor)
    taken = _take_apart(tensor.as_subclass(torch.Tensor), packing)
    if taken is None:
        return _as_torch_does(tensor)
    if tensor._backward_hooks:
        torch.utils.hooks.warn_if_has_hooks(tensor)
    state = torch._utils._get_obj_state(tensor)
    if kind is torch.Tensor and not state:
        return _rebuild, taken
    return torch._tensor._rebuild_from_type_v2, (_rebuild, kind, taken, state)


def _as_torch_does(tensor: Any) -> Any:
    reduced = tensor.__reduce_ex__(5)
    if reduced[0] is torch._utils._rebuild_sparse_tensor:
        return _rebuild_sparse, reduced[1]
    return reduced


def _rebuild_sparse(layout: Any, data: tuple[Any, ...]) -> Any:
    """Rebuild a sparse tensor as torch does.

    torch's function also keeps the tensor until a call of `torch.load`, which checks it.
    """
    if layout is torch.sparse_coo:
        indices, values, size, *coalesced = data
        known = {"is_coalesced": coalesced[0]} if coalesced else {}
        return torch.sparse_coo_tensor(indices, values, size, check_invariants=False, **known)
    return torch.sparse_compressed_tensor(*data, layout=layout, check_invariants=False)


def _is_users(kind: type[Any]) -> bool:
    """Tell whether a reducer for a type was registered, and is not torch's own."""
    if kind in copyreg.dispatch_table:
        return True
    reduction = sys.modules.get("multiprocessing.reduction")
    reducer = None if reduction is None else reduction.ForkingPickler._extra_reducers.get(kind)
    return reducer is not None and not reducer.__module__.startswith("torch.")


def _is_plain(tensor: Any) -> bool:
    """Tell whether a tensor consists only of numbers in memory, and perhaps attributes."""
    kind = type(tensor)
    return bool(
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not tensor.is_quantized
        and not tensor.is_nested
        and not getattr(tensor, "has_names", bool)()  # older versions of torch
        and kind.__reduce_ex__ is torch.Tensor.__reduce_ex__
        and kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__
        and kind.__torch_function__.__func__ is torch.Tensor.__torch_function__.__func__
    )


def _take_apart(tensor: Any, packing: Packing) -> tuple[Any, ...] | None:
    """Return the arguments of `_rebuild`. None: the storage is too short."""
    size, stride = tuple(tensor.shape), tuple(tensor.stride())
    itemsize = tensor.element_size()
    bits = tensor.is_conj(), tensor.is_neg()
    rest = tensor.dtype, size
    if not tensor.numel():
        return b"", *rest, stride, bits, tensor.requires_grad
    storage = tensor.untyped_storage()
    start = tensor.storage_offset() * itemsize
    nbytes = (1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))) * itemsize
    if start + nbytes > storage.nbytes():
        return None
    memory = _bytes_of(storage, start, nbytes)
    buffer: Any = _shared(memory, packing)
    if buffer is None:
        if nbytes > _MOST_OF_ITSELF * tensor.numel() * itemsize:  # it consists mostly of gaps
            scattered = _elements(memory, itemsize, size, stride)
            stride = _without_gaps(size, stride)
            nbytes = tensor.numel() * itemsize

            def write(to: WriteableBuffer) -> None:
                np.copyto(_elements(to, itemsize, size, stride), scattered)

        else:

            def write(to: WriteableBuffer) -> None:
                np.copyto(np.frombuffer(memoryview(to), np.uint8), memory)

        if nbytes < _SMALL:
            small = bytearray(nbytes)
            write(small)
            buffer = bytes(small)
        else:
            buffer = packing.later(nbytes, write)
    return buffer, *rest, stride, bits, tensor.requires_grad


def _bytes_of(storage: Any, start: int, nbytes: int) -> npt.NDArray[np.uint8]:
    tensor: Any = torch.empty(0, dtype=torch.uint8, device="cpu")
    return cast("npt.NDArray[np.uint8]", tensor.set_(storage, start, (nbytes,), (1,)).numpy())


def _elements(
    memory: Any, itemsize: int, size: Sequence[int], stride: Sequence[int]
) -> npt.NDArray[Any]:
    """Return memory as an array with the tensor's shape, of numbers of the same size."""
    steps = [itemsize * step for step in stride]
    return np.ndarray(size, np.dtype(_MOVED_AS[itemsize]), memory, strides=steps)


def _over(
    memory: npt.NDArray[np.uint8], dtype: Any, size: Sequence[int], stride: Sequence[int]
) -> Any:
    """Make a tensor over writable memory."""
    tensor: Any = torch.empty(0, dtype=dtype, device="cpu")
    return tensor.set_(torch.from_numpy(memory).untyped_storage(), 0, size, stride)


def _without_gaps(size: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """Return strides without gaps, with the same order of dimensions in memory."""
    result = [0] * len(size)
    step = 1
    order = sorted(range(len(size)), key=lambda axis: (stride[axis], -axis))
    for axis in order:
        result[axis] = step
        step *= max(size[axis], 1)
    return tuple(result)


def _shared(memory: npt.NDArray[np.uint8], packing: Packing) -> SharedArray | None:
    """Return memory of a `SharedArray` of the pool as such. None: it is not such memory."""
    member = packing.member
    handle = None if member is None else member.where(memory.data)
    if member is None or handle is None:
        return None
    lease = member.lease(handle)
    if lease.readonly:
        return None
    block = np.frombuffer(memoryview(lease), np.uint8)
    start = address(memory) - address(block)
    return block[start : start + memory.nbytes].view(SharedArray)


def _rebuild(
    buffer: ReadableBuffer,
    dtype: Any,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    bits: tuple[bool, bool],
    requires_grad: bool,
) -> Any:
    tensor: Any
    if math.prod(size):
        tensor = _over(_writable(buffer), dtype, size, stride)
    else:
        tensor = torch.empty_strided(size, stride, dtype=dtype, device="cpu")
    conjugated, negated = bits
    if conjugated:
        tensor = tensor.conj()
    if negated:
        tensor = torch._neg_view(tensor)
    return tensor.requires_grad_() if requires_grad else tensor


def _writable(buffer: ReadableBuffer) -> npt.NDArray[np.uint8]:
    memory = np.frombuffer(memoryview(buffer), np.uint8)
    if memory.flags.writeable:
        return memory
    return np.frombuffer(memoryview(to_private(buffer)), np.uint8)


def _reduce_storage(storage: Any, packing: Packing) -> Any:
    """Take a storage apart. Its bytes are sent once, also if several tensors share them."""
    if _is_users(type(storage)):
        return NotImplemented
    if storage.device.type != "cpu" or type(storage) is not torch.UntypedStorage:
        return NotImplemented
    nbytes = storage.nbytes()
    if nbytes < _SMALL:
        return _rebuild_storage, (bytes(_bytes_of(storage, 0, nbytes)) if nbytes else b"",)

    def write(to: WriteableBuffer) -> None:
        np.copyto(np.frombuffer(memoryview(to), np.uint8), _bytes_of(storage, 0, nbytes))

    return _rebuild_storage, (packing.later(nbytes, write),)


def _rebuild_storage(buffer: ReadableBuffer) -> Any:
    memory = memoryview(buffer)
    if not memory.nbytes:
        return torch.UntypedStorage(0)
    return torch.from_numpy(_writable(buffer)).untyped_storage()


def _reduce_typed_storage(storage: Any, _packing: Packing) -> Any:
    """Take apart a storage that has a dtype."""
    untyped = storage._untyped_storage
    if type(storage) is not torch.storage.TypedStorage or untyped.device.type != "cpu":
        return NotImplemented
    return _rebuild_typed_storage, (untyped, storage.dtype)


def _rebuild_typed_storage(untyped: Any, dtype: Any) -> Any:
    return torch.storage.TypedStorage(wrap_storage=untyped, dtype=dtype, _internal=True)
