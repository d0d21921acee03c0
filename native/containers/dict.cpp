#include "containers/dict.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

namespace onecopy {

const Container::Shape Dict::kShape = {.body = BodyKind::dict,
                                       .table = BodyKind::dict_table,
                                       .main = BodyKind::dict_buckets,
                                       .chunk = BodyKind::dict_chunk,
                                       .cells = 2,
                                       .record = sizeof(DictRecord),
                                       .next = offsetof(DictRecord, next)};

Dict::Dict() noexcept : Container(kShape) {}

namespace {

enum Cell : u32 { kValue = 0, kKey = 1 };
constexpr u32 kFewestBuckets = 16, kMostBuckets = 1u << 30;

u64 fold(u64 a, u64 b) noexcept {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<u64>(product) ^ static_cast<u64>(product >> 64);
}

}  // namespace

Status Dict::create(Member& m, Patience& p, Handle& out) noexcept {
    return make(m, kShape, p, out);
}

Status Dict::open(Member& m, Handle h, Dict& out) noexcept {
    const Status s = out.open_as(m, h);
    if (s == Status::ok) out.seed_ = out.b_->seed.load_relaxed();
    return s;
}

// Seeded at random for each dict: whoever chooses the keys does not choose the chains.
u64 Dict::hash_of(const unsigned char* bytes, u32 n) const noexcept {
    u64 h = seed_ ^ n;
    u32 at = 0;
    for (u64 word; n - at >= 8; at += 8) {
        std::memcpy(&word, bytes + at, 8);
        h = fold(h ^ 0x9e3779b97f4a7c15ULL, word ^ 0xd6e8feb86659fd93ULL);
    }
    u64 rest = 0;
    std::memcpy(&rest, bytes + at, n - at);
    return fold(h ^ 0xa0761d6478bd642fULL, rest ^ 0xe7037ed1a0b428dbULL) ^ h;
}

// ---- under the lock ----------------------------------------------------------------------------

Status Dict::find_buckets() noexcept {
    const Handle h = table().main.load_relaxed();
    if (h == 0) {
        main_ = {};
        return Status::ok;
    }
    if (Status s = look_up(main_, h, BodyKind::dict_buckets, kFewestBuckets * sizeof(u32));
        s != Status::ok)
        return s;
    const u64 n = main_.length / sizeof(u32);
    return std::has_single_bit(n) && n <= kMostBuckets ? Status::ok : broken();
}

bool Dict::key_of(u32 slot, DictKey& out) noexcept {
    DictRecord& e = entry(slot);
    const u32 word = e.key.load_relaxed(), length = word & ~kTwoForms;
    out = {e.bytes, length, length};
    if (length > kInlineKey) {
        Part block;
        if (look_up(block, cell(slot, kKey).load_relaxed(), BodyKind::dict_key, length) !=
            Status::ok)
            return false;
        out.bytes = block.data;
    }
    if ((word & kTwoForms) == 0) return length != 0;
    if (length < sizeof(u32)) return false;
    std::memcpy(&out.canonical, out.bytes + length - sizeof(u32), sizeof(u32));
    return out.canonical < length - sizeof(u32);
}

// ok, no_entry, corrupt.
Status Dict::find(const DictKey& key, u64 hash, Found& out) noexcept {
    if (Status s = find_buckets(); s != Status::ok) return s;
    if (main_.data == nullptr) return Status::no_entry;
    const u32 top = table().top.load_relaxed();
    u32 before = kNil;
    u32 link = bucket(hash).load_relaxed();
    for (u32 steps = 0; link != 0; ++steps) {
        const u32 slot = link - 1;
        if (slot >= top || steps >= top || !exists(slot)) return broken();  // outside, or a ring
        DictRecord& e = entry(slot);
        if (e.hash.load_relaxed() == hash) {
            DictKey its;
            if (cell(slot).load_relaxed() == 0 || !key_of(slot, its)) return broken();
            if (its.canonical == key.canonical &&
                std::memcmp(its.bytes, key.bytes, key.canonical) == 0) {
                out = {slot, before};
                return Status::ok;
            }
        }
        before = slot;
        link = e.next.load_relaxed();
    }
    return Status::no_entry;
}

bool Dict::link_is_sound(u32 link) noexcept {
    return link == 0 || (link <= table().top.load_relaxed() && exists(link - 1));
}

void Dict::link_last(u32 slot) noexcept {
    ContainerTable& t = table();
    DictRecord& e = entry(slot);
    const u32 last = t.last.load_relaxed();
    e.before.store_relaxed(last);
    e.after.store_relaxed(0);
    (last == 0 ? t.first : entry(last - 1).after).store_relaxed(slot + 1);
    t.last.store_relaxed(slot + 1);
    shm_atomic<u32>& head = bucket(e.hash.load_relaxed());
    e.next.store_relaxed(head.load_relaxed());
    head.store_relaxed(slot + 1);
    t.count.store_relaxed(t.count.load_relaxed() + 1);
}

// The links around it have been checked.
void Dict::unlink(u32 slot, u32 before) noexcept {
    ContainerTable& t = table();
    DictRecord& e = entry(slot);
    const u32 left = e.before.load_relaxed(), right = e.after.load_relaxed();
    (left == 0 ? t.first : entry(left - 1).after).store_relaxed(right);
    (right == 0 ? t.last : entry(right - 1).before).store_relaxed(left);
    (before == kNil ? bucket(e.hash.load_relaxed()) : entry(before).next)
        .store_relaxed(e.next.load_relaxed());
    t.count.store_relaxed(t.count.load_relaxed() - 1);
}

Status Dict::remove(const Found& at, Dropped& dropped) noexcept {
    DictRecord& e = entry(at.slot);
    if (!link_is_sound(e.before.load_relaxed()) || !link_is_sound(e.after.load_relaxed()))
        return broken();
    const Handle old = cell(at.slot).load_relaxed();
    const Status s = swap_cell(*m_, cell(at.slot), old, 0);  // COMMIT
    if (s != Status::ok) return s;
    dropped.add(old);
    empty(cell(at.slot, kKey), dropped);
    unlink(at.slot, at.before);
    give_slot(at.slot);
    return Status::ok;
}

// Buckets that nobody sees yet, and are zero; the chains that are there now come apart.
Status Dict::relink_into(shm_atomic<u32>* fresh, u32 count) noexcept {
    const u32 top = table().top.load_relaxed();
    if (top != 0 && !exists(top - 1)) return broken();
    for (u32 slot = 0; slot < top; ++slot) {
        if (cell(slot).load_relaxed() == 0) continue;
        DictRecord& e = entry(slot);
        const u64 hash = e.hash.load_relaxed();
        shm_atomic<u32>& head = fresh[(hash ^ hash >> 32) & (count - 1)];
        e.next.store_relaxed(head.load_relaxed());
        head.store_relaxed(slot + 1);
    }
    return Status::ok;
}

Status Dict::add_item(u32 slot, bool keys, bool values, DictItems& out) noexcept {
    if (keys) {
        DictKey key;
        // Each has its own memory: together they are no longer than the pool, unless it lies.
        if (!key_of(slot, key) || out.keys.size() + key.length > m_->geo().capacity)
            return broken();
        out.keys.append(reinterpret_cast<const char*>(key.bytes), key.length);
        out.lengths.push_back(key.length | (key.length != key.canonical ? kTwoForms : 0));
    }
    if (values) {
        Handle value = 0;
        if (Status s = hold_value(cell(slot).load_relaxed(), value); s != Status::ok) return s;
        out.values.push_back(value);
    }
    return Status::ok;
}

// ---- operations --------------------------------------------------------------------------------

Status Dict::size(Patience& p, u64& out) noexcept {
    Inside in(*this, p);
    if (in.status == Status::ok) out = table().count.load_relaxed();
    return in.status;
}

Status Dict::get(const DictKey& key, Patience& p, Handle& out) noexcept {
    const u64 hash = hash_of(key.bytes, key.canonical);
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    Found at;
    if (Status s = find(key, hash, at); s != Status::ok) return s;
    return hold_value(cell(at.slot).load_relaxed(), out);
}

Status Dict::contains(const DictKey& key, Patience& p) noexcept {
    const u64 hash = hash_of(key.bytes, key.canonical);
    Inside in(*this, p);
    Found at;
    return in.status == Status::ok ? find(key, hash, at) : in.status;
}

Status Dict::set(const DictKey& key, Handle value, bool only_new, Patience& p,
                 Handle& found) noexcept {
    const u64 hash = hash_of(key.bytes, key.canonical);
    const bool is_long = key.length > kInlineKey;
    Spare chunk(*m_, p), fresh_buckets(*m_, p), long_key(*m_, p);
    u32 chunk_number = kNil;
    for (;;) {
        // What has to be allocated is found out under the lock, and fetched outside of it.
        u32 want_chunk = kNil, want_buckets = 0;
        {
            Dropped dropped(*m_, p);
            Inside in(*this, p);
            if (in.status != Status::ok) return in.status;
            Found at;
            Status s = find(key, hash, at);
            if (s == Status::ok) {
                const Handle old = cell(at.slot).load_relaxed();
                if (only_new) {
                    s = hold_value(old, found);
                    return s == Status::ok ? Status::exists : s;
                }
                s = swap_cell(*m_, cell(at.slot), old, value);  // COMMIT
                if (s == Status::ok) dropped.add(old);
                return s;
            }
            if (s != Status::no_entry) return s;

            ContainerTable& t = table();
            const u32 have = main_.data == nullptr ? 0 : bucket_count();
            if (t.count.load_relaxed() >= have && have < kMostBuckets) {
                const u32 more = have == 0 ? kFewestBuckets : have * 2;
                if (!fresh_buckets || fresh_buckets.bytes() != u64{more} * sizeof(u32)) {
                    want_buckets = more;
                } else {
                    // A death in between is repaired with whatever buckets are in place then.
                    s = relink_into(reinterpret_cast<shm_atomic<u32>*>(fresh_buckets.data()), more);
                    const Handle old = t.main.load_relaxed();
                    if (s == Status::ok) s = swap_cell(*m_, t.main, old, fresh_buckets.handle());
                    if (s != Status::ok) return s;
                    if (old != 0) dropped.add(old);
                    if (s = find_buckets(); s != Status::ok) return s;
                }
            }
            if (!room_for(1)) {
                const u32 next = next_chunk();
                if (next >= kChunks) return m_->corrupt() ? Status::corrupt : Status::table_full;
                if (chunk && chunk_number == next) {
                    if (s = add_chunk(chunk, next); s != Status::ok) return s;
                } else {
                    want_chunk = next;
                }
            }
            if (want_chunk == kNil && want_buckets == 0 && (!is_long || long_key)) {
                const u32 last = t.last.load_relaxed();
                if (!link_is_sound(last)) return broken();
                u32 slot = 0;
                if (s = take_slot(slot); s != Status::ok) return s;
                DictRecord& e = entry(slot);
                const u64 ordinal = t.ordinal.load_relaxed();
                t.ordinal.store_relaxed(ordinal + 1);
                e.hash.store_relaxed(hash);
                e.ordinal.store_relaxed(ordinal);
                e.key.store_relaxed(key.length | (key.length != key.canonical ? kTwoForms : 0));
                if (is_long) {
                    s = swap_cell(*m_, cell(slot, kKey), 0, long_key.handle());
                } else {
                    copy_in(e.bytes, key.bytes, key.length);
                }
                if (s == Status::ok || s == Status::no_entry)
                    s = swap_cell(*m_, cell(slot), 0, value);  // COMMIT
                if (s != Status::ok) {
                    empty(cell(slot, kKey), dropped);
                    give_slot(slot);
                    return s;
                }
                link_last(slot);
                return Status::ok;
            }
        }
        Status s = Status::ok;
        if (want_chunk != kNil) {
            s = get_chunk(chunk, want_chunk);
            chunk_number = want_chunk;
        }
        if (s == Status::ok && want_buckets != 0)
            s = fresh_buckets.get(u64{want_buckets} * sizeof(u32), BodyKind::dict_buckets, true);
        if (s == Status::ok && is_long && !long_key) {
            s = long_key.get(key.length, BodyKind::dict_key, false);
            if (s == Status::ok) copy_in(long_key.data(), key.bytes, key.length);
        }
        if (s != Status::ok) return s;
    }
}

Status Dict::erase(const DictKey& key, Patience& p, Handle* out) noexcept {
    const u64 hash = hash_of(key.bytes, key.canonical);
    Dropped dropped(*m_, p);
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    Found at;
    if (Status s = find(key, hash, at); s != Status::ok) return s;
    if (out != nullptr) {
        if (Status s = hold_value(cell(at.slot).load_relaxed(), *out); s != Status::ok) return s;
    }
    return remove(at, dropped);
}

Status Dict::take_last(Patience& p, DictItems& out) noexcept {
    Dropped dropped(*m_, p);
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    const u32 last = table().last.load_relaxed();
    if (last == 0) return Status::no_entry;
    if (!link_is_sound(last)) return broken();
    DictKey key;
    if (!key_of(last - 1, key)) return broken();
    Found at;
    Status s = find(key, hash_of(key.bytes, key.canonical), at);
    if (s != Status::ok || at.slot != last - 1) return broken();
    s = add_item(at.slot, true, true, out);
    return s == Status::ok ? remove(at, dropped) : s;
}

Status Dict::items(bool keys, bool values, Patience& p, DictItems& out) noexcept {
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    const u32 top = table().top.load_relaxed();
    u32 steps = 0;
    for (u32 link = table().first.load_relaxed(); link != 0;
         link = entry(link - 1).after.load_relaxed()) {
        if (++steps > top || !link_is_sound(link)) return broken();
        if (Status s = add_item(link - 1, keys, values, out); s != Status::ok) return s;
    }
    return Status::ok;
}

// ---- after a death, and for validate -----------------------------------------------------------

Status Dict::rebuild() noexcept {
    if (Status s = find_buckets(); s != Status::ok) return s;
    const u32 all = capacity();
    Stubborn wait;
    struct Entry {
        u64 ordinal;
        u32 slot;
    };
    std::vector<Entry> entries;
    std::vector<bool> used(all, false);
    for (u32 slot = 0; slot < all; ++slot) {
        if (cell(slot).load_relaxed() == 0) {
            // Freed right here: the heap's lock may be taken under this one.
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
        return broken();  // they come before the first entry
    rebuild_free(used);
    ContainerTable& t = table();
    static constexpr char kZeros[4096] = {};
    for (u64 at = 0; at < main_.length; at += sizeof kZeros)
        copy_in(main_.data + at, kZeros, std::min<u64>(sizeof kZeros, main_.length - at));
    t.first.store_relaxed(0);
    t.last.store_relaxed(0);
    t.count.store_relaxed(0);
    t.ordinal.store_relaxed(entries.empty() ? 0 : entries.back().ordinal + 1);
    for (const Entry& e : entries)
        link_last(e.slot);
    return m_->corrupt() ? Status::corrupt : Status::ok;
}

std::vector<std::string> Dict::validate(Member& m, u32 index) {
    const std::string who = "dict " + std::to_string(index) + ": ";
    std::vector<std::string> wrong;
    auto say = [&](const char* what) {
        if (wrong.size() < 20) wrong.push_back(who + what);
    };
    Dict dict;
    if (open(m, handle_of(m, index), dict) != Status::ok)
        return {who + "its fixed fields make no sense"};
    Patience p(os::monotonic_ns() + 5'000'000'000);
    Inside in(dict, p, Inside::kPass);
    if (in.status != Status::ok)
        return {who + "it cannot be looked into, status " +
                std::to_string(static_cast<int>(in.status))};
    if (dict.find_buckets() != Status::ok) return {who + "its buckets make no sense"};
    const u32 all = dict.capacity();
    std::vector<bool> used(all, false);
    u32 entries = 0;
    for (u32 slot = 0; slot < all; ++slot) {
        if (dict.cell(slot).load_relaxed() == 0) continue;
        used[slot] = true;
        ++entries;
        DictKey key;
        if (!dict.key_of(slot, key)) {
            say("a key makes no sense");
            continue;
        }
        const u64 hash = dict.hash_of(key.bytes, key.canonical);
        if (hash != dict.entry(slot).hash.load_relaxed()) say("a hash does not fit its key");
        Found at;
        if (dict.find(key, hash, at) != Status::ok || at.slot != slot) say("a key is not found");
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
            say("its order leads astray");
            break;
        }
        before = link;
        ordinal = dict.entry(link - 1).ordinal.load_relaxed() + 1;
    }
    if (steps != entries || t.last.load_relaxed() != before || t.ordinal.load_relaxed() < ordinal)
        say("its order is not whole");
    return wrong;
}

}  // namespace onecopy
