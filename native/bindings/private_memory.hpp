// Memory of this process alone that begins with the content of a block. It is a private mapping of
// the block's pages, or a copy where a mapping is not possible or not worthwhile.
#pragma once
#include "bindings/instance.hpp"
#include "bindings/lease.hpp"
#include "segment/private_pages.hpp"

namespace onecopy::py {

// How the receiver has what it received.
enum class Copy : u8 {
    unsaid,    // none, or guarded
    none,      // read-only, where it lies
    guarded,   // read-only too; a write that happens in spite of that is private
    fresh,     // as in multiprocessing: what was copied for the message is a private copy
    all,       // everything is a private copy
    on_write,  // everything is private and writable, and copied page by page when it is written
};
// None, False, True, "on_write". False with ValueError set.
bool copy_from(PyObject* object, Copy& out) noexcept;
// What `unsaid` means: `guarded` in a process that has loaded torch. Torch writes to memory that is
// read-only, and has no tensors that cannot be written.
Copy as_said(Copy how) noexcept;
inline bool is_read_only(Copy how) noexcept {
    return how == Copy::none || how == Copy::guarded;
}

// Whether the object that this thread rebuilds shall be private and writable. Memory that an object
// refers to by a name is found by Python code while the object is rebuilt; that code asks this.
class Rebuilding {
  public:
    explicit Rebuilding(bool privately) noexcept : before_(std::exchange(privately_, privately)) {}
    ~Rebuilding() { privately_ = before_; }
    Rebuilding(const Rebuilding&) = delete;
    Rebuilding& operator=(const Rebuilding&) = delete;
    static bool privately() noexcept { return privately_; }

  private:
    static inline thread_local constinit bool privately_ = false;
    bool before_;
};

// For less, a copy costs less than a mapping (docs/design/0012-private-mappings.md).
constexpr u64 kMapFrom = 256 * kKiB;

// The Python object behind private pages. It holds the block, because pages that were not written
// show what is in the pool.
struct PrivateObject {
    PyObject_HEAD Held held;
    PrivatePages pages;
    u64 length;
    Shared<bool> readonly;
};

bool init_private_memory(PyObject* module) noexcept;
void bind_private_memory(nb::module_& m);

// Private pages over a part of the block; the caller has checked it. nullptr without an exception:
// there can be none, and `block` is as it was. nullptr with an exception: no memory.
PrivateObject* map_privately(Held& block, u64 offset, u64 bytes, bool readonly) noexcept;

// A part of a block, which the caller has checked, as an object with a buffer. Shared memory stays
// shared. nullptr with an exception set.
PyObject* memory_of(LeaseObject* lease, u64 offset, u64 bytes, Copy how) noexcept;

}  // namespace onecopy::py
