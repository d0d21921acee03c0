// The memory of a shared memory segment, as Python has it.
#pragma once
#include "bindings/objects.hpp"

namespace onecopy::py {

// A mapping that outlives its closing while an object still uses it. What uses it counts itself
// first, and looks at `closed` then: without the GIL, another thread may close it in between.
struct MappingObject {
    Shared<unsigned char*> base = nullptr;
    std::size_t length = 0;
    Shared<std::size_t> users = 0;  // objects that export it, and calls that are in it
    Shared<bool> closed = false;

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
        if (unsigned char* mapped = exchange(base, nullptr); mapped != nullptr)
            os::unmap(mapped, length);
    }
};

class MappingUse {
  public:
    explicit MappingUse(MappingObject& mapping) noexcept : mapping_(mapping) { ++mapping_.users; }
    ~MappingUse() { mapping_.done(); }
    MappingUse(const MappingUse&) = delete;
    MappingUse& operator=(const MappingUse&) = delete;

  private:
    MappingObject& mapping_;
};

void bind_segments(nb::module_& m);
void bind_shareable(nb::module_& m);

}  // namespace onecopy::py
