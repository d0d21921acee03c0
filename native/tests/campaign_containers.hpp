// Lists and dicts of numbered blocks, for the crash campaign: a digest of what is in one, and what
// must be possible with it at any time.
#pragma once
#include <cstring>

#include "containers/dict.hpp"
#include "containers/list.hpp"
#include "tests/check.hpp"

namespace onecopy::campaign {

// One operation, when nobody has the users' lock. The lock of a dead owner is taken over.
template <class Thing, class Act>
Status when_free(Thing& thing, WaitPolicy& p, Act act) {
    for (;;) {
        const Status s = act();
        if (s != Status::would_block) return s;
        const Status free = thing.mutex().await(p);
        CHECK(good(free));
        if (free == Status::owner_died) thing.mutex().forget();
    }
}

inline Handle numbered(Member& m, u64 number, WaitPolicy& p) {
    Allocated a;
    CHECK(allocate(m, {.bytes = 500}, p, a) == Status::ok);
    copy_in(a.data, &number, sizeof number);
    return handle_of(m, a.index);
}
inline u64 number_in(Member& m, Handle h) {
    BlockInfo info;
    u64 number;
    CHECK(inspect(m, handle_index(h), info) == Status::ok && info.length == 500);
    std::memcpy(&number, info.data, sizeof number);
    return number;
}
inline void let_all_go(Member& m, const std::vector<Handle>& handles, WaitPolicy& p) {
    for (Handle h : handles)
        drop(m, handle_index(h), p);
}

// A key of `length` bytes.
struct Numbered {
    Numbered(u64 number, u32 length) : text(length, 'k') {
        std::memcpy(text.data(), &number, sizeof number);
    }
    DictKey key() const {
        return {reinterpret_cast<const unsigned char*>(text.data()), static_cast<u32>(text.size()),
                static_cast<u32>(text.size())};
    }
    std::string text;
};

inline u64 digest(Member& m, List& list, WaitPolicy& p) {
    std::vector<Handle> all;
    CHECK(when_free(list, p, [&] { return list.get({0, INT64_MAX, 1}, p, all); }) == Status::ok);
    u64 h = all.size() + 1, n = 0;
    CHECK(list.size(p, n) == Status::ok && n == all.size());
    for (Handle item : all)
        h = h * 1'000'003 + number_in(m, item);
    let_all_go(m, all, p);
    return h;
}

inline u64 digest(Member& m, Dict& dict, WaitPolicy& p) {
    DictItems all;
    CHECK(when_free(dict, p, [&] { return dict.items(true, true, p, all); }) == Status::ok);
    u64 h = all.values.size() + 2, n = 0;
    CHECK(dict.size(p, n) == Status::ok && n == all.values.size());
    std::size_t at = 0;
    for (std::size_t i = 0; i < all.values.size(); ++i) {
        h = h * 1'000'003 + number_in(m, all.values[i]);
        const auto length = all.lengths[i];
        for (char c : std::string_view(all.keys).substr(at, length))
            h = h * 31 + static_cast<unsigned char>(c);
        const auto* bytes = reinterpret_cast<const unsigned char*>(all.keys.data()) + at;
        Handle found = 0;  // and by its key
        CHECK(dict.get({bytes, length, length}, p, found) == Status::ok && found == all.values[i]);
        drop(m, handle_index(found), p);
        at += length;
    }
    let_all_go(m, all.values, p);
    return h;
}

// Leaves the list as it was.
inline void use(Member& m, List& list, WaitPolicy& p) {
    const u64 before = digest(m, list, p);
    for (u64 i = 0; i < 3; ++i) {
        const Handle item = numbered(m, 1000 + i, p);
        CHECK(list.extend(&item, 1, p) == Status::ok);
        drop(m, handle_index(item), p);
    }
    Handle out = 0;
    CHECK(list.get(-2, p, out) == Status::ok && number_in(m, out) == 1001);
    CHECK(list.erase_if(-1, out, p) == Status::stale);
    CHECK(list.erase_if(-2, out, p) == Status::ok);
    drop(m, handle_index(out), p);
    CHECK(list.erase({-2, INT64_MAX, 1}, p) == Status::ok);
    CHECK(digest(m, list, p) == before);
}
inline void use(Member& m, Dict& dict, WaitPolicy& p) {
    const u64 before = digest(m, dict, p);
    for (u32 length : {40u, 90u}) {
        const Numbered key(77'000, length);
        const Handle item = numbered(m, 5, p);
        Handle found = 0;
        for (int i = 0; i < 2; ++i)
            CHECK(dict.set(key.key(), item, false, p, found) == Status::ok);
        CHECK(dict.set(key.key(), item, true, p, found) == Status::exists && found == item);
        drop(m, handle_index(found), p);
        drop(m, handle_index(item), p);
        CHECK(dict.erase(key.key(), p) == Status::ok);
        CHECK(dict.contains(key.key(), p) == Status::no_entry);
    }
    CHECK(digest(m, dict, p) == before);
}

}  // namespace onecopy::campaign
