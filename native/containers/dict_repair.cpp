// What the next owner of a dict's lock rebuilds, and what `validate` checks.
#include <algorithm>

#include "containers/dict.hpp"

namespace onecopy {

Status Dict::rebuild() {
    if (Status s = find_buckets(); s != Status::ok) return s;
    const u32 all = capacity();
    UnboundedWait wait;
    struct Entry {
        u64 ordinal;
        u32 slot;
    };
    std::vector<Entry> entries;
    std::vector<bool> used(all, false);
    for (u32 slot = 0; slot < all; ++slot) {
        if (cell(slot).load_relaxed() == 0) {
            // Freed at once: the heap lock may be taken under this one.
            Dropped dropped(*m_, wait);
            empty(cell(slot, kKey), dropped);
            continue;
        }
        if (DictKey key; !key_of(slot, key)) return broken();
        used[slot] = true;
        entries.push_back({entry(slot).ordinal.load_relaxed(), slot});
    }
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.ordinal < b.ordinal; });
    if (!entries.empty() && main_.data == nullptr)
        return broken();  // the buckets are made before the first entry
    rebuild_free(used);
    ContainerTable& t = table();
    static constexpr char kZeros[4096] = {};
    for (u64 at = 0; at < main_.length; at += sizeof kZeros)
        copy_in(main_.data + at, kZeros, std::min<u64>(sizeof kZeros, main_.length - at));
    t.first.store_relaxed(0);
    t.last.store_relaxed(0);
    t.count.store_relaxed(0);
    t.ordinal.store_relaxed(entries.empty() ? 0 : entries.back().ordinal + 1);
    u32 last = 0;
    for (const Entry& e : entries) {
        link_last(e.slot, last);
        last = e.slot + 1;
    }
    return m_->corrupt() ? Status::corrupt : Status::ok;
}

void Dict::repair(Member& m, u32 index, WaitPolicy& p) noexcept {
    const Handle handle = handle_of(m, index);
    const Kept kept(m, handle);
    Dict dict;
    if (kept && open(m, handle, dict) == Status::ok) const Inside in(dict, p, Inside::kPass);
}

u64 Dict::layout() noexcept {
    return fold_layouts({kShape.layout(), DictRecord::layout()});
}

std::vector<std::string> Dict::validate(Member& m, u32 index) {
    return check_inside<Dict>(m, index, "dict", [](Dict& dict, Problems& say) {
        if (dict.find_buckets() != Status::ok) return say("its buckets cannot be read");
        const u32 all = dict.capacity();
        std::vector<bool> used(all, false);
        u32 entries = 0;
        for (u32 slot = 0; slot < all; ++slot) {
            if (dict.cell(slot).load_relaxed() == 0) continue;
            used[slot] = true;
            ++entries;
            DictKey key;
            if (!dict.key_of(slot, key)) {
                say("a key is damaged");
                continue;
            }
            const u64 hash = dict.hash_of(key.bytes, key.canonical);
            if (hash != dict.entry(slot).hash.load_relaxed()) say("a hash does not fit its key");
            Found at;
            if (dict.find(key, hash, at) != Status::ok || at.slot != slot)
                say("a key is not found");
        }
        dict.check_free(used, say);
        ContainerTable& t = dict.table();
        if (t.count.load_relaxed() != entries) say("its entries are miscounted");
        u32 steps = 0, before = 0;
        u64 ordinal = 0;
        for (u32 link = t.first.load_relaxed(); link != 0;
             link = dict.entry(link - 1).after.load_relaxed()) {
            if (++steps > entries || !dict.link_is_sound(link) || !used[link - 1] ||
                dict.entry(link - 1).before.load_relaxed() != before ||
                dict.entry(link - 1).ordinal.load_relaxed() < ordinal) {
                say("its order has a wrong link");
                break;
            }
            before = link;
            ordinal = dict.entry(link - 1).ordinal.load_relaxed() + 1;
        }
        if (steps != entries || t.last.load_relaxed() != before ||
            t.ordinal.load_relaxed() < ordinal)
            say("its order does not have all entries");
    });
}

}  // namespace onecopy
