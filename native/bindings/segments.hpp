// The memory of a shared memory segment, as Python has it.
#pragma once
#include "bindings/objects.hpp"

namespace onecopy::py {

// A mapping that outlives its closing while an object still uses it. Changed under the GIL
// only.
struct MappingObject {
    unsigned char* base = nullptr;
    std::size_t length = 0;
    std::size_t users = 0;  // objects that export it, and calls that are in it
    bool closed = false;

    MappingObject(unsigned char* at, std::size_t bytes) noexcept : base(at), length(bytes) {}
    MappingObject(const MappingObject&) = delete;
    MappingObject& operator=(const MappingObject&) = delete;
    ~MappingObject() { unmap(); }
    void close() noexcept {
        closed = true;
        if (users == 0) unmap();
    }
    void done() noexcept {
        if (--users == 0 && closed) unmap();
    }
    void unmap() noexcept {
        if (base != nullptr) os::unmap(base, length);
        base = nullptr;
    }
};

void bind_segments(nb::module_& m);
void bind_shareable(nb::module_& m);

}  // namespace onecopy::py
