#include "segment/member.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "base/bits.hpp"
#include "os/files.hpp"
#include "os/forks.hpp"
#include "os/processes.hpp"
#include "sync/watcher.hpp"

namespace onecopy {
namespace {
// Ns that a fork waits for others so that its child gets a slot.
constexpr std::int64_t kForkWait = 1'000'000'000;

// A millisecond; false: it is too late for another one.
bool nap(std::int64_t deadline) noexcept {
    os::nap(1'000'000);
    return os::monotonic_ns() < deadline;
}
}  // namespace

constinit Member::Upper Member::upper{};
bool (*Member::recover_slot)(Member&, u32) noexcept = nullptr;
void (*Member::recover_own)(Member&) noexcept = nullptr;

u64 fixed_bytes(const Geometry& g) noexcept {
    return g.names_off;
}

// Plain stores: the file has no name yet and no other process maps it, so a death leaves nothing
// but memory that the kernel takes back. That is why one crash point at its end stands for all of
// it.
void format(unsigned char* base, const Geometry& g, u64 flags) noexcept {
    Header& h = *reinterpret_cast<Header*>(base);
    h.version = kVersion;
    h.max_processes = g.max_processes;
    h.capacity = g.capacity;
    h.file_size = g.file_size;
    h.flags = flags;
    h.rows_off = g.rows_off;
    h.heads_off = g.heads_off;
    h.buckets_off = g.buckets_off;
    h.extents_off = g.extents_off;
    h.names_off = g.names_off;
    h.blocks_off = g.blocks_off;
    h.heap_off = g.heap_off;
    h.max_names = g.max_names;
    h.max_blocks = g.max_blocks;
    h.created_ns = os::wall_clock_ns();
    h.creator_pid = os::own_pid();
    h.creator_uid = os::effective_user();
    Row* rows = reinterpret_cast<Row*>(base + g.rows_off);
    for (u32 i = 0; i < g.max_processes; ++i)
        rows[i].gen.store_relaxed(1);
    h.layout_hash = layout_hash();
    h.magic = kMagic;
    crash_point();
}

namespace {
// The header's limits, read once: all later checks compare with these, also if the header has
// changed.
Geometry read_geometry(const Header& h) noexcept {
    const u64 capacity = __atomic_load_n(&h.capacity, __ATOMIC_RELAXED);
    const u32 processes = __atomic_load_n(&h.max_processes, __ATOMIC_RELAXED);
    const bool possible =
        capacity != 0 && capacity <= kMaxCapacity && processes != 0 && processes <= kMaxProcesses;
    return possible ? geometry(capacity, processes) : Geometry{};
}
}  // namespace

Member::Member(unsigned char* base_, std::size_t length_, os::SharedFile file_) noexcept
    : base(base_),
      length(length_),
      file(std::move(file_)),
      mapped(length_),
      geo_(read_geometry(header())) {
    if (geo_.max_blocks == 0) return;
    local = static_cast<u32*>(os::map_scratch(std::size_t{geo_.max_blocks} * sizeof(u32)));
}

Member::~Member() {
    leave();
    if (local != nullptr) os::unmap(local, std::size_t{geo_.max_blocks} * sizeof(u32));
    if (base == nullptr) return;
    forget_notes(base, length);
    os::unmap(base, length);
}

const os::SharedFile& Member::file_without_locks(std::unique_lock<std::mutex>& holding) noexcept {
    // The lock of a reader keeps writers away, and its children read on under it.
    if (readonly) return file;
    if (without_locks_ && !without_locks_.lost()) [[likely]]
        return without_locks_;
    holding.unlock();
    os::SharedFile again = file.again();
    const int error = errno;
    holding.lock();
    if (!without_locks_ || without_locks_.lost()) without_locks_ = std::move(again);
    errno = error;
    return without_locks_;
}

Status Member::check(bool even_corrupt) noexcept {
    const Header& h = header();
    if (h.magic != kMagic) return Status::corrupt;
    if (h.version != kVersion || h.layout_hash != layout_hash()) return Status::bad_version;
    const Geometry& g = geo_;
    if (g.max_blocks == 0 || h.max_processes != g.max_processes) return Status::corrupt;
    const bool same = h.capacity == g.capacity && h.file_size == g.file_size &&
                      h.rows_off == g.rows_off && h.heads_off == g.heads_off &&
                      h.buckets_off == g.buckets_off && h.extents_off == g.extents_off &&
                      h.names_off == g.names_off && h.blocks_off == g.blocks_off &&
                      h.heap_off == g.heap_off && h.max_names == g.max_names &&
                      h.max_blocks == g.max_blocks;
    if (!same || length != g.file_size || (corrupt() && !even_corrupt)) return Status::corrupt;
    const u32 blocks_top = h.blocks_top.load_acquire();  // [pool.blocks_top]
    if (h.blocks_reserved.load_acquire() > g.max_blocks ||
        blocks_top == 0 ||  // [pool.blocks_reserved]
        blocks_top > h.blocks_reserved.load_acquire() + 1 ||
        h.heap_top.load_acquire() > g.capacity || h.rows_used.load_acquire() > g.max_processes ||
        h.names_reserved.load_acquire() > g.max_names ||
        h.names_top.load_acquire() > h.names_reserved.load_acquire()) {
        return Status::corrupt;
    }
    return local == nullptr ? Status::out_of_memory : Status::ok;
}

// ---- slots --------------------------------------------------------------------------------------

// With the slot's byte locked.
void Member::claim(u32 index, RowState as) noexcept {
    Row& r = row(index);
    const os::Identity who = os::identity();
    r.pid.store_relaxed(who.pid);
    r.parent_pid.store_relaxed(os::parent_pid());
    r.start_ticks.store_relaxed(who.start_ticks);
    r.pid_namespace.store_relaxed(who.pid_namespace);
    r.born_ns.store_relaxed(os::wall_clock_ns());
    for (WaitRecord& wait : r.waits) {
        // Left by an earlier owner that died, or by a thread of it that never woke.
        if (wait.who.load_relaxed() != 0) wait.who.store_relaxed(0);
    }
    u32 used = header().rows_used.load();
    while (used < index + 1 && !header().rows_used.cas(used, index + 1)) {  // [pool.rows_used]
    }
    // COMMIT [row.state]: from here a death is found by the sweep.
    r.state.store_release(static_cast<u32>(as));
}

Status Member::join() noexcept {
    if (!readonly && !file.hold_on()) return Status::system_error;
    for (int pass = 0; pass < 2; ++pass) {
        for (u32 i = 0; i < geo_.max_processes; ++i) {
            // [row.state]
            const bool is_free = row(i).state.load_acquire() == static_cast<u32>(RowState::free);
            // The living and the dead only when nothing is free.
            if (!is_free && pass == 0) continue;
            const os::ByteLock answer = lock_slot(i);
            if (answer == os::ByteLock::failed) return Status::system_error;
            if (answer == os::ByteLock::busy) continue;
            slot = i;
            if (row(i).state.load_acquire() != static_cast<u32>(RowState::free)) {  // [row.state]
                // A dead member's slot: clean it in its name, and stay in it.
                joined = true;
                if (recover_own == nullptr) return Status::no_slot;
                recover_own(*this);
            }
            gen = next_generation(row(i).gen.load_acquire());  // [row.gen]
            row(i).gen.store_release(gen);                     // [row.gen]
            claim(i, RowState::live);
            joined = true;
            return Status::ok;
        }
    }
    slot = kNoSlot;
    return Status::no_slot;
}

u32 Member::next_generation(u32 old) noexcept {
    std::uint16_t skip = 0;
    os::random_bytes(&skip, sizeof skip);
    return old + 1 + skip;
}

void Member::leave() noexcept {
    if (!joined.load()) return;
    UnboundedWait wait;
    // [pool.blocks_top]
    const u32 top = std::min(header().blocks_top.load_acquire(), geo_.max_blocks);
    for (u32 i = 1; i < top; ++i) {
        {
            std::lock_guard guard(mutex);
            if (local[i] == 0) continue;
            local[i] = 1;
        }
        upper.drop(*this, i, wait);
    }
    std::lock_guard guard(mutex);
    joined = false;
    idle_mappings.unmap_all();
    Row& r = own_row();
    r.gen.store(r.gen.load() + 1);      // from here on, lock words with our tag have no owner
    header().death_epoch.fetch_add(1);  // [pool.death_epoch]
    r.state.store_release(static_cast<u32>(RowState::free));  // [row.state]
    unlock_slot(slot);
    tell_notes(base, length);  // waits that are noted learn that it was left
}

bool Member::passed(u32 tag) const noexcept {
    const u32 owner = tag_slot(tag);
    // [row.gen]
    return owner >= geo_.max_processes || (row(owner).gen.load_acquire() & 0xfffff) != tag_gen(tag);
}

bool Member::gone(u32 tag) noexcept {
    if (passed(tag)) return true;
    const u32 owner = tag_slot(tag);
    // Another thread of this process has it.
    if (owner == slot || recover_slot == nullptr) return false;
    recover_slot(*this, owner);
    return passed(tag);
}

u32 recover_dead(Member& m) noexcept {
    u32 cleaned = 0;
    // [pool.rows_used]
    const u32 rows = std::min(m.header().rows_used.load_acquire(), m.geo().max_processes);
    for (u32 slot = 0; slot < rows && Member::recover_slot != nullptr; ++slot) {
        if (slot != m.slot && m.row(slot).state.load() != static_cast<u32>(RowState::free))
            cleaned += Member::recover_slot(m, slot);
    }
    return cleaned;
}

u32 collect_dead(Member& m) noexcept {
    if (!m.readonly && !m.file.is_ours()) return 0;
    return recover_dead(m);
}

void Member::look_for_the_dead() noexcept {
    collect_dead(*this);
}

// ---- waits --------------------------------------------------------------------------------------

namespace {
u64 this_thread_number() noexcept {
    static thread_local u32 number;
    static thread_local unsigned of;  // in the line of forks: a child's thread has another number
    if (const unsigned here = os::lineage(); of != here) {
        number = os::own_thread_id();
        of = here;
    }
    return number & ((1u << kWaitThreadBits) - 1);
}
}  // namespace

WaitNote Member::note_wait(WaitPurpose why, const void* subject) noexcept {
    if (!joined.load(std::memory_order_relaxed)) return {};
    u32 taken = wait_places_.load(std::memory_order_relaxed), place;
    do {
        place = static_cast<u32>(std::countr_one(taken));
        if (place >= kWaitRecords) return {};
    } while (!wait_places_.compare_exchange_weak(taken, taken | 1u << place));
    const u64 since = static_cast<u64>(os::coarse_ns()) >> kWaitTimeShift;
    const WaitNote note{since << kWaitThreadBits | this_thread_number(), tag(), place};
    WaitRecord& record = own_row().waits[place];
    record.what.store_relaxed(u64{static_cast<u8>(why)} << kWaitSubjectBits | offset_of(subject));
    record.who.store_release(note.who);  // COMMIT [row.wait]
    return note;
}

void Member::forget_wait(const WaitNote& note) noexcept {
    // After a fork in a signal handler the record is the parent's. After a leave the row may be
    // another process's.
    if (!joined.load(std::memory_order_relaxed) || note.tag != tag()) return;
    u64 who = note.who;
    own_row().waits[note.place].who.cas(who, 0);
    wait_places_.fetch_and(~(1u << note.place));
}

// ---- fork ---------------------------------------------------------------------------------------
// A child shares its parent's open file descriptions, and with them the parent's locks: others
// would take a dead parent for alive for as long as the child has its descriptor. So the child gets
// a description and a slot of its own, made before the fork, and closes the parent's. The mapping
// it keeps: that was made through a description that carries no lock (see os/shared_file.hpp).
//
// A child that gets no description (rights were dropped, no /proc, no descriptor left) or no slot
// (the table is full) lives, but is no member. Nothing keeps what it has inherited, so it cannot
// look at it.

// Like `join`, it takes a dead member's slot when none is free: children that were killed would
// otherwise fill the table for good. No mutex of a member is held, because cleaning takes them; a
// death on the way leaves the dead row as any recoverer's does, or an embryo whose byte goes with
// our descriptor.
void Member::fork_reserve() noexcept {
    child_file_.close();
    child_slot_ = kNoSlot;
    child_excluded_ = Status::ok;
    if (!joined || readonly) return;
    child_excluded_ = reserve_for_child();
    child_errno_ = errno;
    if (child_excluded_ != Status::ok) give_back_child_file();
}

Status Member::reserve_for_child() noexcept {
    child_file_ = file.again();
    if (!child_file_ || child_file_.lock(kMemberByte, false) != os::ByteLock::taken)
        return Status::system_error;
    const std::int64_t deadline = os::monotonic_ns() + kForkWait;
    do {
        for (u32 i = 0; i < geo_.max_processes; ++i) {
            if (reserve_row(i)) return Status::ok;
        }
        if (reserve_dead_row(deadline)) return Status::ok;
        // Another process may have cleaned what this one has passed, or may be cleaning it.
    } while (a_row_may_come() && nap(deadline));
    return Status::no_slot;
}

// Its locks go with it, unless a child has a copy.
void Member::give_back_child_file() noexcept {
    child_file_.close();
    crash_point();
}

bool Member::reserve_row(u32 index) noexcept {
    // [row.state]
    if (row(index).state.load_acquire() != static_cast<u32>(RowState::free)) return false;
    if (child_file_.lock(kSlotByte + index, true) != os::ByteLock::taken) return false;
    if (row(index).state.load_acquire() != static_cast<u32>(RowState::free)) {  // [row.state]
        child_file_.unlock(kSlotByte + index);
        return false;
    }
    row(index).gen.store_release(next_generation(row(index).gen.load_acquire()));  // [row.gen]
    claim(index, RowState::embryo);
    child_slot_ = index;
    return true;
}

bool Member::reserve_dead_row(std::int64_t deadline) noexcept {
    if (recover_slot == nullptr || !heap_moves(deadline)) return false;
    for (u32 i = 0; i < geo_.max_processes; ++i) {
        if (i == slot) continue;
        recover_slot(*this, i);
        if (reserve_row(i)) return true;
    }
    return false;
}

// Cleaning waits for the heap lock without a limit, and a thread that forks may hold the
// interpreter's lock. So not while a stopped process has it.
bool Member::heap_moves(std::int64_t deadline) noexcept {
    const auto owner = [this] { return header().heap_lock.word.load() & ~kWaiters; };
    const u32 seen = owner();
    while (seen != 0 && owner() == seen && !gone(seen)) {
        if (!nap(deadline)) return false;
    }
    return true;
}

bool Member::a_row_may_come() const noexcept {
    for (u32 i = 0; i < geo_.max_processes; ++i) {
        const u32 state = row(i).state.load_acquire();  // [row.state]
        if (state == static_cast<u32>(RowState::reaping) ||
            state == static_cast<u32>(RowState::free))
            return true;
    }
    return false;
}

void Member::fork_prepare() noexcept {
    if (child_slot_ == kNoSlot) return;
    if (!joined) {  // another thread has left since
        row(child_slot_).state.store_release(static_cast<u32>(RowState::free));  // [row.state]
        child_file_.unlock(kSlotByte + child_slot_);
        child_slot_ = kNoSlot;
        return;
    }
    // [pool.blocks_top]
    const u32 top = std::min(header().blocks_top.load_acquire(), geo_.max_blocks);
    // The parent's own bit keeps each block alive until the child's bit is set.
    for (u32 b = 1; b < top; ++b) {
        if (local[b] != 0)
            block(b).holder_word(child_slot_ / 64).fetch_or(u64{1} << (child_slot_ % 64));
    }
}

void Member::fork_parent() noexcept {
    // The child has a copy of the descriptor, which keeps the locks. If the fork failed, there is
    // no copy, and this call releases the locks.
    give_back_child_file();
}

// The thread that makes it does not exist in the child, or stops when it sees that it is in one.
void Member::fork_unmade_child() noexcept {
    file.close();  // closes only: unlocking would unlock the parent
    os::unmap(std::exchange(base, nullptr), length);
    joined = false;
    slot = kNoSlot;
}

void Member::fork_child() noexcept {
    wait_places_.store(0);
    idle_mappings.forget_all();
    if (readonly) {
        // The private pages were copied with the process, and the description, whose lock keeps
        // writers away, is ours too. Locks in these pages that another thread held at that moment
        // stay behind: a new generation makes them locks of a dead process.
        if (!joined) return;
        gen = next_generation(own_row().gen.load());
        own_row().gen.store(gen);
        return;
    }
    file = std::move(child_file_);  // closes only: unlocking would unlock the parent
    crash_point();
    if (joined && child_slot_ != kNoSlot) {
        static_cast<void>(file.hold_on());  // without it the lock lives as long as the descriptor
        slot = child_slot_;
        gen = own_row().gen.load_acquire();  // [row.gen]
        claim(slot, RowState::live);
        return;
    }
    // There is something to close if another thread of the parent left during the fork.
    file.close();
    if (joined) exclude(child_excluded_, child_errno_);
}

// In a child that is no member. Its views would show what others put in the place of what they
// were views of; so they fault. The tables stay readable: nothing of a user's lies in them.
void Member::exclude(Status why, int error) noexcept {
    joined = false;
    slot = kNoSlot;
    excluded = why;
    excluded_errno = error;
    private_pages.forbid();
    // The mapping is our own, inherited; only a process at its limit of mappings cannot split it.
    if (!os::forbid_access(heap(), geo_.capacity)) {
        os::forbid_access(base, length);
        return;
    }
    os::forbid_writing(base, geo_.heap_off);
}

}  // namespace onecopy
