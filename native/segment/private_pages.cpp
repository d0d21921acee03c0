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
#include "os/written_pages.hpp"
#include "segment/member.hpp"

namespace onecopy {
namespace {

// Linux allows a process 65,530 mappings (vm.max_map_count), and libraries, threads and malloc need
// theirs. From this number on, data is copied.
constexpr u32 kMost = 16'384;
std::atomic<u32> in_use{0};

// Bytes. To look which pages of a mapping were written costs 10 us, as much as the faults that are
// saved in a smaller one.
constexpr u64 kKeepFrom = 1 * kMiB;

}  // namespace

u32 PrivatePages::count() noexcept {
    return in_use.load(std::memory_order_relaxed);
}

bool PrivatePages::map_new(Member& m, u64 first, u64 length,
                           std::unique_lock<std::mutex>& holding) noexcept {
    const os::SharedFile& file = m.file_without_locks(holding);
    void* at = file ? file.map_private(first, length) : nullptr;
    // Idle mappings have the address space that is missing.
    if (at == nullptr && file && errno == ENOMEM && m.idle_mappings.unmap_all() != 0)
        at = file.map_private(first, length);
    mapping_ = {static_cast<unsigned char*>(at), first, length};
    return at != nullptr;
}

Status PrivatePages::map(Member& m, u64 offset, u64 bytes) noexcept {
    unmap();
    // Threads may pass the limit by a few.
    if (in_use.load(std::memory_order_relaxed) >= kMost) return Status::out_of_memory;
    const u64 page = os::page_size();
    const u64 first = offset & ~(page - 1);
    const u64 last = std::min<u64>(round_up(offset + bytes, page), m.length);
    std::unique_lock holding(m.mutex);
    mapping_ = m.idle_mappings.take(first, last - first);
    if (mapping_.at == nullptr && !map_new(m, first, last - first, holding))
        return errno == ENOMEM ? Status::out_of_memory : Status::system_error;
    data_ = mapping_.at + (offset - first);
    member_ = &m;
    m.private_pages.add(*this);
    in_use.fetch_add(1, std::memory_order_relaxed);
    crash_point();  // only the kernel has seen it
    return Status::ok;
}

void PrivatePages::unmap() noexcept {
    if (mapping_.at == nullptr) return;
    Member& m = *member_;
    // A reader's mapping keeps the lock that keeps writers away; one of a process that has left
    // would never be used.
    const bool stays = mapping_.length >= kKeepFrom && !m.readonly && m.joined.load() &&
                       os::mappings_are_free() && os::forget_written(mapping_.at, mapping_.length);
    // Under the mutex, which a fork takes: a child never forbids access to what lies there by then.
    std::lock_guard holding(m.mutex);
    PrivatePagesList::remove(*this);
    const Mapping mapping = std::exchange(mapping_, {});
    // It may have left meanwhile.
    if (stays && m.joined.load())
        m.idle_mappings.keep(mapping, m.length);
    else
        os::unmap(mapping.at, mapping.length);
    data_ = nullptr;
    in_use.fetch_sub(1, std::memory_order_relaxed);
    crash_point();
}

Mapping IdleMappings::take(u64 from, u64 bytes) noexcept {
    for (u32 i = count_; i-- != 0;) {
        if (!mappings_[i].shows(from, bytes)) continue;
        const Mapping found = remove(i);
        if (os::is_still_the_file(found.at) && os::give_to_children(found.at, found.length))
            return found;
        os::unmap(found.at, found.length);
    }
    return {};
}

void IdleMappings::keep(const Mapping& mapping, u64 file_length) noexcept {
    // A fork would copy its page tables, if a page of it was ever written.
    if (!os::keep_from_children(mapping.at, mapping.length)) {
        os::unmap(mapping.at, mapping.length);
        return;
    }
    while (count_ != 0 && (count_ == kMost || length_ + mapping.length > file_length))
        unmap_first();
    mappings_[count_++] = mapping;
    length_ += mapping.length;
}

Mapping IdleMappings::remove(u32 index) noexcept {
    const Mapping found = mappings_[index];
    std::move(mappings_ + index + 1, mappings_ + count_, mappings_ + index);
    --count_;
    length_ -= found.length;
    return found;
}

void IdleMappings::unmap_first() noexcept {
    const Mapping mapping = remove(0);
    os::unmap(mapping.at, mapping.length);
}

u32 IdleMappings::unmap_all() noexcept {
    const u32 before = count_;
    while (count_ != 0)
        unmap_first();
    return before;
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
        if (!os::forbid_access(each->mapping_.at, each->mapping_.length)) std::abort();
    }
}

}  // namespace onecopy
