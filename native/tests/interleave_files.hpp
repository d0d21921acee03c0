// Two processes meet at a pool's name.
#pragma once
#include "tests/crash_files.hpp"
#include "tests/interleave_stage.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::interleave {

using namespace onecopy::campaign;

struct FilePair {
    const char* name;
    void (*ready_b)(bool memfd, Joined&);
    void (*ready_a)(bool memfd, Joined&);
    Status (*a)(bool memfd, Joined&);
    Status (*b)(bool memfd, Joined&);
    // What A answers if B had ended before A's first change.
    Status after_b;
    // The name leads to the pool that A, or B, is in.
    bool named = true;
};

inline Status opens(bool, Joined& pool) {
    return open_it(pool);
}
inline Status creates(bool memfd, Joined& pool) {
    return make(memfd, pool);
}
inline Status unlinks(bool, Joined& pool) {
    return unlink_it(*pool);
}
inline Status leaves(bool, Joined& pool) {
    pool.reset();
    return Status::ok;
}
inline Status sweeps(bool, Joined&) {
    return sweep_it() == PoolFileState::removed ? Status::ok : Status::would_block;
}
// And stays in the old pool, too.
inline Joined& old_pool() {
    static Joined it;
    return it;
}
inline Status unlinks_and_makes_anew(bool memfd, Joined& pool) {
    CHECK(unlink_it(*pool) == Status::ok);
    old_pool() = std::move(pool);
    return make(memfd, pool);
}

inline const FilePair kFilePairs[] = {
    {"file: open / unlink", made, no_file, opens, unlinks, Status::no_entry, false},
    {"file: open / unlink and make again", made, no_file, opens, unlinks_and_makes_anew, Status::ok,
     false},
    {"file: open / the last one leaves", made, no_file, opens, leaves, Status::no_entry},
    {"file: the last one leaves / open", no_file, made, leaves, opens, Status::ok},
    {"file: open / open", stale_pool, no_file, opens, opens, Status::no_entry},
    {"file: make / make", no_file, no_file, creates, creates, Status::exists},
    {"file: make / make, a dead one's", stale_pool, no_file, creates, creates, Status::exists},
    {"file: make / sweep", stale_pool, no_file, creates, sweeps, Status::ok},
    {"file: sweep / make", stale_pool, no_file, sweeps, creates, Status::would_block},
    {"file: open a dead one / make", stale_pool, no_file, opens, creates, Status::no_entry},
    {"file: unlink / open", no_file, made, unlinks, opens, Status::ok, false},
};

inline void file_player(const FilePair& pair, bool memfd, bool is_a, u64 step, bool before) {
    Stage& s = stage();
    Joined pool;
    (is_a ? pair.ready_a : pair.ready_b)(memfd, pool);
    (is_a ? s.a_ready : s.b_ready) = 1;
    await(is_a ? s.a_go : s.b_go);
    if (is_a) (before ? stop_before : stop_at)(step, &ledger().actor);
    const Status said = (is_a ? pair.a : pair.b)(memfd, pool);
    if (is_a) {
        ledger().steps = crash_steps();
        stop_at(0);
    }
    s.said[is_a ? 0 : 1] = static_cast<u32>(said);
    s.pool[is_a ? 0 : 1] = pool == nullptr ? 0 : pool->header().id[0];
    (is_a ? s.a_done : s.b_done) = 1;
    await(is_a ? s.a_after : s.b_after);
    pool.reset();
    old_pool().reset();
    _exit(0);
}

// While both still exist: what is under the name works, and belongs to them.
inline void look_at_the_name(const FilePair& pair) {
    Stage& s = stage();
    Joined pool;
    const Status found = open_it(pool);
    CHECK(found == Status::ok || found == Status::no_entry);
    const u64 there = found == Status::ok ? u64{pool->header().id[0]} : 0;
    for (int i = 0; i < 2 && pair.named; ++i)
        CHECK(s.pool[i] == 0 || s.pool[i] == there);
    if (pool != nullptr) {
        // A member of it has its locks in the same file.
        CHECK(collect_dead(*pool) == 0);
        work_in(*pool);
    }
    pool.reset();
    _exit(0);
}

[[noreturn]] inline void file_world(const FilePair& pair, bool memfd, u64 step, bool before) {
    alarm(kHang);
    Ledger& l = ledger();
    Stage& s = stage();
    l.steps = 0;
    l.actor = {};
    std::memset(static_cast<void*>(&s), 0, sizeof s);
    char path[] = "/dev/shm/onecopy-interleave-XXXXXX";
    CHECK(mkdtemp(path) != nullptr);
    directory_of_world() = path;
    const pid_t b = start([&] { file_player(pair, memfd, false, 0, false); });
    await(s.b_ready);
    const pid_t a = start([&] { file_player(pair, memfd, true, step, before); });
    await(s.a_ready);
    const Meeting met = meet(a, step);
    CHECK(met.paused || l.actor.step == 0);
    const auto said = static_cast<Status>(s.said[0].load());
    if (met.paused && before && step == 1 && !met.b_waited) {
        CHECK(said == pair.after_b);
        CHECK(s.pool[0] == 0 || s.pool[1] == 0 || s.pool[0] == s.pool[1]);
    }
    ends_well(start([&] { look_at_the_name(pair); }));
    s.a_after = 1;
    s.b_after = 1;
    ends_well(a);
    ends_well(b);
    CHECK(files_in_directory() == 0);
    CHECK(rmdir(path) == 0);
    _exit(met.outcome());
}

}  // namespace onecopy::interleave

#endif
