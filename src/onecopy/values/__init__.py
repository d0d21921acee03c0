"""Objects of ctypes in a pool, with a lock or without: the core of Value and Array.

An object made here is an ordinary object of ctypes (``type(raw) is ctypes.c_double``) whose memory
is a `SharedArray` of bytes. It holds the array, and whatever ctypes or numpy makes of it (views,
pointers, parts) holds the object: the memory is free once the last of these is gone, in every
process.

It is pickled by reference, by pickle, by multiprocessing and on queues, which is arranged per type
in `copyreg`; objects of the type that lie in no pool are pickled as before. A pickle keeps nothing
alive (`StaleRef`), a queue does, and so does the start of a process that gets one as an argument.

``copy.copy`` and ``copy.deepcopy`` give a copy in ordinary memory, `copy` here one in the pool.
"""

from onecopy.values.named import open_value
from onecopy.values.raw import copy, raw_array, raw_value, typecode_to_type
from onecopy.values.synchronized import (
    Integer,
    Real,
    Synchronized,
    SynchronizedArray,
    SynchronizedBase,
    SynchronizedString,
    Value,
    synchronized,
    with_lock,
)

__all__ = [
    "Integer",
    "Real",
    "Synchronized",
    "SynchronizedArray",
    "SynchronizedBase",
    "SynchronizedString",
    "Value",
    "copy",
    "open_value",
    "raw_array",
    "raw_value",
    "synchronized",
    "typecode_to_type",
    "with_lock",
]
