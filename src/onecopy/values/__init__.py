"""ctypes objects in a pool, with or without a lock: the core of Value and Array.

An object made here is an ordinary ctypes object (``type(raw) is ctypes.c_double``) whose memory is
a `SharedArray` of bytes. The object holds the array. Everything that ctypes or numpy makes of the
object (views, pointers, parts) holds the object. The memory becomes free when the last of these is
gone in every process.

pickle, multiprocessing and queues pickle it by reference. For this, its type is registered in
`copyreg`. Objects of the type that lie in no pool are pickled as before. A pickle keeps nothing
alive (`StaleRef`). A queue keeps the object alive. So does starting a process that gets it as an
argument.

``copy.copy`` and ``copy.deepcopy`` return a copy in ordinary memory. `copy` in this package returns
a copy in the pool.
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
