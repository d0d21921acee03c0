// Names: (kind, name) -> handle. One lock; hash chains are derived.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "heap/heap.hpp"

namespace onecopy::directory {

void format(Member& m) noexcept;  // on a fresh segment
// Holds the block for the caller. ok, no_entry, ...
Status find(Member& m, NameKind kind, std::string_view name, WaitPolicy& p, Handle& out) noexcept;
// Sets or replaces; the caller holds `value`. `only_new`: exists, and `found` is the held handle of
// what is there. bad_argument: name empty or longer than 200 bytes.
Status set(Member& m, NameKind kind, std::string_view name, Handle value, bool only_new,
           WaitPolicy& p, Handle& found) noexcept;
// ok, no_entry. Whoever has the thing goes on using it; its memory is given back by the last one.
Status erase(Member& m, NameKind kind, std::string_view name, WaitPolicy& p) noexcept;

using KindSet = u32;  // bit k: NameKind k
constexpr KindSet kinds(NameKind kind) noexcept {
    return KindSet{1} << static_cast<u32>(kind);
}
// Of all these kinds, under one hold of the lock: nobody finds one and not the other. A death in
// between leaves those of the higher numbers. `erased`: which there were.
Status erase(Member& m, KindSet which, std::string_view name, WaitPolicy& p,
             KindSet& erased) noexcept;
// Takes away the name, or (empty) all names, of that kind whose blocks nobody has: no process, no
// message, no container. `erased`: how many. A dead process has what it had until it is cleaned up.
Status erase_unused(Member& m, NameKind kind, std::string_view name, WaitPolicy& p,
                    u32& erased) noexcept;

struct Item {
    std::string name;
    NameKind kind;
    Handle value;
    u64 ordinal;
};
Status list(Member& m, WaitPolicy& p, std::vector<Item>& out);  // in order of insertion
u32 count(Member& m, NameKind kind) noexcept;
std::vector<std::string> validate(Member& m);

}  // namespace onecopy::directory
