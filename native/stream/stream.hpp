// Every subscriber sees every message: a ring of `depth` slots, one publisher at a time, a cursor
// per subscriber.
//
// Body (a block of kind stream):
//   0    line 0  magic, depth, policy, subscriber table size     fixed
//   64   line 1  publisher lock, head, closed, slowest (an old value of the slowest cursor)
//   128  line 2  published (event), space (event)
//   192  subscribers[64]: {cursor, owner tag, spare} 64 bytes each
//   ...  ring    Slot[depth]
//
// COMMITS: publish: head := k+1 [stream.head]. subscribe: owner := tag. read: cursor := k+1. A
// slot's message k is there when head > k and stamp == 2k+2, before and after it was copied and its
// block held.
#pragma once
#include <string>
#include <vector>

#include "heap/heap.hpp"
#include "queue/message.hpp"

namespace onecopy {

enum class StreamPolicy : u32 { lossy = 0, lossless = 1, latest = 2 };
constexpr u32 kSubscribers = 64;

class Stream {
  public:
    static Status create(Member& m, u32 depth, StreamPolicy policy, WaitPolicy& p,
                         Handle& out) noexcept;
    static Status open(Member& m, Handle h, Stream& out) noexcept;

    // ok; timed_out/would_block (lossless: a live subscriber has not read), shut_down, interrupted
    Status publish(const Message& msg, WaitPolicy& p) noexcept;
    // table_full: 64 subscribers. The subscription belongs to this process's slot and dies with it.
    // lossy, lossless: starts with the oldest of the last `history` messages that the ring still
    // has, or with the next message. latest: starts with the newest that is there.
    Status subscribe(WaitPolicy& p, u32& subscriber, u32 history = 0) noexcept;
    void unsubscribe(u32 subscriber) noexcept;
    // ok; would_block/timed_out, shut_down (closed and all read), stale (the subscription was
    // evicted), interrupted. `missed` grows by what was overwritten unread. latest: skips to the
    // newest; skipped messages count as missed.
    Status read(u32 subscriber, Message& msg, u64& missed, WaitPolicy& p) noexcept;
    // The newest message, whoever has read it. ok; would_block: there is none (or, in a ring of one
    // slot, a publisher died while it wrote over it); interrupted
    Status newest(Message& msg, WaitPolicy& p) noexcept;
    Status close(
        WaitPolicy& p) noexcept;  // for everybody: subscribers drain and then see shut_down
    u32 depth() const noexcept;   // of the ring: at least 2 for latest
    StreamPolicy policy() const noexcept;
    u64 published() const noexcept;
    u32 subscribers() const noexcept;     // live ones
    u32 slowest_reader() const noexcept;  // the pid of the one furthest behind; 0: there is none
    static std::vector<std::string> validate(Member& m, u32 index);

  private:
    struct Body;
    struct Subscriber;
    Status usable() const noexcept;
    Slot& slot(u64 message) const noexcept;
    enum class Copy { whole, overwritten, corrupt };
    Copy copy_out(u64 message, Message& msg, WaitPolicy& p) noexcept;
    u64 first_of(u32 history, u64 head) const noexcept;
    u64 slowest(u64 head) const noexcept;
    bool room() const noexcept;
    void evict_dead(u64 head) noexcept;
    Status try_publish(const Message& msg, WaitPolicy& p) noexcept;
    Status try_read(u32 subscriber, Message& msg, u64& missed, WaitPolicy& p) noexcept;
    void check_ring(std::vector<std::string>& out);
    Member* m_ = nullptr;
    Body* b_ = nullptr;
    u32 index_ = 0;
    u32 depth_ = 0;
    StreamPolicy policy_ = StreamPolicy::lossy;
};

}  // namespace onecopy
