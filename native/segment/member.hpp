// A process's membership in a pool: its mapping, its slot, its private counts. One per pool and
// process.
//
// Everything below works on (base, length) and this process's slot; nothing here opens a file by
// name (segment/file.hpp does).
#pragma once
#include <atomic>
#include <mutex>
#include <string>

#include "base/never_destroyed.hpp"
#include "base/status.hpp"
#include "layout/layout.hpp"
#include "os/shared_file.hpp"
#include "segment/mapped.hpp"
#include "segment/private_pages.hpp"
#include "sync/lock.hpp"

namespace onecopy {

class Member final : public Liveness {
  public:
    Member(unsigned char* base, std::size_t length, os::SharedFile file) noexcept;
    ~Member() override;
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;

    // ---- the mapping
    unsigned char* base;
    std::size_t length;
    os::SharedFile file;
    Mapped mapped;
    Header& header() const noexcept { return *reinterpret_cast<Header*>(base); }
    const Geometry& geo() const noexcept { return geo_; }
    Row& row(u32 of_slot) const noexcept {
        return reinterpret_cast<Row*>(base + geo_.rows_off)[of_slot];
    }
    Row& own_row() const noexcept { return row(slot); }
    Block& block(u32 index) const noexcept {
        return reinterpret_cast<Block*>(base + geo_.blocks_off)[index];
    }
    NameEntry& name(u32 index) const noexcept {
        return reinterpret_cast<NameEntry*>(base + geo_.names_off)[index];
    }
    HeapIndex& heads() const noexcept {
        return *reinterpret_cast<HeapIndex*>(base + geo_.heads_off);
    }
    unsigned char* heap() const noexcept { return base + geo_.heap_off; }
    template <class T>
    T& at(u64 offset) const noexcept {
        return *reinterpret_cast<T*>(base + offset);
    }
    u64 offset_of(const void* p) const noexcept {
        return static_cast<u64>(static_cast<const unsigned char*>(p) - base);
    }
    bool contains(const void* p) const noexcept {
        auto* c = static_cast<const unsigned char*>(p);
        return c >= base + geo_.heap_off && c < base + length;
    }

    // Pages of the file that are mapped for this process alone. With `mutex` held.
    PrivatePagesList private_pages;
    IdleMappings idle_mappings;
    // What they are mapped through: an open file description without locks, because children of a
    // fork inherit these mappings as they inherit the shared one. Empty: errno says why. With
    // `mutex` held, which is given away while the file is opened.
    const os::SharedFile& file_without_locks(std::unique_lock<std::mutex>& holding) noexcept;

    // ---- this process's slot. Changed only by join, leave and fork.
    u32 slot = kNoSlot;
    u32 gen = 0;
    // False: left, or a forked child that could not become a member.
    std::atomic<bool> joined{false};
    // Of such a child. no_slot: the table was full; system_error: it could not open the file again,
    // and `excluded_errno` says why. Set by a fork, and inherited by its children.
    Status excluded = Status::ok;
    int excluded_errno = 0;
    bool last_one_unlinks = true;
    // A private mapping of a file without writers; fixed before `check`
    bool readonly = false;
    // Processes of another uid: as the file said when it was opened.
    bool others_may_write = false;
    std::string path;  // where the name is, or was; empty if there was none. It does not change.
    std::atomic<bool> unlinked{false};          // by this process
    const std::string& name() const noexcept {  // empty: there is none
        return unlinked.load(std::memory_order_relaxed) ? kNoName.value : path;
    }
    static inline const NeverDestroyed<std::string> kNoName;

    // Guards `local` and the row's intent. Nothing waits while it is held; fork takes it.
    std::mutex mutex;
    // How many holds of this process stand behind its one bit, per block.
    u32* local = nullptr;

    // ---- hints of the heap: its lock was not to be had, and blocks were left for later
    std::atomic<std::int64_t> heap_is_stuck_until{0};
    std::atomic<bool> has_left_blocks{false};

    // ---- Liveness
    u32 tag() const noexcept override { return make_tag(slot, gen); }
    bool passed(u32 tag) const noexcept override;
    bool gone(u32 tag) noexcept override;
    bool cannot_tell() const noexcept override { return file.lost(); }
    void look_for_the_dead() noexcept override;
    u64 epoch() const noexcept override {
        // [pool.death_epoch]
        return header().death_epoch.load_acquire() << 2 | u64{file.lost()} << 1 | u64{corrupt()};
    }
    WaitNote note_wait(WaitPurpose why, const void* subject) noexcept override;
    void forget_wait(const WaitNote& note) noexcept override;

    // Functions of layers above, which install them here; see `install_recovery`.
    struct Upper {
        // The heap and the directory of a fresh segment; whether all of the heap is reserved.
        void (*format)(Member&, bool reserved) noexcept = nullptr;
        int (*reserve_marked)(Member&) noexcept = nullptr;                 // heap/heap.hpp
        void (*drop)(Member&, u32 block, WaitPolicy&) noexcept = nullptr;  // heap/blocks.hpp
    };
    static Upper upper;
    static bool (*recover_slot)(Member&, u32 of_slot) noexcept;
    // Cleans up after the dead member whose slot this process has just taken.
    static void (*recover_own)(Member&) noexcept;

    // ---- slots. In a private mapping all other processes are dead, and we may take any slot.
    // Only `taken` proves that the slot has no process.
    os::ByteLock lock_slot(u32 index) noexcept {
        return readonly ? os::ByteLock::taken : file.lock(kSlotByte + index, true);
    }
    void unlock_slot(u32 index) noexcept {
        if (!readonly) file.unlock(kSlotByte + index);
    }
    // The kernel's answer; our own byte is ours, which it does not tell us. A process of which the
    // kernel tells nothing counts as alive.
    bool is_alive(u32 index) const noexcept {
        return index == slot || (!readonly && file.others(kSlotByte + index) != os::Others::none);
    }

    // ---- joining
    // Does the header describe a segment of ours, of this length? `even_corrupt`: also if it is
    // marked corrupt, for an observer.
    Status check(bool even_corrupt = false) noexcept;
    Status join() noexcept;  // take a slot (recovering a dead one if there is no free one)
    void leave() noexcept;   // give up every hold and the slot. Idempotent.

    // ---- fork (called by segment/fork.cpp; all but the first with `mutex` held)
    // An open file description and a slot for the child, or neither. May recover a dead member;
    // waits no longer than a second.
    void fork_reserve() noexcept;
    void fork_prepare() noexcept;  // the child's bits
    void fork_parent() noexcept;
    void fork_child() noexcept;
    // In the child, of a member that another thread was making: without `mutex`.
    void fork_unmade_child() noexcept;
    struct Registration {  // of segment/fork.cpp, under its mutex
        Member* next = nullptr;
        bool listed = false, made = false;
    } registration;

    // Whether an operation may begin: ok, closed, lost, corrupt.
    Status usable() const noexcept {
        if (file.lost()) [[unlikely]]
            return joined.load(std::memory_order_relaxed) ? Status::lost : Status::closed;
        return may_give_back();
    }
    // Whether a hold or a lock may be given back: ok, closed, corrupt. A process that lost its
    // descriptor does so, because it still has its slot's lock (os/shared_file.hpp).
    Status may_give_back() const noexcept {
        if (!joined.load(std::memory_order_relaxed)) [[unlikely]]
            return Status::closed;
        return corrupt() ? Status::corrupt : Status::ok;
    }
    bool corrupt() const noexcept { return header().corrupt.load_relaxed() != 0; }
    // A pool that was left is not written to: what is read in it is no longer ours.
    void mark_corrupt() noexcept {
        if (joined.load(std::memory_order_relaxed)) header().corrupt.store(1);
    }

    // The generation after `old`, for a slot whose byte is held. Not the next number: a lock word
    // in a file that another user has prepared must not happen to name us as its owner, because for
    // a lock of our own we wait as long as it takes.
    static u32 next_generation(u32 old) noexcept;

  private:
    void claim(u32 index, RowState as) noexcept;
    Status reserve_for_child() noexcept;
    bool reserve_row(u32 index) noexcept;
    bool reserve_dead_row(std::int64_t deadline) noexcept;
    bool heap_moves(std::int64_t deadline) noexcept;
    bool a_row_may_come() const noexcept;
    void give_back_child_file() noexcept;
    void exclude(Status why, int error) noexcept;
    Geometry geo_{};
    std::atomic<u32> wait_places_{0};  // bit i: a thread of this process has row.waits[i]
    os::SharedFile without_locks_;     // opened when it is first needed
    // Between `fork_reserve` and the end of the fork.
    os::SharedFile child_file_;
    u32 child_slot_ = kNoSlot;
    Status child_excluded_ = Status::ok;
    int child_errno_ = 0;
};

// Writes a fresh segment into (base, length): the file is reserved up to the fixed tables.
void format(unsigned char* base, const Geometry& g, u64 flags) noexcept;
u64 fixed_bytes(const Geometry& g) noexcept;  // what must be reserved before `format`

// Members that must follow a fork. Of one that is in the making a child gets nothing: it closes the
// copy of the descriptor, and unmaps what it has inherited.
void register_member(Member& m, bool made = true) noexcept;
void forget_member(Member& m) noexcept;

// ---- the dead
// Cleans up after every dead member; returns how many there were. Recovery, a layer above, has
// installed itself in `Member::recover_slot`.
u32 recover_dead(Member& m) noexcept;
// The same, for a caller that only looks. It also notes that the pool's descriptor was lost, even
// if there is no member to ask for.
u32 collect_dead(Member& m) noexcept;

}  // namespace onecopy
