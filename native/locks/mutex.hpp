// A lock for users, plain or recursive (api names: Lock, RLock).
//
// Body (a block of kind mutex):
//   0    magic, recursive      fixed
//   12   word                  the lock word of sync/lock.hpp
//   16   thread                recursive: tag:32 | number of the thread in its process:32; 0: none
//   24   depth, pid            recursive: how often; the owner's pid, for people
//   32   since                 when it was taken, for people
//
// COMMITS: acquire: word := tag. release: word := 0. The other fields belong to the owner; who
// takes over writes over them.
#pragma once
#include "locks/body.hpp"

namespace onecopy {

class Mutex {
  public:
    static Status create(Member& m, bool recursive, WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, Mutex& out) noexcept;

    // ok; owner_died: held, and the last owner died with it (`died` says who);
    // would_block/timed_out, interrupted
    Status acquire(WaitPolicy& p) noexcept;
    // Waits until it is free, or this thread's, without taking it. owner_died: its owner is dead
    // (`died` says who); until somebody acquires it, or `forget`s the dead one, everybody who comes
    // is told so.
    Status await(WaitPolicy& p) noexcept;
    void forget() noexcept;
    // Plain: anybody may, as in multiprocessing, unless its owner is dead: then not_held, because
    // somebody must be told. Recursive: not_held unless it is this thread's.
    Status release() noexcept;
    // Frees it so that the next owner is told of a death again. not_held: it is not ours.
    Status abandon() noexcept;

    bool recursive() const noexcept { return recursive_; }
    bool locked() const noexcept;  // by somebody who lives
    bool mine() const noexcept;    // recursive: this thread's; else this process's
    // Somebody has it, dead or alive, and not this thread (recursive)
    bool is_anothers() const noexcept;
    bool once() const noexcept;             // mine: one release gives it back
    bool owner(Owner& out) const noexcept;  // false: nobody
    u32 died() const noexcept { return died_; }

    // For a condition: gives all of it back, and takes it again as it was.
    u32 release_all() noexcept;
    Status acquire_again(u32 depth, WaitPolicy& p) noexcept;

    static std::vector<std::string> validate(Member& m, u32 index);

  private:
    struct Body;
    Status acquire_slow(WaitPolicy& p) noexcept;
    void note_owner() noexcept;
    Member* m_ = nullptr;
    Body* b_ = nullptr;
    bool recursive_ = false;
    u32 dead_ = 0;  // tag of the owner that `await` found dead
    u32 died_ = 0;  // pid of the owner that the last take-over by this object found dead
};

}  // namespace onecopy
