// A lock for users, plain or recursive (in Python: Lock, RLock).
//
//|  Body (a block of kind mutex):
//|    0    magic, recursive      fixed
//|    12   word                  the lock word of sync/lock.hpp
//|    16   thread                recursive: tag:32 | number of the thread in its process:32; 0: none
//|    24   depth, pid            recursive: how often; the owner's pid, for people
//|    32   since                 when it was taken, for people
//
// COMMITS: acquire: word := tag. release: word := 0. The other fields belong to the owner; the next
// owner writes over them.
#pragma once
#include "locks/shares.hpp"

namespace onecopy {

class Mutex {
  public:
    static Status create(Member& m, bool recursive, WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, Mutex& out) noexcept;

    // ok. owner_died: held, and the last owner died with it; `died` gives its pid. would_block or
    // timed_out, interrupted.
    Status acquire(WaitPolicy& p) noexcept;
    // Waits until the lock is free or belongs to this thread, and does not take it. owner_died: the
    // owner is dead; `died` gives its pid. Every caller gets this answer until one acquires the
    // lock, or calls `forget`.
    Status await(WaitPolicy& p) noexcept;
    // As `await`, but a plain lock that this process has is not free: `acquire` would wait.
    Status await_turn(WaitPolicy& p) noexcept;
    void forget() noexcept;
    // Plain: any thread of any process may release it, as in multiprocessing. not_held: its owner
    // is dead, because the next owner must hear of that. Recursive: not_held if this thread does
    // not have it.
    Status release() noexcept;
    // Frees the lock so that the next owner hears of a death again. not_held: this process does not
    // have it.
    Status abandon() noexcept;

    bool recursive() const noexcept { return recursive_; }
    bool locked() const noexcept;  // by a living process
    bool mine() const noexcept;    // recursive: this thread has it; plain: this process has it
    // Another process has it, living or dead, or (recursive) another thread.
    bool is_anothers() const noexcept;
    bool once() const noexcept;             // of an owner: one release frees it
    bool owner(Owner& out) const noexcept;  // false: nobody has it
    u32 died() const noexcept { return died_; }

    // For a condition: releases all of it, and takes it again as it was.
    u32 release_all() noexcept;
    Status acquire_again(u32 depth, WaitPolicy& p) noexcept;

    static std::vector<std::string> validate(Member& m, u32 index);
    static void observe(Member& m, u32 index, Observed& out);
    static u64 layout() noexcept;

  private:
    struct Body;
    Status acquire_slow(WaitPolicy& p) noexcept;
    void note_owner() noexcept;
    Member* m_ = nullptr;
    Body* b_ = nullptr;
    bool recursive_ = false;
    u32 dead_ = 0;  // tag of the owner that `await` found dead
    u32 died_ = 0;  // pid of the last dead owner that this object took the lock over from
};

}  // namespace onecopy
