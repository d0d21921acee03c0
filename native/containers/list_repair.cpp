// What the next owner of a list's lock rebuilds, and what `validate` checks.
#include <algorithm>

#include "containers/list.hpp"

namespace onecopy {

Status List::rebuild() {
    UnboundedWait wait;
    u64 count = 0;
    if (Status s = find_order(count); s != Status::ok) return s;
    const u32 all = capacity();
    std::vector<bool> used(all, false);
    for (u64 i = 0; i < count; ++i) {
        const u32 slot = order()[i].load_relaxed();
        if (slot >= all || used[slot] || cell(slot).load_relaxed() == 0) return broken();
        used[slot] = true;
    }
    for (u32 slot = 0; slot < all; ++slot) {
        // Freed at once: the heap lock may be taken under this one.
        if (Dropped dropped(*m_, wait); !used[slot]) empty(cell(slot), dropped);
    }
    rebuild_free(used);
    return m_->corrupt() ? Status::corrupt : Status::ok;
}

void List::repair(Member& m, u32 index, WaitPolicy& p) noexcept {
    const Handle handle = handle_of(m, index);
    const Kept kept(m, handle);
    List list;
    if (kept && open(m, handle, list) == Status::ok) const Inside in(list, p, Inside::kPass);
}

u64 List::layout() noexcept {
    return fold_layouts({kShape.layout(), kOrderHead});
}

std::vector<std::string> List::validate(Member& m, u32 index) {
    return check_inside<List>(m, index, "list", [](List& list, Problems& say) {
        u64 count = 0;
        if (list.find_order(count) != Status::ok) return say("its order cannot be read");
        const u32 all = list.capacity();
        std::vector<bool> used(all, false);
        for (u64 i = 0; i < count; ++i) {
            const u32 slot = list.order()[i].load_relaxed();
            if (slot >= all || used[slot]) {
                say("its order names no slot of it, or one twice");
                break;
            }
            used[slot] = true;
            if (list.cell(slot).load_relaxed() == 0) say("an item is missing");
        }
        list.check_free(used, say);
    });
}

}  // namespace onecopy
