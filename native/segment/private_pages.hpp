// Pages of a pool's file that a process has mapped a second time, for itself alone.
//
//|  the pool's mapping   shared    every member sees every store
//|  private pages        private   copied by the kernel at the first store; nobody else sees it
//
// A block is not aligned to pages, so the mapping covers the pages around it. Bytes of neighbours
// on the first and the last page are visible there, and change until that page is written for the
// first time. Nobody looks at them.
//
// The owner of the object holds the block for as long as it uses the pages: pages that were not
// written show what is in the file now.
//
// A page costs much at its first use, and little afterwards. So a mapping is kept when its owner is
// done with it, for the next owner of the same part of the file:
//
//|  not there -> used        map            the pages cost a fault each
//|       used -> idle        unmap          what was written is given back; all of it shows the file
//|       idle -> used        map            no fault, where pages were used before
//|       idle -> not there   there is no room for it; no address space; a child; the end
//
// An idle mapping holds no block, and nobody reads it.
// docs/design/0012-private-mappings.md has the answers for deaths, forks and limits.
#pragma once
#include <cstddef>
#include <mutex>

#include "base/status.hpp"
#include "layout/layout.hpp"

namespace onecopy {

class Member;

// A part of a pool's file, in whole pages, and where it is mapped.
struct Mapping {
    unsigned char* at = nullptr;
    u64 first = 0;  // in the file
    u64 length = 0;

    bool shows(u64 from, u64 bytes) const noexcept { return first == from && length == bytes; }
};

// The idle mappings of one member, under its mutex. Together they are not longer than the file, so
// their page tables take no more memory than those of the pool's own mapping. They may show the
// same pages: then several owners have had these pages at the same time, and will again.
class IdleMappings {
  public:
    IdleMappings() noexcept = default;
    ~IdleMappings() { unmap_all(); }
    IdleMappings(const IdleMappings&) = delete;
    IdleMappings& operator=(const IdleMappings&) = delete;

    // One that shows these pages of the file, and of several the one that was used last. It is idle
    // no more. `at` is nullptr: there is none.
    Mapping take(u64 from, u64 bytes) noexcept;
    // Its pages show the file, which has `file_length` bytes. Unmaps what has been idle the longest
    // until there is room.
    void keep(const Mapping& mapping, u64 file_length) noexcept;
    // In a child, which has none of them.
    void forget_all() noexcept { count_ = 0, length_ = 0; }
    // How many there were.
    u32 unmap_all() noexcept;
    u32 count() const noexcept { return count_; }

  private:
    static constexpr u32 kMost = 128;
    Mapping remove(u32 index) noexcept;
    void unmap_first() noexcept;

    Mapping mappings_[kMost];  // the one that has been idle the longest comes first
    u32 count_ = 0;
    u64 length_ = 0;  // of all together
};

class PrivatePages {
  public:
    PrivatePages() noexcept = default;
    ~PrivatePages() { unmap(); }
    // The member's list refers to it.
    PrivatePages(const PrivatePages&) = delete;
    PrivatePages& operator=(const PrivatePages&) = delete;

    // Maps what surrounds [offset, offset+bytes) of the pool's file. The member lives for as long
    // as this does. out_of_memory: there is no address space, or the process has its share of
    // mappings. system_error: the file cannot be opened again. In both cases a copy is as good.
    Status map(Member& m, u64 offset, u64 bytes) noexcept;
    // Ends the use. The member may keep the mapping.
    void unmap() noexcept;

    // Where `offset` is.
    unsigned char* data() const noexcept { return data_; }

    // How many are used in this process.
    static u32 count() noexcept;

  private:
    friend class PrivatePagesList;
    bool map_new(Member& m, u64 first, u64 length, std::unique_lock<std::mutex>& holding) noexcept;

    unsigned char* data_ = nullptr;
    Mapping mapping_;
    Member* member_ = nullptr;
    PrivatePages* next_ = nullptr;
    PrivatePages** at_ = nullptr;  // what refers to this
};

// Those of one member, under its mutex.
class PrivatePagesList {
  public:
    void add(PrivatePages& pages) noexcept;
    static void remove(PrivatePages& pages) noexcept;
    // Every access faults from now on. For a child that is no member.
    void forbid() noexcept;

  private:
    PrivatePages* first_ = nullptr;
};

}  // namespace onecopy
