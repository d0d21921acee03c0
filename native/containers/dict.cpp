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

constexpr u32 kFewestBuckets = 16, kMostBuckets = 1u << 30;

// SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012; one round for each
// word, three at the end).
class SipHash {
  public:
    SipHash(u64 k0, u64 k1) noexcept
        : a_(k0 ^ 0x736f6d6570736575ULL),
          b_(k1 ^ 0x646f72616e646f6dULL),
          c_(k0 ^ 0x6c7967656e657261ULL),
          d_(k1 ^ 0x7465646279746573ULL) {}

    u64 of(const unsigned char* bytes, u32 n) noexcept {
        u32 at = 0;
        for (u64 word; n - at >= 8; at += 8) {
            std::memcpy(&word, bytes + at, 8);
            add(word);
        }
        u64 rest = u64{n} << 56;
        for (u32 i = 0; i < n - at; ++i)
            rest |= u64{bytes[at + i]} << 8 * i;
        add(rest);
        c_ ^= 0xff;
        for (int i = 0; i < 3; ++i)
            round();
        return a_ ^ b_ ^ c_ ^ d_;
    }

  private:
    void add(u64 word) noexcept {
        d_ ^= word;
        round();
        a_ ^= word;
    }
    void round() noexcept {
        a_ += b_;
        b_ = std::rotl(b_, 13) ^ a_;
        a_ = std::rotl(a_, 32);
        c_ += d_;
        d_ = std::rotl(d_, 16) ^ c_;
        a_ += d_;
        d_ = std::rotl(d_, 21) ^ a_;
        c_ += b_;
        b_ = std::rotl(b_, 17) ^ c_;
        c_ = std::rotl(c_, 32);
    }
    u64 a_, b_, c_, d_;
};

}  // namespace

Status Dict::create(Member& m, WaitPolicy& p, Handle& out) noexcept {
    return make(m, kShape, p, out);
}

Status Dict::open(Member& m, Handle h, Dict& out) noexcept {
    const Status s = out.open_as(m, h);
    for (u32 i = 0; i < 2 && s == Status::ok; ++i)
        out.seeds_[i] = out.b_->seeds[i].load_relaxed();
    return s;
}

// With random seeds for each dict: a process that chooses the keys cannot choose the chains.
u64 Dict::hash_of(const unsigned char* bytes, u32 n) const noexcept {
    return SipHash(seeds_[0], seeds_[1]).of(bytes, n);
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
        if (slot >= top || steps >= top || !exists(slot))
            return broken();  // outside of the table, or a ring
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

// `last` is the link of the entry that was the last so far. The caller has checked it.
void Dict::link_last(u32 slot, u32 last) noexcept {
    ContainerTable& t = table();
    DictRecord& e = entry(slot);
    e.before.store_relaxed(last);
    e.after.store_relaxed(0);
    (last == 0 ? t.first : entry(last - 1).after).store_relaxed(slot + 1);
    t.last.store_relaxed(slot + 1);
    shm_atomic<u32>& head = bucket(e.hash.load_relaxed());
    e.next.store_relaxed(head.load_relaxed());
    head.store_relaxed(slot + 1);
    t.count.store_relaxed(t.count.load_relaxed() + 1);
}

// `left` and `right` are the links around it. The caller has checked them.
void Dict::unlink(const Found& at, u32 left, u32 right) noexcept {
    ContainerTable& t = table();
    DictRecord& e = entry(at.slot);
    (left == 0 ? t.first : entry(left - 1).after).store_relaxed(right);
    (right == 0 ? t.last : entry(right - 1).before).store_relaxed(left);
    (at.before == kNil ? bucket(e.hash.load_relaxed()) : entry(at.before).next)
        .store_relaxed(e.next.load_relaxed());
    t.count.store_relaxed(t.count.load_relaxed() - 1);
}

Status Dict::remove(const Found& at, Dropped& dropped, bool& emptied) noexcept {
    DictRecord& e = entry(at.slot);
    const u32 left = e.before.load_relaxed(), right = e.after.load_relaxed();
    if (!link_is_sound(left) || !link_is_sound(right)) return broken();
    const Handle old = cell(at.slot).load_relaxed();
    const Status s = swap_cell(*m_, cell(at.slot), old, 0);  // COMMIT
    if (s != Status::ok) return s;
    dropped.add(old);
    empty(cell(at.slot, kKey), dropped);
    unlink(at, left, right);
    give_slot(at.slot);
    emptied = table().count.load_relaxed() == 0 && has_many_chunks();
    return Status::ok;
}

// Links all entries into fresh buckets, which are not published yet and which are zero. The chains
// of the present buckets come apart.
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

// There is room to note it before it is held.
Status Dict::add_value(u32 slot, std::vector<Handle>& out) {
    out.push_back(0);
    const Status s = hold_value(cell(slot).load_relaxed(), out.back());
    if (s != Status::ok) out.pop_back();
    return s;
}

Status Dict::add_item(u32 slot, bool keys, bool values, DictItems& out) {
    if (keys) {
        DictKey key;
        // Each key has its own memory: together they are no longer than the pool, unless it lies.
        if (!key_of(slot, key) || out.keys.size() + key.length > m_->geo().capacity)
            return broken();
        out.keys.append(reinterpret_cast<const char*>(key.bytes), key.length);
        out.lengths.push_back(key.length | (key.length != key.canonical ? kTwoForms : 0));
    }
    return values ? add_value(slot, out.values) : Status::ok;
}

// ---- operations --------------------------------------------------------------------------------

Status Dict::size(WaitPolicy& p, u64& out) noexcept {
    Inside in(*this, p);
    if (in.status == Status::ok) out = table().count.load_relaxed();
    return in.status;
}

Status Dict::get(const DictKey& key, WaitPolicy& p, Handle& out) noexcept {
    const u64 hash = hash_of(key.bytes, key.canonical);
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    Found at;
    if (Status s = find(key, hash, at); s != Status::ok) return s;
    return hold_value(cell(at.slot).load_relaxed(), out);
}

Status Dict::contains(const DictKey& key, WaitPolicy& p) noexcept {
    const u64 hash = hash_of(key.bytes, key.canonical);
    Inside in(*this, p);
    Found at;
    return in.status == Status::ok ? find(key, hash, at) : in.status;
}

Status Dict::set(const DictKey& key, Handle value, bool only_new, WaitPolicy& p,
                 Handle& found) noexcept {
    const u64 hash = hash_of(key.bytes, key.canonical);
    const bool is_long = key.length > kInlineKey;
    Spare chunk(*m_, p), fresh_buckets(*m_, p), long_key(*m_, p);
    u32 chunk_number = kNil;
    for (;;) {
        // Under the lock it finds out what has to be allocated. It allocates outside of the lock.
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
                    // After a death in between, the repair uses the buckets that are in place then.
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
                link_last(slot, last);
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

Status Dict::erase(const DictKey& key, WaitPolicy& p) noexcept {
    const Status s = erase_if(key, 0, false, p);
    return s == Status::stale ? Status::no_entry : s;
}

// `only`: the value that the key must have; 0: any. The caller holds it, so its handle cannot mean
// another block by now.
Status Dict::erase_if(const DictKey& key, Handle only, bool last, WaitPolicy& p) noexcept {
    const u64 hash = hash_of(key.bytes, key.canonical);
    bool emptied = false;
    const Status done = [&] {
        Dropped dropped(*m_, p);
        Inside in(*this, p);
        if (in.status != Status::ok) return in.status;
        Found at;
        const Status s = find(key, hash, at);
        if (s != Status::ok) return s == Status::no_entry ? Status::stale : s;
        if (only != 0 && cell(at.slot).load_relaxed() != only) return Status::stale;
        if (last && table().last.load_relaxed() != at.slot + 1) return Status::stale;
        return remove(at, dropped, emptied);
    }();
    if (emptied) tidy(p);
    return done;
}

Status Dict::last(WaitPolicy& p, DictItems& out) noexcept {
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    const u32 last = table().last.load_relaxed();
    if (last == 0) return Status::no_entry;
    if (!link_is_sound(last)) return broken();
    return within_memory([&] { return add_item(last - 1, true, true, out); });
}

Status Dict::items(bool keys, bool values, WaitPolicy& p, DictItems& out) noexcept {
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    return within_memory([&] {
        const u32 top = table().top.load_relaxed();
        u32 steps = 0;
        for (u32 link = table().first.load_relaxed(); link != 0;
             link = entry(link - 1).after.load_relaxed()) {
            if (++steps > top || !link_is_sound(link)) return broken();
            if (Status s = add_item(link - 1, keys, values, out); s != Status::ok) return s;
        }
        return Status::ok;
    });
}

Status Dict::values(DictCursor& at, u32 most, WaitPolicy& p, std::vector<Handle>& out) noexcept {
    out.clear();
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    u32 link = 0;
    if (at.table == 0) {
        link = table().first.load_relaxed();
    } else {
        // An ordinal is given once, so it is still the same entry.
        if (at.table != table_.handle || !link_is_sound(at.link) ||
            cell(at.link - 1).load_relaxed() == 0 ||
            entry(at.link - 1).ordinal.load_relaxed() != at.ordinal)
            return Status::stale;
        link = entry(at.link - 1).after.load_relaxed();
    }
    return within_memory([&] {
        for (u32 n = 0; link != 0 && n < most; ++n) {
            if (!link_is_sound(link)) return broken();
            const u64 ordinal = entry(link - 1).ordinal.load_relaxed();
            if (at.table != 0 && ordinal <= at.ordinal) return broken();  // a ring
            if (Status s = add_value(link - 1, out); s != Status::ok) return s;
            at = {table_.handle, link, ordinal, false};
            link = entry(link - 1).after.load_relaxed();
        }
        at.at_end = link == 0;
        return Status::ok;
    });
}

Status Dict::is_empty(bool& out) noexcept {
    out = table().count.load_relaxed() == 0;
    return Status::ok;
}

}  // namespace onecopy
