// Many readers, or one writer.
//
//|  Body (a block of kind rwlock):
//|    0    line 0  magic, prefer                             fixed
//|    64   line 1  writer (lock word), closed (tag), active (tag), turn, pid, since
//|    128  line 2  may_read, drained                         event counts
//|    192  readers[P]  count | generation                    Shares
//
// A reader counts itself in, and then looks at `closed`. A writer sets `closed`, and then looks at
// the readers. Both are sequentially consistent, so one of them sees the other
// [rwlock.closed/readers].
//
// COMMITS: read: the entry. write: active := tag. release: the entry; closed := 0.
#pragma once
#include "locks/shares.hpp"

namespace onecopy {

enum class Prefer : u32 { writer = 0, reader = 1, fair = 2 };

class RwLock {
  public:
    static Status create(Member& m, Prefer prefer, WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, RwLock& out) noexcept;

    // ok; would_block or timed_out, interrupted. deadlock: this thread writes. table_full: this
    // thread has too many locks. owner_died: a writer died while it wrote. Then the caller has the
    // lock for WRITING, to check and repair alone; `downgrade` makes it a reader.
    Status read(WaitPolicy& p) noexcept;
    // ok; owner_died, and held; would_block or timed_out, interrupted. deadlock: this thread reads
    // or writes.
    Status write(WaitPolicy& p) noexcept;
    // not_held: this thread does not have the lock in that way.
    Status read_release() noexcept;
    Status write_release() noexcept;
    void downgrade() noexcept;  // from writing to reading, with no writer in between
    Status
    abandon() noexcept;  // of a writer: frees it so that the next owner hears of a death again

    Prefer prefer() const noexcept { return prefer_; }
    bool owner(Owner& out) const noexcept;  // the writer; false: none
    u32 readers() const noexcept;           // living ones; each thread counts
    u32 died() const noexcept { return died_; }
    static std::vector<std::string> validate(Member& m, u32 index);
    static void observe(Member& m, u32 index, Observed& out);
    static u64 layout() noexcept;

  private:
    struct Body;
    bool count_in() noexcept;  // false: the lock is closed, and this reader is counted out again
    void count_out() noexcept;
    void read_again() noexcept;
    bool reads(u32 slot) const noexcept;
    u32 a_reader() const noexcept;
    void let_readers_in() noexcept;
    Status read_slow(WaitPolicy& p) noexcept;
    bool writer_is_dead() const noexcept;
    void ask_for_writers() noexcept;
    Status take_over(WaitPolicy& p) noexcept;
    void leave_damaged() noexcept;
    Status wait_for_turn(WaitPolicy& p) noexcept;
    Status close_and_drain(WaitPolicy& p) noexcept;
    Status enter_as_writer(WaitPolicy& p) noexcept;

    Member* m_ = nullptr;
    Body* b_ = nullptr;
    Handle handle_ = 0;
    Shares readers_;
    Prefer prefer_ = Prefer::writer;
    u32 died_ = 0;
};

}  // namespace onecopy
