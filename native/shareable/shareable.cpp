#include "shareable/shareable.hpp"

#include "os/forks.hpp"
#include "os/os.hpp"
#include "os/processes.hpp"

namespace onecopy {

using u64 = ShareableList::u64;

struct ShareableList::Word {
    static constexpr unsigned kKindShift = 24, kActiveShift = 28, kSequenceShift = 29;
    static u64 make(u64 sequence, u64 active, ItemKind kind, u64 length) noexcept {
        return sequence << kSequenceShift | active << kActiveShift |
               static_cast<u64>(kind) << kKindShift | length;
    }
    static u64 length(u64 w) noexcept { return w & 0xff'ffff; }
    static u64 kind(u64 w) noexcept { return w >> kKindShift & 15; }
    static u64 active(u64 w) noexcept { return w >> kActiveShift & 1; }
    static u64 sequence(u64 w) noexcept { return w >> kSequenceShift; }
};

namespace {

constexpr unsigned kStartShift = 22, kStartBits = 24, kSpaceShift = 46;
constexpr u64 kStartMask = (u64{1} << kStartBits) - 1,
              kSpaceMask = (u64{1} << (64 - kSpaceShift)) - 1;

constexpr unsigned kRoomBits = 24;
constexpr u64 kMostItems = u64{1} << 34;

constexpr int kReads = 64;   // attempts of a reader before it takes the claim
constexpr int kSpins = 200;  // reads of a claim before the first sleep
constexpr std::int64_t kNap = 500'000;

// This process's mark. The kernel is asked once per process; a forked child is another process.
std::atomic<u64> mark{0};

void forget_mark() noexcept {
    mark.store(0, std::memory_order_relaxed);
}

}  // namespace

u64 ShareableList::own_claim() noexcept {
    const u64 known = mark.load(std::memory_order_relaxed);
    if (known != 0) [[likely]]
        return known;
    // Before the mark is known, so that a child never has the mark of its parent.
    static const bool installed = (os::run_in_children(forget_mark), true);
    static_cast<void>(installed);
    const os::Identity id = os::identity();
    const u64 made = (id.pid & kPidMask) | (id.start_ticks & kStartMask) << kStartShift |
                     (id.pid_namespace & kSpaceMask) << kSpaceShift;
    // Without a free descriptor the mark has no start time. That is enough for one claim (no
    // process treats this one as dead because of it). The next claim asks again.
    if (id.start_ticks != 0) mark.store(made, std::memory_order_relaxed);
    return made;
}

// ---- making and opening -------------------------------------------------------------------------

u64 ShareableList::bytes_for(u64 n, u64 data) noexcept {
    if (n > kMostItems || data > u64{1} << 42) return 0;
    return sizeof(Head) + n * sizeof(Entry) + data;
}

void ShareableList::place(unsigned char* base, u64 i, u64 at, u64 room) noexcept {
    // No process reads it before `finish`
    reinterpret_cast<Entry*>(base + sizeof(Head))[i].where.store_relaxed(at / 8 << kRoomBits |
                                                                         room / 8);
}

void ShareableList::head(unsigned char* base, u64 n, u64 bytes) noexcept {
    auto& h = *reinterpret_cast<Head*>(base);
    h.version.store_relaxed(kVersion);
    h.count.store_relaxed(n);
    h.bytes.store_relaxed(bytes);
}

void ShareableList::finish(unsigned char* base) noexcept {
    reinterpret_cast<Head*>(base)->magic.store_release(kMagic);  // [shareable.magic]
}

Status ShareableList::open(unsigned char* base, u64 length, ShareableList& out) noexcept {
    static_assert(fold_layouts({Head::layout(), Entry::layout()}) == kLayout,
                  "the layout has changed: it needs another kVersion, and its number in kLayout");
    if (length < sizeof(Head)) return Status::bad_argument;
    const auto& h = *reinterpret_cast<const Head*>(base);
    if (h.magic.load_acquire() != kMagic) return Status::bad_argument;  // [shareable.magic]
    if (h.version.load_relaxed() != kVersion) return Status::bad_version;
    const u64 count = h.count.load_relaxed(), needed = bytes_for(count, 0);
    if (needed == 0 || needed > length || h.bytes.load_relaxed() > length) return Status::corrupt;
    out.base_ = base;
    out.length_ = length;
    out.count_ = count;
    return Status::ok;
}

// ---- reading ------------------------------------------------------------------------------------

ShareableList::Place ShareableList::place_of(u64 i) const noexcept {
    const u64 where = entry(i).where.load_relaxed();
    const u64 offset = where >> kRoomBits << 3, room = (where & ((u64{1} << kRoomBits) - 1)) << 3;
    // 43 and 27 bits: no sum below can overflow.
    if (room > kMostRoom || offset < sizeof(Head) + count_ * sizeof(Entry) ||
        offset + 2 * room > length_)
        return {0, 0};
    return {offset, room};
}

u64 ShareableList::room(u64 i) const noexcept {
    return place_of(i).room;
}

// False: the word is impossible.
bool ShareableList::copy(u64 word, const Place& at, void* to, Item& out) const noexcept {
    const u64 kind = Word::kind(word), length = Word::length(word);
    if (kind < static_cast<u64>(ItemKind::integer) || kind > static_cast<u64>(ItemKind::null) ||
        length > at.room)
        return false;
    out.kind = static_cast<ItemKind>(kind);
    out.length = static_cast<std::uint32_t>(length);
    // Copies words: each room is a multiple of 8 bytes.
    if (to != nullptr) copy_out_racy(to, base_ + at.offset + Word::active(word) * at.room, length);
    return true;
}

Status ShareableList::look(u64 i, Item& out) const noexcept {
    const Place at = place_of(i);
    // [shareable.state]
    return at.room != 0 && copy(entry(i).state.load_acquire(), at, nullptr, out) ? Status::ok
                                                                                 : Status::corrupt;
}

Status ShareableList::read(u64 i, void* to, u64 to_bytes, Item& out, WaitPolicy& p) const noexcept {
    const Place at = place_of(i);
    // The place has changed since the caller asked for the room.
    if (at.room == 0 || at.room > to_bytes) return Status::corrupt;
    Entry& e = entry(i);
    for (int attempt = 0; attempt < kReads; ++attempt) {
        const u64 word = e.state.load_acquire();  // [shareable.state]
        if (!copy(word, at, to, out)) return Status::corrupt;
        std::atomic_thread_fence(std::memory_order_acquire);  // [shareable.buffer]
        if (e.state.load_relaxed() == word) [[likely]]
            return Status::ok;
    }
    if (Status s = claim(e, p); s != Status::ok) return s;
    const bool sound = copy(e.state.load_acquire(), at, to, out);  // [shareable.state]
    e.claim.store_release(0);                                      // [shareable.claim]
    return sound ? Status::ok : Status::corrupt;
}

// ---- writing ------------------------------------------------------------------------------------

// Takes over the claim of a dead process: there is nothing to repair, see the header.
Status ShareableList::claim(Entry& e, WaitPolicy& p) const noexcept {
    const u64 me = own_claim();
    u64 seen = 0;
    if (e.claim.cas(seen, me)) [[likely]]  // [shareable.claim]
        return Status::ok;
    for (int i = 0; i < kSpins; ++i) {
        cpu_relax();
        seen = e.claim.load_relaxed();
        if (seen == 0 && e.claim.cas(seen, me)) return Status::ok;
    }
    u64 waited_for = 0, last_state = 0;
    std::int64_t deadline = 0;
    for (;;) {
        seen = 0;
        if (e.claim.cas(seen, me)) return Status::ok;
        const u64 space = seen >> kSpaceShift;
        os::Life life = os::Life::unknown;
        if (space == me >> kSpaceShift) {
            life = os::life_of(holder(seen), seen >> kStartShift & kStartMask, kStartMask);
            if (life == os::Life::dead) {
                if (e.claim.cas(seen, me)) return Status::ok;
                continue;  // another process has taken it over
            }
        }
        if (life == os::Life::unknown) {
            // A pid of another namespace means nothing here. The process may be dead; then only a
            // process of that namespace can take the claim over.
            const u64 state = e.state.load_relaxed();
            if (deadline == 0 || seen != waited_for || state != last_state)
                deadline = os::monotonic_ns() + kForeignWait;
            else if (os::monotonic_ns() > deadline)
                return Status::timed_out;
            waited_for = seen;
            last_state = state;
        }
        p.about_to_block();
        // No process wakes this one: the futex wait is a bounded sleep that ends early if the word
        // has changed before it begins.
        if (os::maybe_signal(os::futex_wait(reinterpret_cast<std::uint32_t*>(&e.claim),
                                            static_cast<std::uint32_t>(seen), kNap)) &&
            p.interrupted())
            return Status::interrupted;
    }
}

Status ShareableList::write(u64 i, ItemKind kind, const void* from, u64 length,
                            WaitPolicy& p) const noexcept {
    const Place at = place_of(i);
    if (at.room == 0) return Status::corrupt;
    if (length > at.room) return Status::too_large;
    Entry& e = entry(i);
    if (Status s = claim(e, p); s != Status::ok) return s;
    const u64 word = e.state.load_acquire();  // [shareable.state]
    const u64 target = 1 - Word::active(word);
    // [shareable.buffer]: a reader that sees the new bytes also sees the changed state.
    std::atomic_thread_fence(std::memory_order_release);
    unsigned char* to = base_ + at.offset + target * at.room;
    const u64 half = length / 16 * 8;
    // In two parts, so that the crash campaign can kill the process between them.
    if (half != 0) copy_in_racy(to, from, half);
    copy_in_racy(to + half, static_cast<const unsigned char*>(from) + half, length - half);
    // COMMIT [shareable.state]
    e.state.store_release(Word::make(Word::sequence(word) + 1, target, kind, length));
    // [shareable.claim]
    e.claim.store_release(0);
    return Status::ok;
}

}  // namespace onecopy
