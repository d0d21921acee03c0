// The operations of lists and dicts, for the crash campaign. Their contents are as before, or as
// after: `State::content`. Some operations have states in between (kInBetween): of those nothing
// else is compared.
#pragma once
#include "tests/crash_operations.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::campaign {

inline List the_list(Hand& h) {
    List list;
    CHECK(List::open(h.m, ledger().extra, list) == Status::ok);
    return list;
}
inline Dict the_dict(Hand& h) {
    Dict dict;
    CHECK(Dict::open(h.m, ledger().extra, dict) == Status::ok);
    return dict;
}

inline std::vector<Handle> some_numbered(Hand& h, u64 from, u32 n) {
    std::vector<Handle> all;
    for (u32 i = 0; i < n; ++i)
        all.push_back(numbered(h.m, from + i, h.wait));
    return all;
}
inline void extend_list(Hand& h, List& list, u64 from, u32 n) {
    const auto items = some_numbered(h, from, n);
    CHECK(list.extend(items.data(), n, h.wait) == Status::ok);
    let_all_go(h.m, items, h.wait);
}
template <u32 n>
void list_of(Hand& h) {
    CHECK(List::create(h.m, h.wait, ledger().extra) == Status::ok);
    List list = the_list(h);
    if (n != 0) extend_list(h, list, 1, n);
}
template <u32 n>
void append_some(Hand& h) {
    List list = the_list(h);
    extend_list(h, list, 500, n);
}
inline void full_order(Hand& h) {
    list_of<32>(h);
    append_some<30>(h);
}
inline void emptied_list(Hand& h) {  // to one item, in more chunks than an empty list keeps
    list_of<250>(h);
    CHECK(the_list(h).erase({1, INT64_MAX, 1}, h.wait) == Status::ok);
}
template <std::int64_t start, std::int64_t stop, std::int64_t step, u32 n>
void assign_slice(Hand& h) {
    List list = the_list(h);
    const auto items = some_numbered(h, 600, n);
    u64 selected;
    CHECK(list.assign({start, stop, step}, items.data(), n, h.wait, selected) == Status::ok);
    let_all_go(h.m, items, h.wait);
}
template <std::int64_t start, std::int64_t stop, std::int64_t step>
void erase_slice(Hand& h) {
    CHECK(the_list(h).erase({start, stop, step}, h.wait) == Status::ok);
}
template <std::int64_t index>
void take_item(Hand& h) {
    List list = the_list(h);
    Handle out = 0;
    CHECK(list.get(index, h.wait, out) == Status::ok);
    CHECK(list.erase_if(index, out, h.wait) == Status::ok);
    release_hold(h, handle_index(out));
}
inline void set_an_item(Hand& h) {
    List list = the_list(h);
    const Handle item = numbered(h.m, 700, h.wait);
    CHECK(list.set(2, item, h.wait) == Status::ok);
    release_hold(h, handle_index(item));
}
inline void sort_down(Hand& h) {
    List list = the_list(h);
    std::vector<Handle> all;
    CHECK(list.get({0, INT64_MAX, 1}, h.wait, all) == Status::ok);
    std::vector<u32> from;
    for (u32 i = 0; i < all.size(); ++i)
        from.push_back((i * 3 + 1) % static_cast<u32>(all.size()));
    CHECK(list.reorder(all.data(), from.data(), static_cast<u32>(from.size()), h.wait) ==
          Status::ok);
    CHECK(list.erase_if(0, all[0], h.wait) == Status::stale);
    let_all_go(h.m, all, h.wait);
}
inline void remove_third(Hand& h) {
    List list = the_list(h);
    Handle item = 0;
    CHECK(list.get(2, h.wait, item) == Status::ok && list.erase_if(2, item, h.wait) == Status::ok);
    release_hold(h, handle_index(item));
}

template <u32 number, u32 length, bool only_new = false>
void set_key(Hand& h) {
    Dict dict = the_dict(h);
    const Numbered key(number, length);
    const Handle item = numbered(h.m, number + 10'000, h.wait);
    Handle found = 0;
    CHECK(dict.set(key.key(), item, only_new, h.wait, found) == Status::ok);
    release_hold(h, handle_index(item));
}
template <u32 n>
void dict_of(Hand& h) {
    CHECK(Dict::create(h.m, h.wait, ledger().extra) == Status::ok);
    Dict dict = the_dict(h);
    for (u32 i = 0; i < n; ++i) {
        const Numbered key(i, i % 3 == 2 ? 100 : 20);
        const Handle item = numbered(h.m, i, h.wait);
        Handle found = 0;
        CHECK(dict.set(key.key(), item, false, h.wait, found) == Status::ok);
        release_hold(h, handle_index(item));
    }
}
template <u32 number, u32 length>
void erase_key(Hand& h) {
    Dict dict = the_dict(h);
    const Numbered key(number, length);
    Handle out = 0;
    CHECK(dict.get(key.key(), h.wait, out) == Status::ok && number_in(h.m, out) == number);
    CHECK(dict.erase_if(key.key(), out, false, h.wait) == Status::ok);
    release_hold(h, handle_index(out));
}
inline void emptied_dict(Hand& h) {
    dict_of<250>(h);
    for (u32 i = 1; i < 250; ++i)
        CHECK(the_dict(h).erase(Numbered(i, i % 3 == 2 ? 100 : 20).key(), h.wait) == Status::ok);
}
inline void pop_entry(Hand& h) {
    Dict dict = the_dict(h);
    DictItems out;
    CHECK(dict.last(h.wait, out) == Status::ok && out.values.size() == 1);
    const DictKey key{reinterpret_cast<const unsigned char*>(out.keys.data()), out.lengths[0],
                      out.lengths[0]};
    CHECK(dict.erase_if(key, out.values[0] + 1, true, h.wait) == Status::stale);
    CHECK(dict.erase_if(key, out.values[0], true, h.wait) == Status::ok);
    let_all_go(h.m, out.values, h.wait);
}
inline void hole_in_dict(Hand& h) {
    dict_of<9>(h);
    erase_key<4, 20>(h);
}
template <class Thing>
void lock_and_pass(Hand& h, Thing thing) {
    CHECK(thing.mutex().acquire(h.wait) == Status::ok && thing.pass(h.wait) == Status::ok);
}

inline const Operation kContainerOperations[] = {
    {"list: append", list_of<5>, nothing, append_some<1>},
    {"list: append the first", list_of<0>, nothing, append_some<1>, kInBetween},
    {"list: append into a new chunk", list_of<16>, nothing, append_some<1>, kInBetween},
    {"list: append with a larger order", full_order, nothing, append_some<1>, kInBetween},
    {"list: extend", list_of<5>, nothing, append_some<6>},
    {"list: extend and grow", list_of<5>, nothing, append_some<60>, kInBetween},
    {"list: set", list_of<5>, nothing, set_an_item},
    {"list: pop", list_of<5>, nothing, take_item<-1>},
    {"list: pop the first", list_of<5>, nothing, take_item<0>, kInBetween},
    {"list: insert", list_of<5>, nothing, assign_slice<1, 1, 1, 1>, kInBetween},
    {"list: assign a slice", list_of<9>, nothing, assign_slice<2, 5, 1, 4>, kInBetween},
    {"list: assign to nothing", list_of<9>, nothing, assign_slice<2, 7, 1, 0>, kInBetween},
    {"list: assign every second", list_of<9>, nothing, assign_slice<7, 0, -2, 4>, kInBetween},
    {"list: delete a slice", list_of<9>, nothing, erase_slice<2, 5, 1>, kInBetween},
    {"list: delete every third", list_of<9>, nothing, erase_slice<8, -20, -3>, kInBetween},
    {"list: delete the tail", list_of<9>, nothing, erase_slice<4, 9, 1>},
    {"list: delete the last of many", emptied_list, nothing, take_item<-1>, kInBetween},
    {"list: reverse", list_of<9>, nothing,
     [](Hand& h) { CHECK(the_list(h).reverse(h.wait) == Status::ok); }, kInBetween},
    {"list: sort", list_of<10>, nothing, sort_down, kInBetween},
    {"list: remove", list_of<9>, nothing, remove_third, kInBetween},
    {"list: repeat", list_of<9>, nothing,
     [](Hand& h) { CHECK(the_list(h).repeat(3, h.wait) == Status::ok); }, kInBetween},
    {"list: clear", list_of<20>, nothing,
     [](Hand& h) { CHECK(the_list(h).clear(h.wait) == Status::ok); }, kInBetween},
    {"list: take the lock", list_of<5>, nothing, [](Hand& h) { lock_and_pass(h, the_list(h)); }},
    {"list: make and drop", nothing, nothing,
     [](Hand& h) {
         Handle own;
         List list;
         CHECK(List::create(h.m, h.wait, own) == Status::ok);
         CHECK(List::open(h.m, own, list) == Status::ok);
         extend_list(h, list, 1, 20);
         release_hold(h, handle_index(own));
     }},
    {"dict: set", dict_of<5>, nothing, set_key<50, 20>},
    {"dict: set, long key", dict_of<5>, nothing, set_key<50, 200>},
    {"dict: set the first", dict_of<0>, nothing, set_key<50, 20>, kInBetween},
    {"dict: set and grow", dict_of<16>, nothing, set_key<50, 90>, kInBetween},
    {"dict: set in a freed slot", hole_in_dict, nothing, set_key<50, 20>},
    {"dict: set again", dict_of<5>, nothing, set_key<3, 20>},
    {"dict: setdefault", dict_of<5>, nothing, set_key<50, 20, true>},
    {"dict: delete", dict_of<9>, nothing, erase_key<3, 20>},
    {"dict: delete, long key", dict_of<9>, nothing, erase_key<5, 100>},
    {"dict: delete the last of many", emptied_dict, nothing, erase_key<0, 20>, kInBetween},
    {"dict: popitem", dict_of<9>, nothing, pop_entry},
    {"dict: clear", dict_of<20>, nothing,
     [](Hand& h) { CHECK(the_dict(h).clear(h.wait) == Status::ok); }, kInBetween},
    {"dict: take the lock", dict_of<5>, nothing, [](Hand& h) { lock_and_pass(h, the_dict(h)); }},
    {"dict: make and drop", nothing, nothing,
     [](Hand& h) {
         Handle own, found;
         Dict dict;
         CHECK(Dict::create(h.m, h.wait, own) == Status::ok);
         CHECK(Dict::open(h.m, own, dict) == Status::ok);
         const Handle item = numbered(h.m, 1, h.wait);
         for (u32 length : {20u, 90u})
             CHECK(dict.set(Numbered(1, length).key(), item, false, h.wait, found) == Status::ok);
         release_hold(h, handle_index(item));
         release_hold(h, handle_index(own));
     }},
};

}  // namespace onecopy::campaign
#endif
