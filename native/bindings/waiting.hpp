// Waiting for memory in a full pool.
#pragma once
#include "bindings/objects.hpp"
#include "sync/event_count.hpp"

namespace onecopy::py {

// Runs `attempt(policy)` again whenever memory was freed, as long as it answers no_memory, `hope()`
// is true, and the deadline has not passed. no_memory also when the deadline has passed.
template <class Hope, class Attempt>
Status wait_for_memory(Member& m, std::int64_t deadline, Hope hope, Attempt attempt) noexcept {
    GilWaitPolicy policy(deadline, true);  // others wait for more memory, or for less
    Header& header = m.header();
    auto footprint = [&] { return header.used.load() + header.body_bytes.load(); };
    u64 seen = 0;
    bool lacked = false;
    const Status s = wait_for(
        header.memory_freed, {m, WaitPurpose::memory, &header.memory_freed}, policy,
        [&] {
            seen = footprint();
            const Status tried = attempt(policy);
            lacked = tried == Status::no_memory;
            return lacked && hope() ? Status::would_block : tried;
        },
        [&] {  // [commit/sleepers]
            return footprint() != seen || m.corrupt() || !m.joined.load(std::memory_order_relaxed);
        },
        [] {});
    return lacked && (s == Status::timed_out || s == Status::would_block) ? Status::no_memory : s;
}

}  // namespace onecopy::py
