// The buffers of a pickle, on their way in and out: codec_objects.cpp.
#pragma once
#include <vector>

#include "base/private_memory.hpp"
#include "bindings/codec.hpp"

namespace onecopy::py {

struct PickleBuffer {
    u32 child;
    u32 fresh;  // 1: a copy that was made for this message
    u64 offset;
    u64 bytes;
};
static_assert(sizeof(PickleBuffer) == 24);
constexpr u32 kNoChild = 0xffffffff;  // of an empty buffer
// A message has at most so many new blocks. If it has more buffers, neighbours share a block.
constexpr std::size_t kMostParts = 4096;

// Whether there was memory for what `act` makes; MemoryError is set otherwise.
template <class Act>
bool has_room(Act act) noexcept {
    const Status s = within_memory([&] {
        act();
        return Status::ok;
    });
    return s == Status::ok || PyErr_NoMemory() != nullptr;
}

// Views of a list's buffers, released at the end. A buffer that is still to be written is a tuple
// of its size and of what writes it; it has a view without an object.
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

// Fills part of a new block: with a copy of what `view` shows, or by what `buffer` says, which gets
// the memory itself. It is a lease that it gets: one that is kept for longer shows no freed memory.
bool fill_part(const Held& held, u64 offset, unsigned char* data, PyObject* buffer,
               const Py_buffer& view) noexcept;

// How a part is had that was copied for its message, or (not `fresh`) lay in the pool before.
Copy of_part(Copy how, bool fresh) noexcept;
// Part of a block as a new reference. nullptr with an exception set.
PyObject* part(Held block, u64 offset, u64 bytes, Copy how = Copy::none) noexcept;
// pickle.loads. Takes the references to both; either may be nullptr with an exception set.
PyObject* rebuild(PyObject* pickle, PyObject* buffers, Copy how) noexcept;
// Notes on the exception that is set that it came out of code of an object.
void explain() noexcept;

}  // namespace onecopy::py
