// What of a segment this process has mapped itself: a hint, private to the process, that costs no
// system call to ask.
#pragma once
#include <cstddef>

#include "layout/layout.hpp"
#include "os/os.hpp"

namespace onecopy {

class Mapped {
  public:
    explicit Mapped(std::size_t length) noexcept : units_(length / kUnitBytes + 1) {
        noted_ = static_cast<unsigned char*>(os::map_scratch(units_));
        if (noted_ == nullptr) return;
        // A fork copies no page tables of a shared mapping: the child has none of these pages yet.
        os::wipe_on_fork(noted_, units_);
    }
    ~Mapped() {
        if (noted_ != nullptr) os::unmap(noted_, units_);
    }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;

    // Threads may ask and note at once. bytes > 0.
    bool has(u64 offset, u64 bytes) const noexcept {
        if (noted_ == nullptr) return true;  // as if there were nothing to be gained
        for (u64 i = offset / kUnitBytes; i <= (offset + bytes - 1) / kUnitBytes; ++i)
            if (__atomic_load_n(noted_ + i, __ATOMIC_RELAXED) == 0) return false;
        return true;
    }
    // Units count that are touched only in part: their other pages cost a few faults.
    void add(u64 offset, u64 bytes) noexcept {
        if (noted_ == nullptr) return;
        for (u64 i = offset / kUnitBytes; i <= (offset + bytes - 1) / kUnitBytes; ++i)
            __atomic_store_n(noted_ + i, 1, __ATOMIC_RELAXED);
    }

  private:
    static constexpr u64 kUnitBytes = 64 * kKiB;
    std::size_t units_;
    unsigned char* noted_ = nullptr;
};

}  // namespace onecopy
