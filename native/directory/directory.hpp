// Names: (kind, name) -> handle. One lock. Hash chains are derived.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "heap/heap.hpp"

namespace onecopy::directory {

void format(Member& m) noexcept;  // in a fresh pool
// Holds the block for the caller. ok, no_entry, ...
Status find(Member& m, NameKind kind, std::string_view name, WaitPolicy& p, Handle& out) noexcept;
// Sets or replaces. The caller holds `value`. exists: `only_new`, and the name is there; `found` is
// its handle, held. bad_argument: the name is empty or longer than 200 bytes.
Status set(Member& m, NameKind kind, std::string_view name, Handle value, bool only_new,
           WaitPolicy& p, Handle& found) noexcept;
// ok, no_entry. Processes that have the thing keep it. The last one gives its memory back.
Status erase(Member& m, NameKind kind, std::string_view name, WaitPolicy& p) noexcept;

using KindSet = u32;  // bit k: NameKind k
constexpr KindSet kinds(NameKind kind) noexcept {
    return KindSet{1} << static_cast<u32>(kind);
}
// Removes the names of all these kinds under one lock, so no process finds only some of them.
// A death in between leaves those of higher numbers. `erased`: the kinds that had this name.
Status erase(Member& m, KindSet which, std::string_view name, WaitPolicy& p,
             KindSet& erased) noexcept;
// Takes away the name of that kind if nothing else has its block: no process, no message, no
// container. An empty name: all such names. `erased`: how many. A dead process keeps what it had
// until it is cleaned up.
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
