#include "segment/private_pages.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "base/bits.hpp"
#include "base/crash_point.hpp"
#include "os/os.hpp"
#include "segment/member.hpp"

namespace onecopy {
namespace {

// Linux allows a process 65,530 mappings (vm.max_map_count), and libraries, threads and malloc need
// theirs. From this number on, data is copied.
constexpr u32 kMost = 16'384;
std::atomic<u32> in_use{0};

}  // namespace

u32 PrivatePages::count() noexcept {
    return in_use.load(std::memory_order_relaxed);
}

Status PrivatePages::map(Member& m, u64 offset, u64 bytes) noexcept {
    unmap();
    // Threads may pass the limit by a few.
    if (in_use.load(std::memory_order_relaxed) >= kMost) return Status::out_of_memory;
    const u64 page = os::page_size();
    const u64 first = offset & ~(page - 1);
    const u64 last = std::min<u64>(round_up(offset + bytes, page), m.length);
    std::unique_lock holding(m.mutex);
    const os::SharedFile& file = m.file_without_locks(holding);
    void* at = file ? file.map_private(first, last - first) : nullptr;
    if (at == nullptr) return errno == ENOMEM ? Status::out_of_memory : Status::system_error;
    pages_ = static_cast<unsigned char*>(at);
    length_ = last - first;
    data_ = pages_ + (offset - first);
    member_ = &m;
    m.private_pages.add(*this);
    in_use.fetch_add(1, std::memory_order_relaxed);
    crash_point();  // only the kernel has seen it
    return Status::ok;
}

void PrivatePages::unmap() noexcept {
    if (pages_ == nullptr) return;
    // Under the mutex, which a fork takes: a child never forbids access to what lies there by then.
    std::lock_guard holding(member_->mutex);
    PrivatePagesList::remove(*this);
    os::unmap(std::exchange(pages_, nullptr), length_);
    data_ = nullptr;
    in_use.fetch_sub(1, std::memory_order_relaxed);
    crash_point();
}

void PrivatePagesList::add(PrivatePages& pages) noexcept {
    pages.next_ = first_;
    pages.at_ = &first_;
    if (first_ != nullptr) first_->at_ = &pages.next_;
    first_ = &pages;
}

void PrivatePagesList::remove(PrivatePages& pages) noexcept {
    *pages.at_ = pages.next_;
    if (pages.next_ != nullptr) pages.next_->at_ = pages.at_;
}

void PrivatePagesList::forbid() noexcept {
    for (PrivatePages* each = first_; each != nullptr; each = each->next_) {
        // It needs memory only where the kernel has joined neighbouring mappings to one, and the
        // process is at its limit of mappings. To show what others have put there would be wrong
        // data without a word.
        if (!os::forbid_access(each->pages_, each->length_)) std::abort();
    }
}

}  // namespace onecopy
