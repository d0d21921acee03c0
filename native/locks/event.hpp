// A flag to wait for.
//
//|  Body (a block of kind event):
//|    0    magic                  fixed
//|    64   word                   sets:31 | flag:1
//|    68   changed                event count
//
// COMMITS: set and clear: the CAS of word. A waiter remembers `sets`: it is released also if the
// flag was cleared before it woke.
#pragma once
#include "locks/shares.hpp"

namespace onecopy {

class Event {
  public:
    static Status create(Member& m, WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, Event& out) noexcept;
    Status set() noexcept;
    Status clear() noexcept;
    Status wait(WaitPolicy& p) noexcept;  // ok; would_block/timed_out, interrupted
    bool is_set() const noexcept;
    static std::vector<std::string> validate(Member& m, u32 index);
    static void observe(Member& m, u32 index, Observed& out);
    static u64 layout() noexcept;

  private:
    struct Body;
    Member* m_ = nullptr;
    Body* b_ = nullptr;
};

}  // namespace onecopy
