// Names: (kind, name) -> handle. One lock; hash chains are derived.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "heap/heap.hpp"

namespace onecopy::directory {

void format(Member& m) noexcept;  // on a fresh segment
// Holds the block for the caller. ok, no_entry, ...
Status find(Member& m, NameKind kind, std::string_view name, Patience& p, Handle& out) noexcept;
// Sets or replaces; the caller holds `value`. `only_new`: exists, and `found` is the held handle of
// what is there. bad_argument: name empty or longer than 200 bytes.
Status set(Member& m, NameKind kind, std::string_view name, Handle value, bool only_new,
           Patience& p, Handle& found) noexcept;
Status erase(Member& m, NameKind kind, std::string_view name, Patience& p) noexcept;
struct Item {
    std::string name;
    NameKind kind;
    Handle value;
    u64 ordinal;
};
Status list(Member& m, Patience& p, std::vector<Item>& out);  // in order of insertion
u32 count(Member& m, NameKind kind) noexcept;
std::vector<std::string> validate(Member& m);

}  // namespace onecopy::directory
