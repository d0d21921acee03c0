// A counter of tokens that knows which process took them.
//
//|  Body (a block of kind semaphore):
//|    0    line 0  magic, initial, flags                          fixed
//|    64   line 1  lock, value (derived), extra
//|    128  line 2  freed                                          event count
//|    192  held[P]  count | generation                            Shares
//|
//|    value = initial + extra - sum of held
//
// A release beyond what is taken adds to `extra`. These tokens are taken first, and taking one uses
// it up: nobody holds it. A token of the initial value is held by the process that took it. It is
// free again when that process gives it back, when another process gives one back for it, or when
// that process dies.
//
// COMMITS: acquire: extra -= 1, or held[me] += 1. release: held[me] -= 1, or held[other] -= 1, or
// extra += 1. A death: held[it] := 0.
#pragma once
#include "locks/shares.hpp"

namespace onecopy {

class Semaphore {
  public:
    static constexpr u64 kLargest = 0x7fffffff;
    enum Flags : u32 {
        kBounded = 1,
        // All tokens are extra ones: nobody holds any, and what a dead process took stays taken.
        kKeepsNothing = 2,
    };
    static Status create(Member& m, u64 initial, u32 flags, WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, Semaphore& out) noexcept;

    Status acquire(WaitPolicy& p) noexcept;  // ok; would_block/timed_out, interrupted
    // Waits until a token is there, and takes none.
    Status wait_ready(WaitPolicy& p) noexcept;
    // not_held: bounded, and it would be more than the initial value. too_large. A death in the
    // middle has given back some of them.
    Status release(u64 n, WaitPolicy& p) noexcept;
    Status value(u64& out, WaitPolicy& p) noexcept;  // how many could be taken now
    u64 initial() const noexcept { return initial_; }
    u32 flags() const noexcept { return flags_; }
    static std::vector<std::string> validate(Member& m, u32 index);
    static void observe(Member& m, u32 index, Observed& out);
    static void repair(Member& m, u32 index, WaitPolicy& p) noexcept;
    static u64 layout() noexcept;

  private:
    struct Body;
    // Tokens that processes can hold.
    u64 stock() const noexcept { return flags_ & kKeepsNothing ? 0 : initial_; }
    Status enter(WaitPolicy& p) noexcept;
    void return_tokens() noexcept;
    void recount() noexcept;
    u64 give_back_to(u32 slot, u64 n) noexcept;
    Status try_acquire(WaitPolicy& p) noexcept;

    Member* m_ = nullptr;
    Body* b_ = nullptr;
    Shares held_;
    u64 initial_ = 0;
    u32 flags_ = 0;
};

}  // namespace onecopy
