// A pickle in a block, and its buffers, when it is sent and when it is received: codec_objects.cpp.
#pragma once
#include <vector>

#include "base/private_memory.hpp"
#include "bindings/codec.hpp"

namespace onecopy::py {

struct PickleHead {
    u32 buffers;
    u32 children;
    u64 pickle_bytes;
    ONECOPY_SHARED_STRUCT(PickleHead, buffers, children, pickle_bytes)
};
static_assert(sizeof(PickleHead) == 16);

struct PickleBuffer {
    u32 child;
    u32 fresh;  // 1: a copy that was made for this message
    u64 offset;
    u64 bytes;
    ONECOPY_SHARED_STRUCT(PickleBuffer, child, fresh, offset, bytes)
};
static_assert(sizeof(PickleBuffer) == 24);
constexpr u32 kNoChild = 0xffffffff;  // of an empty buffer
// The most new blocks of a message. If it has more buffers, neighbours share a block.
constexpr std::size_t kMostParts = 4096;

// Returns whether there was memory for the work of `act`; otherwise MemoryError is set.
template <class Act>
bool has_room(Act act) noexcept {
    const Status s = within_memory([&] {
        act();
        return Status::ok;
    });
    return s == Status::ok || PyErr_NoMemory() != nullptr;
}

// Views of the buffers in a list, released at the end. A buffer without contents is a tuple of its
// size and of the object that writes it; its view has no object.
struct Views {
    std::vector<Py_buffer> all;
    Views() = default;
    Views(const Views&) = delete;
    Views& operator=(const Views&) = delete;
    ~Views() {
        for (Py_buffer& view : all)
            PyBuffer_Release(&view);
    }
    // The caller has reserved room.
    bool add(PyObject* buffer) noexcept;
};

// Fills part of a new block: with a copy of the bytes of `view`, or by a call of the object in
// `buffer`. That object gets the memory as a lease, so it sees no freed memory if it keeps it
// longer.
bool fill_part(const Held& held, u64 offset, unsigned char* data, PyObject* buffer,
               const Py_buffer& view) noexcept;

// The copy mode of a part that was copied for its message, or (not `fresh`) was in the pool before.
Copy of_part(Copy how, bool fresh) noexcept;
// Part of a block as a new reference. nullptr with an exception set.
PyObject* part(Held block, u64 offset, u64 bytes, Copy how = Copy::none) noexcept;
// pickle.loads. Takes both references; either may be nullptr with an exception set.
PyObject* rebuild(PyObject* pickle, PyObject* buffers, Copy how) noexcept;
// Adds a note to the exception that is set: the code of an object raised it.
void explain() noexcept;

}  // namespace onecopy::py
