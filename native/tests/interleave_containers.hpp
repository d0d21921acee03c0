// Operations that meet: shared lists and dicts.
#pragma once
#include "tests/crash_containers.hpp"
#include "tests/interleave_blocks.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::interleave {

using namespace onecopy::campaign;

// ---- containers ---------------------------------------------------------------------------------

inline void appends(Hand& h) {
    List list = the_list(h);
    const Handle item = numbered(h.m, 900, h.wait);
    CHECK(when_free(list, h.wait, [&] { return list.extend(&item, 1, h.wait); }) == Status::ok);
    release_hold(h, handle_index(item));
}
inline void pops(Hand& h) {
    List list = the_list(h);
    for (bool done = false; !done;) {
        Handle out = 0;
        CHECK(when_free(list, h.wait, [&] { return list.get(-1, h.wait, out); }) == Status::ok);
        CHECK(number_in(h.m, out) != 0);
        const Status s = when_free(list, h.wait, [&] { return list.erase_if(-1, out, h.wait); });
        CHECK(s == Status::ok || s == Status::stale);
        done = s == Status::ok;
        release_hold(h, handle_index(out));
    }
}
inline void reads_list(Hand& h) {
    List list = the_list(h);
    for (int i = 0; i < 2; ++i) {
        std::vector<Handle> all;
        CHECK(when_free(list, h.wait, [&] { return list.get({0, INT64_MAX, 1}, h.wait, all); }) ==
              Status::ok);
        for (u64 at = 0; at < std::min<u64>(all.size(), 4); ++at)
            CHECK(number_in(h.m, all[at]) == at + 1);
        let_all_go(h.m, all, h.wait);
    }
}
inline void clears_list(Hand& h) {
    List list = the_list(h);
    CHECK(when_free(list, h.wait, [&] { return list.clear(h.wait); }) == Status::ok);
}
// Nobody comes in between: what it adds is still the last item when it looks again.
inline void updates_locked(Hand& h) {
    List list = the_list(h);
    CHECK(list.mutex().acquire(h.wait) == Status::ok && list.pass(h.wait) == Status::ok);
    for (u64 number = 700; number < 703; ++number) {
        u64 before = 0, after = 0;
        CHECK(list.size(h.wait, before) == Status::ok);
        const Handle item = numbered(h.m, number, h.wait);
        CHECK(list.extend(&item, 1, h.wait) == Status::ok);
        Handle last = 0;
        CHECK(list.get(-1, h.wait, last) == Status::ok && last == item);
        CHECK(list.size(h.wait, after) == Status::ok && after == before + 1);
        release_hold(h, handle_index(last));
        release_hold(h, handle_index(item));
    }
    CHECK(list.mutex().release() == Status::ok);
}
template <u32 number>
void sets_key(Hand& h) {
    Dict dict = the_dict(h);
    const Numbered key(number, 90);
    const Handle item = numbered(h.m, number, h.wait);
    Handle found = 0;
    CHECK(when_free(dict, h.wait,
                    [&] { return dict.set(key.key(), item, false, h.wait, found); }) == Status::ok);
    release_hold(h, handle_index(item));
}
inline void clears_dict(Hand& h) {
    Dict dict = the_dict(h);
    CHECK(when_free(dict, h.wait, [&] { return dict.clear(h.wait); }) == Status::ok);
}
inline void reads_dict(Hand& h) {
    Dict dict = the_dict(h);
    DictItems all;
    CHECK(when_free(dict, h.wait, [&] { return dict.items(true, true, h.wait, all); }) ==
          Status::ok);
    CHECK(all.values.empty() || all.values.size() == 5);
    let_all_go(h.m, all.values, h.wait);
}

inline void one_left(Hand& h) {
    extra_queue(h);
    Queue q = the_extra_queue(h);
    Message msg;
    for (int i = 0; i < 2; ++i) {
        CHECK(q.get(msg, h.wait) == Status::ok);
        done_with(h, msg);
    }
}
inline void shuts_down(Hand& h) {
    CHECK(the_extra_queue(h).shut_down(false, h.wait) == Status::ok);
}
inline void gets_the_last(Hand& h) {
    Queue q = the_extra_queue(h);
    Message msg;
    CHECK(q.get(msg, h.wait) == Status::ok && number_of(h, msg) == 2);
    done_with(h, msg);
    WaitPolicy now(0);
    const Status s = q.get(msg, now);
    CHECK(s == Status::would_block || s == Status::timed_out || s == Status::shut_down);
}

}  // namespace onecopy::interleave

#endif
