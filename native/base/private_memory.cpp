// Fault builds only: `new` counts, and fails when a test asks for it.
#include "base/private_memory.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
#include <atomic>
#include <cstdlib>

namespace onecopy {
namespace {

std::atomic<std::uint64_t> count{0}, failing{0};
std::atomic<bool> on_and_on{false};

void* get(std::size_t bytes, std::size_t alignment = 0) noexcept {
    if (allocation_fails()) return nullptr;
    if (bytes == 0) bytes = 1;
    if (alignment == 0) return std::malloc(bytes);
    return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}
void* get_or_throw(std::size_t bytes, std::size_t alignment = 0) {
    void* memory = get(bytes, alignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

}  // namespace

void fail_allocation(std::uint64_t nth, bool lasting) noexcept {
    failing = 0;
    count = 0;
    on_and_on = lasting;
    failing = nth;
}

bool allocation_fails() noexcept {
    const std::uint64_t now = count.fetch_add(1) + 1, nth = failing;
    return nth != 0 && (now == nth || (on_and_on && now > nth));
}

std::uint64_t allocations() noexcept {
    return count;
}

}  // namespace onecopy

void* operator new(std::size_t n) {
    return onecopy::get_or_throw(n);
}
void* operator new[](std::size_t n) {
    return onecopy::get_or_throw(n);
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
    return onecopy::get(n);
}
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept {
    return onecopy::get(n);
}
void* operator new(std::size_t n, std::align_val_t a) {
    return onecopy::get_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
    return onecopy::get_or_throw(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept {
    std::free(p);
}
void operator delete[](void* p) noexcept {
    std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
    std::free(p);
}
void operator delete[](void* p, std::size_t) noexcept {
    std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
    std::free(p);
}
void operator delete[](void* p, std::align_val_t) noexcept {
    std::free(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
    std::free(p);
}
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept {
    std::free(p);
}
#endif
