// Every subscriber sees every message. A ring of `depth` slots, one publisher at a time, and a
// cursor for each subscriber.
//
//|  Body (a block of kind stream):
//|    0    line 0  magic, depth, policy, subscriber table size,    fixed
//|                 length and hash of the schema
//|    64   line 1  publisher lock, head, slowest (an old value of the slowest cursor), closed
//|    128  line 2  published (event), space (event)
//|    192  subscribers[64]: {cursor, owner tag} 64 bytes each
//|    ...  ring    Slot[depth]
//|    ...  schema  of a stream with a type: its text
//
// COMMITS: publish: head := k+1 [stream.head]. subscribe: owner := tag. read: cursor := k+1.
// Message k is in its slot if head > k, and if stamp == 2k+2 both before it was copied and after
// its block was held.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "body/observed.hpp"
#include "queue/message.hpp"

namespace onecopy {

enum class StreamPolicy : u32 { lossy = 0, lossless = 1, latest = 2 };
constexpr u32 kSubscribers = 64;

class Stream {
  public:
    // `schema`: of a typed stream; too_large if it is too long.
    static Status create(Member& m, u32 depth, StreamPolicy policy, WaitPolicy& p, Handle& out,
                         std::string_view schema = {}) noexcept;
    static Status open(Member& m, Handle h, Stream& out) noexcept;

    // ok. timed_out or would_block: lossless, and a living subscriber has not read. shut_down,
    // interrupted.
    Status publish(const Message& msg, WaitPolicy& p) noexcept;
    // table_full: 64 subscribers. The subscription belongs to the slot of this process, and ends
    // with it. lossy, lossless: it begins with the oldest of the last `history` messages that the
    // ring still has, or else with the next message. latest: it begins with the newest message that
    // is there.
    Status subscribe(WaitPolicy& p, u32& subscriber, u32 history = 0) noexcept;
    void unsubscribe(u32 subscriber) noexcept;
    // ok; would_block or timed_out; shut_down: closed, and all is read; stale: the subscription was
    // evicted; interrupted. `missed` grows by the messages that were overwritten unread. latest:
    // skips to the newest message; those that it skips count as missed.
    Status read(u32 subscriber, Message& msg, u64& missed, WaitPolicy& p) noexcept;
    // Waits until `read` would not wait, and reads nothing.
    Status wait_ready(u32 subscriber, WaitPolicy& p) noexcept;
    // The newest message, whether it was read or not. ok. would_block: there is none; or, in a ring
    // of one slot, a publisher died while it wrote over it. interrupted.
    Status newest(Message& msg, WaitPolicy& p) noexcept;
    Status close(WaitPolicy& p) noexcept;  // for all: subscribers read the remaining messages, then
                                           // get shut_down
    u32 depth() const noexcept;            // of the ring: at least 2 for latest
    StreamPolicy policy() const noexcept;
    // In shared memory, with the hash that it must have. Empty: the stream is untyped.
    std::string_view schema(u64& hash) const noexcept;
    u64 published() const noexcept;
    u32 subscribers() const noexcept;  // living ones
    u32 slowest_reader()
        const noexcept;  // pid of the reader that is furthest behind; 0: there is none
    static std::vector<std::string> validate(Member& m, u32 index);
    static void observe(Member& m, u32 index, Observed& out);
    static u64 layout() noexcept;

  private:
    struct Body;
    struct Subscriber;
    Slot& slot(u64 message) const noexcept;
    enum class Copy { whole, overwritten, corrupt };
    Copy copy_out(u64 message, Message& msg, WaitPolicy& p) noexcept;
    u64 first_of(u32 history, u64 head) const noexcept;
    u64 slowest(u64 head) const noexcept;
    bool room() const noexcept;
    void evict_dead(u64 head) noexcept;
    Status try_publish(const Message& msg, WaitPolicy& p) noexcept;
    static void count_missed(Subscriber& sub, u64 n) noexcept;
    Status try_read(u32 subscriber, Message& msg, u64& missed, WaitPolicy& p) noexcept;
    void check_ring(std::vector<std::string>& out);
    Member* m_ = nullptr;
    Body* b_ = nullptr;
    u32 index_ = 0;
    u32 depth_ = 0;
    StreamPolicy policy_ = StreamPolicy::lossy;
    std::string_view schema_;
    u64 schema_hash_ = 0;
};

}  // namespace onecopy
