// Pages of a pool's file that a process has mapped a second time, for itself alone.
//
//|  the pool's mapping   shared    every member sees every store
//|  private pages        private   copied by the kernel at the first store; nobody else sees it
//
// A block is not aligned to pages, so the mapping covers the pages around it. Bytes of neighbours
// on the first and the last page are visible there, and change until that page is written for the
// first time. Nobody looks at them.
//
// The owner of the object holds the block for as long as the pages are mapped: pages that were not
// written show what is in the file now. docs/design/0012-private-mappings.md has the states and the
// answers for deaths, forks and limits.
#pragma once
#include <cstddef>

#include "base/status.hpp"
#include "layout/layout.hpp"

namespace onecopy {

class Member;

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
    void unmap() noexcept;

    // Where `offset` is.
    unsigned char* data() const noexcept { return data_; }

    // How many there are in this process.
    static u32 count() noexcept;

  private:
    friend class PrivatePagesList;
    unsigned char* data_ = nullptr;
    unsigned char* pages_ = nullptr;
    std::size_t length_ = 0;
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
