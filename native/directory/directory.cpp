#include "directory/directory.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "os/memory.hpp"

namespace onecopy::directory {
namespace {

// Links (buckets, next, free_names) are index+1; 0 ends a chain. So a pool full of zeros is an
// empty directory.
constexpr u32 kReserveStep = 256;  // entries: 64 KiB at a time

shm_atomic<u32>& bucket(Member& m, u64 hash) noexcept {
    return reinterpret_cast<shm_atomic<u32>*>(
        m.base + m.geo().buckets_off)[(hash ^ hash >> 32) & (kBuckets - 1)];
}

u64 hash_of(NameKind kind, std::string_view name) noexcept {
    u64 h = (0xcbf29ce484222325ULL ^ static_cast<u64>(kind)) * 0x100000001b3ULL;
    for (char c : name)
        h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return h;
}

Status broken(Member& m) noexcept {
    m.mark_corrupt();
    return Status::corrupt;
}

// How many entries may be looked at: the shared mark, believed only as far as the table and its
// memory reach.
bool bounded_top(Member& m, u32& top) noexcept {
    top = m.header().names_top.load_acquire();  // [pool.names_top]
    // [pool.names_top]
    return top <= m.geo().max_names && top <= m.header().names_reserved.load_acquire();
}

// The name of an entry, where it lies. False: its length is impossible.
bool name_of(NameEntry& e, std::string_view& out) noexcept {
    u32 n = e.name_len.load_relaxed();
    if (n == 0 || n > kNameBytes) return false;
    out = {e.name, n};
    return true;
}

// Makes chains and free list again from the entries. After a death in it, the next owner of the
// lock begins from the top.
bool rebuild(Member& m) noexcept {
    u32 top;
    if (!bounded_top(m, top)) return false;
    static constexpr char kZeros[4096] = {};
    // In bulk: no process reads buckets before the rebuild is done, so a crash point for each of
    // them would show nothing new.
    for (u64 at = 0; at < u64{kBuckets} * sizeof(u32); at += sizeof kZeros)
        copy_in(m.base + m.geo().buckets_off + at, kZeros, sizeof kZeros);
    u32 free = 0;
    for (u32 i = top; i-- > 0;) {  // downwards, so that low entries are used first
        NameEntry& e = m.name(i);
        if (e.value.load_acquire() == 0) {  // [block.cell]
            e.next.store_relaxed(free);
            free = i + 1;
            continue;
        }
        std::string_view text;
        if (!name_of(e, text)) return false;
        u64 hash = hash_of(static_cast<NameKind>(e.kind.load_relaxed()), text);
        // All of an entry was written before its value was.
        if (hash != e.hash.load_relaxed()) return false;
        shm_atomic<u32>& head = bucket(m, hash);
        e.next.store_relaxed(head.load_relaxed());
        head.store_relaxed(i + 1);
    }
    m.header().free_names.store_relaxed(free);
    return true;
}

class Locked {
  public:
    Locked(Member& m, WaitPolicy& p) noexcept : m_(m) {
        // First, before anything in the pool is touched: a child that is no member must not write
        // here.
        status = m.usable();
        if (status != Status::ok) return;
        status = lock(m.header().names_lock, m, p);
        locked_ = good(status);
        if (status == Status::owner_died) status = rebuild(m) ? Status::ok : broken(m);
    }
    ~Locked() { release(); }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;
    void release() noexcept {
        if (locked_) unlock(m_.header().names_lock);
        locked_ = false;
    }
    Status status = Status::ok;

  private:
    Member& m_;
    bool locked_ = false;
};

// After the commit nothing is undone. What is left to do waits as long as it takes; the caller's
// policy may release what it must.
class Committed final : public WaitPolicy {
  public:
    explicit Committed(WaitPolicy& of) noexcept : of_(of) {}
    void about_to_block() noexcept override { of_.about_to_block(); }

  private:
    WaitPolicy& of_;
};

struct Found {
    u32 index = 0;
    u32 before = kNil;  // entry whose `next` leads here; kNil: the bucket does
};

// ok, no_entry, corrupt. Lock held.
Status look_up(Member& m, NameKind kind, std::string_view name, u64 hash, Found& out) noexcept {
    u32 top;
    if (!bounded_top(m, top)) return broken(m);
    u32 before = kNil;
    u32 link = bucket(m, hash).load_relaxed();
    for (u32 steps = 0; link != 0; ++steps) {
        if (link > top || steps >= top) return broken(m);  // outside, or a ring
        const u32 index = link - 1;
        NameEntry& e = m.name(index);
        std::string_view text;
        // Under the lock, chains contain only entries that are in use.
        if (e.value.load_acquire() == 0 || !name_of(e, text)) return broken(m);  // [block.cell]
        if (e.hash.load_relaxed() == hash && e.kind.load_relaxed() == static_cast<u8>(kind) &&
            text == name) {
            out = {index, before};
            return Status::ok;
        }
        before = index;
        link = e.next.load_relaxed();
    }
    return Status::no_entry;
}

void push_free(Member& m, u32 index) noexcept {
    m.name(index).next.store_relaxed(m.header().free_names.load_relaxed());
    m.header().free_names.store_relaxed(index + 1);
}

// An entry without a value, taken off the free list. ok, table_full, no_memory, corrupt. Lock held.
Status take_entry(Member& m, u32& index) noexcept {
    Header& h = m.header();
    u32 top;
    if (!bounded_top(m, top)) return broken(m);
    if (u32 link = h.free_names.load_relaxed(); link != 0) {
        // [block.cell]
        if (link > top || m.name(link - 1).value.load_acquire() != 0) return broken(m);
        index = link - 1;
        h.free_names.store_relaxed(m.name(index).next.load_relaxed());
        return Status::ok;
    }
    if (top == m.geo().max_names) return Status::table_full;
    const u32 reserved = h.names_reserved.load_acquire();  // [pool.names_reserved]
    if (reserved > m.geo().max_names) return broken(m);
    if (top == reserved) {
        const u32 step = std::min(kReserveStep, m.geo().max_names - reserved);
        // The names lock is held: no other thread reserves here.
        const u64 from = m.geo().names_off + u64{reserved} * sizeof(NameEntry);
        int error = os::reserve_all(m.file, m.base + from, from, u64{step} * sizeof(NameEntry));
        if (error != 0) {
            if (m.file.lost()) return Status::lost;
            errno = error;
            return error == ENOSPC || error == ENOMEM || error == EDQUOT ? Status::no_memory
                                                                         : Status::system_error;
        }
        // Only now: no access below the mark can fail for lack of memory.
        h.names_reserved.store_release(reserved + step);  // [pool.names_reserved]
    }
    index = top;
    // Its value is zero, because fresh memory is: a death here leaves one more free entry.
    h.names_top.store_release(top + 1);  // [pool.names_top]
    return Status::ok;
}

// The handle in an entry, held. The lock is held, so the cell keeps its reference and the block
// must be there.
Status hold_value(Member& m, u32 index, Handle& out) noexcept {
    const Handle h = m.name(index).value.load_acquire();  // [block.cell]
    Status s = hold(m, h);
    if (s == Status::stale || s == Status::corrupt) return broken(m);
    if (good(s)) out = h;
    return s;
}

// Lock held. Takes the entry's name away. `old` is its block, which the caller may have to free.
Status erase_entry(Member& m, u64 hash, const Found& at, Handle& old) noexcept {
    NameEntry& e = m.name(at.index);
    const Handle value = e.value.load_acquire();       // [block.cell]
    const Status s = swap_cell(m, e.value, value, 0);  // COMMIT: the entry is free
    if (!good(s)) return s;
    old = value;
    // Derived: after a death from here on, `rebuild` makes these.
    shm_atomic<u32>& before = at.before == kNil ? bucket(m, hash) : m.name(at.before).next;
    before.store_relaxed(e.next.load_relaxed());
    push_free(m, at.index);
    return Status::ok;
}

// Whether only its name keeps a block alive. Holders before references: a consumer that takes a
// message sets its bit before the count goes down, so one of the two is seen.
bool only_named(Member& m, Handle h) noexcept {
    const u32 index = handle_index(h);
    // [pool.blocks_top]
    if (index == 0 || index >= m.header().blocks_top.load_acquire()) return false;
    Block& block = m.block(index);
    for (u32 w = 0; w < kHolderWords; ++w) {
        if (block.holder_word(w).load() != 0) return false;
    }
    return RefsWord{block.refs.load()}.count() == 1;
}

bool valid(NameKind kind, std::string_view name) noexcept {
    return !name.empty() && name.size() <= kNameBytes && kind >= NameKind::object &&
           static_cast<u32>(kind) <= kNameKinds;
}

}  // namespace

void format(Member& m) noexcept {
    // The rest is zero, as a fresh file is: empty buckets, no free entries, nothing reserved.
    Header& h = m.header();
    h.free_names.store_relaxed(0);
    h.names_top.store_relaxed(0);
    h.names_reserved.store_relaxed(0);
    h.ordinal.store_relaxed(0);
}

Status find(Member& m, NameKind kind, std::string_view name, WaitPolicy& p, Handle& out) noexcept {
    if (!valid(kind, name)) return Status::no_entry;
    const u64 hash = hash_of(kind, name);
    Locked locked(m, p);
    if (!good(locked.status)) return locked.status;
    Found at;
    Status s = look_up(m, kind, name, hash, at);
    return good(s) ? hold_value(m, at.index, out) : s;
}

Status set(Member& m, NameKind kind, std::string_view name, Handle value, bool only_new,
           WaitPolicy& p, Handle& found) noexcept {
    if (!valid(kind, name) || value == 0) return Status::bad_argument;
    const u64 hash = hash_of(kind, name);
    Locked locked(m, p);
    if (!good(locked.status)) return locked.status;
    Found at;
    Status s = look_up(m, kind, name, hash, at);
    if (good(s)) {
        if (only_new) {
            s = hold_value(m, at.index, found);
            return good(s) ? Status::exists : s;
        }
        NameEntry& e = m.name(at.index);
        const Handle old = e.value.load_acquire();  // [block.cell]
        if (old == value) return Status::ok;
        s = swap_cell(m, e.value, old, value);  // COMMIT; the entry keeps its place in the order
        if (!good(s)) return s;
        locked.release();
        Committed patient(p);
        try_free(m, handle_index(old), patient);
        return Status::ok;
    }
    if (s != Status::no_entry) return s;

    u32 index = 0;
    s = take_entry(m, index);
    if (!good(s)) return s;
    NameEntry& e = m.name(index);
    e.hash.store_relaxed(hash);
    e.ordinal.store_relaxed(m.header().ordinal.fetch_add(1));
    e.kind.store_relaxed(static_cast<u8>(kind));
    e.name_len.store_relaxed(static_cast<u8>(name.size()));
    copy_in(e.name, name.data(), name.size());
    s = swap_cell(m, e.value, 0, value);  // COMMIT: until here the entry is free, whatever it says
    if (!good(s)) {
        push_free(m, index);
        return s;
    }
    shm_atomic<u32>& head = bucket(m, hash);
    e.next.store_relaxed(head.load_relaxed());
    head.store_relaxed(index + 1);
    return Status::ok;
}

Status erase(Member& m, NameKind kind, std::string_view name, WaitPolicy& p) noexcept {
    KindSet erased = 0;
    return erase(m, kinds(kind), name, p, erased);
}

Status erase(Member& m, KindSet which, std::string_view name, WaitPolicy& p,
             KindSet& erased) noexcept {
    erased = 0;
    Handle gone[kNameKinds] = {};
    u32 n = 0;
    Status s = Status::no_entry;
    {
        Locked locked(m, p);
        if (!good(locked.status)) return locked.status;
        // By ascending number: a value before its lock (see `NameKind`).
        for (u32 number = 1; number <= kNameKinds; ++number) {
            const auto kind = static_cast<NameKind>(number);
            if ((which & kinds(kind)) == 0 || !valid(kind, name)) continue;
            const u64 hash = hash_of(kind, name);
            Found at;
            Status one = look_up(m, kind, name, hash, at);
            if (good(one)) one = erase_entry(m, hash, at, gone[n]);
            if (good(one)) {
                ++n;
                erased |= kinds(kind);
                s = Status::ok;
            } else if (one != Status::no_entry) {
                s = one;
                break;
            }
        }
    }
    Committed patient(p);
    for (u32 i = 0; i < n; ++i)
        try_free(m, handle_index(gone[i]), patient);
    return s;
}

Status erase_unused(Member& m, NameKind kind, std::string_view name, WaitPolicy& p,
                    u32& erased) noexcept {
    erased = 0;
    const bool one = !name.empty();
    if (one && !valid(kind, name)) return Status::no_entry;
    for (u32 from = 0;;) {
        Handle gone = 0;
        {
            // The lock is taken again for each: the block freed below may be large, and no process
            // should wait for it.
            Locked locked(m, p);
            if (!good(locked.status)) return locked.status;
            u32 top;
            if (!bounded_top(m, top)) return broken(m);
            for (; from < top && gone == 0; ++from) {
                NameEntry& e = m.name(from);
                const Handle value = e.value.load_acquire();  // [block.cell]
                std::string_view text;
                if (value == 0 || e.kind.load_relaxed() != static_cast<u8>(kind)) continue;
                if (!name_of(e, text)) return broken(m);
                if ((one && text != name) || !only_named(m, value)) continue;
                const u64 hash = e.hash.load_relaxed();
                Found at;
                Status s = look_up(m, kind, text, hash, at);
                if (good(s)) s = erase_entry(m, hash, at, gone);
                if (!good(s)) return s == Status::no_entry ? broken(m) : s;
            }
        }
        if (gone == 0) return Status::ok;
        ++erased;
        Committed patient(p);
        try_free(m, handle_index(gone), patient);
    }
}

Status list(Member& m, WaitPolicy& p, std::vector<Item>& out) {
    out.clear();
    {
        Locked locked(m, p);  // its destructor unlocks if memory runs out below
        if (!good(locked.status)) return locked.status;
        u32 top;
        if (!bounded_top(m, top)) return broken(m);
        for (u32 i = 0; i < top; ++i) {
            NameEntry& e = m.name(i);
            const Handle value = e.value.load_acquire();  // [block.cell]
            if (value == 0) continue;
            std::string_view text;
            if (!name_of(e, text)) return broken(m);
            out.push_back({std::string(text), static_cast<NameKind>(e.kind.load_relaxed()), value,
                           e.ordinal.load_relaxed()});
        }
    }
    std::sort(out.begin(), out.end(),
              [](const Item& a, const Item& b) { return a.ordinal < b.ordinal; });
    return Status::ok;
}

u32 count(Member& m, NameKind kind) noexcept {
    // Without the lock: a number for people. For each entry it was true at some moment.
    if (!m.joined.load(std::memory_order_acquire)) return 0;
    u32 top, n = 0;
    if (!bounded_top(m, top)) return 0;
    for (u32 i = 0; i < top; ++i)
        if (m.name(i).value.load_acquire() != 0 &&  // [block.cell]
            m.name(i).kind.load_relaxed() == static_cast<u8>(kind))
            ++n;
    return n;
}

std::vector<std::string> validate(Member& m) {
    std::vector<std::string> wrong;
    auto say = [&](u32 i, const char* what) {
        wrong.push_back("name entry " + std::to_string(i) + ": " + what);
    };
    WaitPolicy p(os::monotonic_ns() + 5'000'000'000);
    Locked locked(m, p);
    if (!good(locked.status)) {
        wrong.push_back("directory: cannot be locked, status " +
                        std::to_string(static_cast<int>(locked.status)));
        return wrong;
    }
    u32 top;
    if (!bounded_top(m, top)) {
        wrong.push_back("directory: names_top lies outside the table");
        return wrong;
    }
    std::vector<u8> seen(top, 0);
    for (u32 b = 0; b < kBuckets; ++b) {
        u32 link =
            reinterpret_cast<shm_atomic<u32>*>(m.base + m.geo().buckets_off)[b].load_relaxed();
        for (; link != 0; link = m.name(link - 1).next.load_relaxed()) {
            if (link > top) {
                wrong.push_back("name bucket " + std::to_string(b) + ": a link leads outside");
                break;
            }
            if (seen[link - 1]++ != 0) {
                say(link - 1, "linked twice");
                break;
            }
            NameEntry& e = m.name(link - 1);
            if (&bucket(m, e.hash.load_relaxed()) !=
                reinterpret_cast<shm_atomic<u32>*>(m.base + m.geo().buckets_off) + b)
                say(link - 1, "in a wrong bucket");
            if (e.value.load_acquire() == 0) say(link - 1, "free, but in a chain");  // [block.cell]
        }
    }
    for (u32 link = m.header().free_names.load_relaxed(); link != 0;
         link = m.name(link - 1).next.load_relaxed()) {
        if (link > top) {
            wrong.push_back("free names: a link leads outside");
            break;
        }
        if (seen[link - 1]++ != 0) {
            say(link - 1, "on the free list twice, or in a chain too");
            break;
        }
        if (m.name(link - 1).value.load_acquire() != 0)  // [block.cell]
            say(link - 1, "in use, but on the free list");
    }
    std::vector<std::string> names;
    for (u32 i = 0; i < top; ++i) {
        NameEntry& e = m.name(i);
        const Handle value = e.value.load_acquire();  // [block.cell]
        if (seen[i] == 0) say(i, "neither in a chain nor free");
        if (value == 0) continue;
        std::string_view text;
        if (!name_of(e, text)) {
            say(i, "impossible length of name");
            continue;
        }
        if (hash_of(static_cast<NameKind>(e.kind.load_relaxed()), text) != e.hash.load_relaxed())
            say(i, "hash does not fit the name");
        names.push_back(static_cast<char>(e.kind.load_relaxed()) + std::string(text));
        if (handle_index(value) >= m.geo().max_blocks ||
            handle_index(value) >= m.header().blocks_top.load_acquire()) {  // [pool.blocks_top]
            say(i, "value lies outside the block table");
            continue;
        }
        Block& block = m.block(handle_index(value));
        const BlockWord word{block.word.load_acquire()};  // [block.word]
        if (word.gen() != handle_gen(value)) say(i, "value is of another generation");
        if (word.state() != BlockState::live && word.state() != BlockState::tentative)
            say(i, "value is not live");
        // [block.refs]
        if (RefsWord{block.refs.load_acquire()}.count() == 0) say(i, "value has no references");
    }
    std::sort(names.begin(), names.end());
    for (std::size_t i = 1; i < names.size(); ++i)
        if (names[i] == names[i - 1]) wrong.push_back("name twice: " + names[i].substr(1));
    return wrong;
}

}  // namespace onecopy::directory
