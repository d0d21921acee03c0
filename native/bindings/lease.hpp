// Lease: the Python object behind memory of a pool. It holds the block as long as it lives, exports
// the buffer protocol, and is the base of every array and memoryview over memory of a pool.
#pragma once
#include "bindings/pool.hpp"

namespace onecopy::py {

struct LeaseObject {
    PyObject_HEAD Held held;
    Handle handle;
    unsigned char* block;  // the block's payload
    u64 block_length;
    unsigned char* data;  // the part of it that this lease exports
    u64 length;
    Shared<bool> readonly;
    bool shared;  // any process may write it, at any time (kFlagShared)
};

bool init_lease(PyObject* module) noexcept;
bool is_lease(PyObject* object) noexcept;

// A lease on all of a block. Received ones are read-only unless the block is shared. nullptr with
// an exception set (out of memory; the block is a structure's body or lies outside the heap:
// PoolCorrupted).
LeaseObject* make_lease(Held held, bool writable) noexcept;
// Part of a block: the caller has checked it against `lease->block_length`.
void narrow(LeaseObject* lease, u64 offset, u64 length) noexcept;

// The lease behind an object's memory: follows arrays' bases and memoryviews. Borrowed; nullptr:
// there is none.
LeaseObject* lease_behind(PyObject* object) noexcept;

// Makes an array read-only, the arrays that it is a view of, and the lease at their end: what was
// sent belongs to its readers. Shared arrays stay as they are.
void seal(PyObject* array) noexcept;

}  // namespace onecopy::py
