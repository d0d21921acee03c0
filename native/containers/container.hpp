// What the shared list and the shared dict have in common: a body with two locks, and a table of
// slots that grows and never moves.
//
//|  body      magic, lock, seed; cells: root -> table, mutex -> the users' RLock
//|  table     cells: main (list: the order; dict: the buckets), chunk[0..25]; derived: free list
//|  chunk k   16 << k entries: first their reference cells, then their records
//
// A value is a block (an envelope) that a cell refers to. Everything but the seeds is read and
// written under `lock`. An operation holds that lock as long as it works: a few dozen instructions
// for one entry or for the end of a list; four bytes copied for each item if the order of a list
// changes; a hold for each item of a slice or snapshot; a reference for each item that is put in or
// cleared. If the owner of the lock has died, the next owner rebuilds what is derived, and clears
// the cells that nothing leads to (`rebuild`). Blocks are allocated before the lock is taken, and
// freed after it is released. The process's own memory is allocated before anything is changed;
// otherwise the answer is `out_of_memory`.
//
// The users' lock is for compound updates. An operation does not take it. Under `lock` it looks
// whether another thread has it, and answers `would_block` then. A thread that takes the users'
// lock goes through `lock` once afterwards (`pass`): then no operation is inside any more that has
// not seen it.
//
// COMMITS of both: grow: chunk[k] := new. clear, and taking out the last of many: root := a fresh
// table.
#pragma once
#include <string>
#include <vector>

#include "base/bits.hpp"
#include "base/private_memory.hpp"
#include "locks/mutex.hpp"

namespace onecopy {

constexpr u32 kFirstChunk = 16;  // entries of the first chunk
constexpr u32 kFewChunks = 4;    // an empty container keeps so many chunks
constexpr u32 kChunks = 26;      // together a little less than 2^30 entries; more: table_full

struct ContainerBody {
    static constexpr u64 kMagic = 0x31'74'6e'6f'63'63'6f'6fULL;  // "ooccont1"
    shm_atomic<u64> magic;
    LockWord lock;
    shm_atomic<u32> spare;
    shm_atomic<u64> seeds[2];  // fixed: for a dict's hash
    shm_atomic<u64> root;      // cell
    shm_atomic<u64> mutex;     // cell, fixed
    ONECOPY_SHARED_STRUCT(ContainerBody, magic, lock, spare, seeds, root, mutex)
};

struct ContainerTable {
    shm_atomic<u64> main;             // cell
    shm_atomic<u64> chunks[kChunks];  // cells; those that exist come first
    // Derived. Links are slot+1, 0 ends.
    shm_atomic<u32> free;         // list through `next` of the records
    shm_atomic<u32> free_count;   // its length
    shm_atomic<u32> top;          // slots at and above it have never been used, or are clear
    shm_atomic<u32> count;        // dict: entries
    shm_atomic<u32> first, last;  // dict: in the order of insertion
    shm_atomic<u64> ordinal;      // dict: of the next entry
    ONECOPY_SHARED_STRUCT(ContainerTable, main, chunks, free, free_count, top, count, first, last,
                          ordinal)
};

// A block that this process holds until it has its place, or is not needed.
class Spare {
  public:
    Spare(Member& m, WaitPolicy& p) noexcept : m_(m), policy_(p) {}
    ~Spare() { release(); }
    Spare(const Spare&) = delete;
    Spare& operator=(const Spare&) = delete;

    // Not under a container's lock.
    Status get(u64 bytes, BodyKind kind, bool zero) noexcept;
    void release() noexcept;
    explicit operator bool() const noexcept { return index_ != 0; }
    u64 bytes() const noexcept { return bytes_; }
    unsigned char* data() const noexcept { return data_; }
    Handle handle() const noexcept { return handle_; }
    u32 index() const noexcept { return index_; }

  private:
    Member& m_;
    WaitPolicy& policy_;
    u32 index_ = 0;
    Handle handle_ = 0;
    unsigned char* data_ = nullptr;
    u64 bytes_ = 0;
};

// Keeps a block for `validate`. Without it, another process could release the block, and its
// memory would be reused during the check.
class Kept {
  public:
    Kept(Member& m, Handle h) noexcept
        : m_(m), index_(handle_index(h)), is_(hold(m, h) == Status::ok) {}
    ~Kept() {
        UnboundedWait wait;
        if (is_) drop(m_, index_, wait);
    }
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;
    explicit operator bool() const noexcept { return is_; }

  private:
    Member& m_;
    u32 index_;
    bool is_;
};

// What an operation has taken out of cells. It is freed after the lock is released. If there is no
// memory to note it, it is freed under the lock: the heap lock may be taken under a container's.
class Dropped {
  public:
    Dropped(Member& m, WaitPolicy& p) noexcept : m_(m), policy_(p) {}
    ~Dropped() {
        if (one_ != 0) try_free(m_, handle_index(one_), policy_);
        for (Handle h : others_)
            try_free(m_, handle_index(h), policy_);
    }
    Dropped(const Dropped&) = delete;
    Dropped& operator=(const Dropped&) = delete;
    void add(Handle h) noexcept {
        if (one_ == 0) {
            one_ = h;
            return;
        }
        if (within_memory([&] { return others_.push_back(h), Status::ok; }) == Status::ok) return;
        UninterruptibleWait uninterruptible(policy_);
        try_free(m_, handle_index(h), uninterruptible);
    }

  private:
    Member& m_;
    WaitPolicy& policy_;
    Handle one_ = 0;  // most operations drop one at most
    std::vector<Handle> others_;
};

class Container {
  public:
    // Of the users' lock, for `Mutex::open`.
    Handle mutex_handle() const noexcept { return mutex_handle_; }
    Mutex& mutex() noexcept { return mutex_; }
    // Waits until every operation that came before this call has left.
    Status pass(WaitPolicy& p) noexcept;
    // One commit, however many entries there are.
    Status clear(WaitPolicy& p) noexcept;
    static void observe(Member& m, u32 index, Observed& out);

  protected:
    // How a list and a dict differ.
    struct Shape {
        BodyKind body, table, main, chunk;
        u32 cells;   // of an entry
        u32 record;  // its other bytes
        u32 next;    // where the link of the free list is in these
        u64 entry_bytes() const noexcept { return u64{cells} * 8 + record; }
        u64 layout() const noexcept {
            return fold_layouts({ContainerBody::layout(), ContainerTable::layout(), kFirstChunk,
                                 kChunks, cells, record, next});
        }
    };
    // A block that a cell leads to. It was checked once, and is recognized by its handle from then
    // on.
    struct Part {
        Handle handle = 0;
        unsigned char* data = nullptr;
        u64 length = 0;
    };

    explicit Container(const Shape& shape) noexcept : shape_(&shape) {}
    ~Container() = default;
    Container(const Container&) = default;
    Container& operator=(const Container&) = default;
    static Status make(Member& m, const Shape& shape, WaitPolicy& p, Handle& out) noexcept;
    Status open_as(Member& m, Handle h) noexcept;

    // This thread has the lock as long as one of these lives, if its status is ok.
    class Inside {
      public:
        enum Look : bool { kPass, kLook };
        Inside(Container& c, WaitPolicy& p, Look look = kLook) noexcept
            : container_(c), status(c.enter(p, look == kLook)), inside_(status == Status::ok) {}
        ~Inside() { leave(); }
        Inside(const Inside&) = delete;
        Inside& operator=(const Inside&) = delete;
        void leave() noexcept {
            if (inside_) unlock(container_.b_->lock);
            inside_ = false;
        }

      private:
        Container& container_;

      public:
        const Status status;

      private:
        bool inside_;
    };

    // May throw bad_alloc, before it has changed anything that a second try would miss.
    virtual Status rebuild() = 0;
    virtual Status is_empty(bool& out) noexcept = 0;

    ContainerTable& table() const noexcept {
        return *reinterpret_cast<ContainerTable*>(table_.data);
    }
    // Everything from here on: lock held.
    Status broken() noexcept {
        m_->mark_corrupt();
        return Status::corrupt;
    }
    // Makes `part` the block that a cell contains. corrupt: it is no such block.
    Status look_up(Part& part, Handle h, BodyKind kind, u64 least) noexcept;
    Status find_table() noexcept;
    // Entries of the chunks that exist.
    u32 capacity() noexcept;
    bool exists(u32 slot) noexcept { return slot < capacity_ || slot < capacity(); }
    // Of a slot that exists. For any other slot (the pool lies) it is the table, which is as long
    // as a record. So a damaged pool may be damaged further, but nothing else is.
    shm_atomic<u64>& cell(u32 slot, u32 which = 0) const noexcept;
    unsigned char* record(u32 slot) const noexcept;
    shm_atomic<u32>& next_of(u32 slot) const noexcept {
        return *reinterpret_cast<shm_atomic<u32>*>(record(slot) + shape_->next);
    }
    bool room_for(u64 slots) noexcept;
    Status take_slot(u32& out) noexcept;
    void give_slot(u32 slot) noexcept;
    // Empties a cell that nothing leads to any more.
    void empty(shm_atomic<u64>& which, Dropped& dropped) noexcept;
    // `out` is set only if it is held.
    Status hold_value(Handle h, Handle& out) noexcept;
    // Makes the free list again. `used` says which slots below `top` are not free.
    void rebuild_free(const std::vector<bool>& used) noexcept;
    u32 next_chunk() noexcept;  // its number; kChunks: there are as many as there can be
    bool has_many_chunks() noexcept { return next_chunk() > kFewChunks; }
    // Puts the chunk that `get_chunk` made in its place, unless there is one by now.
    Status add_chunk(Spare& spare, u32 number) noexcept;
    // Not under the lock.
    Status get_chunk(Spare& spare, u32 number) noexcept;
    // If the container is empty and has grown, gives its memory back to the pool. It is for an
    // operation that has emptied it, or has made it grow for nothing. It may fail without harm.
    void tidy(WaitPolicy& p) noexcept;

    // What `validate` found. At most 20 lines are kept.
    class Problems {
      public:
        explicit Problems(std::string of) : of_(std::move(of)) {}
        void operator()(const char* what) {
            if (lines.size() < 20) lines.push_back(of_ + what);
        }
        std::vector<std::string> lines;

      private:
        std::string of_;
    };
    // For `validate`: opens the container and calls `check(container, problems)` with its lock
    // held.
    template <class Kind, class Check>
    static std::vector<std::string> check_inside(Member& m, u32 index, const char* kind,
                                                 Check check);
    // Lock held.
    void check_free(const std::vector<bool>& used, Problems& say);

    const Shape* shape_;
    Member* m_ = nullptr;
    ContainerBody* b_ = nullptr;
    Part table_, main_;

  private:
    Status enter(WaitPolicy& p, bool look) noexcept;
    unsigned char* astray() const noexcept {
        m_->mark_corrupt();
        return table_.data;
    }
    static u32 chunk_of(u32 slot) noexcept { return log2_floor(slot / kFirstChunk + 1); }
    static u32 start_of(u32 chunk) noexcept { return kFirstChunk * ((1u << chunk) - 1); }

    Mutex mutex_;
    Handle mutex_handle_ = 0;
    // The tag for which the following is known: a fork's child finds it out for itself
    u32 tag_ = 0;
    u32 capacity_ = 0;
    u32 chunk_count_ = 0;
    unsigned char* chunks_[kChunks] = {};
};

template <class Kind, class Check>
std::vector<std::string> Container::check_inside(Member& m, u32 index, const char* kind,
                                                 Check check) {
    const std::string name = kind + (" " + std::to_string(index)) + ": ";
    const Handle handle = handle_of(m, index);
    const Kept kept(m, handle);
    if (!kept) return {};
    Kind container;
    if (Kind::open(m, handle, container) != Status::ok) return makes_no_sense(name);
    WaitPolicy p(os::monotonic_ns() + 5'000'000'000);
    const Inside in(container, p, Inside::kPass);
    Problems problems(name);
    if (in.status == Status::ok)
        check(container, problems);
    else
        problems(
            ("its lock cannot be acquired, status " + std::to_string(static_cast<int>(in.status)))
                .c_str());
    return std::move(problems.lines);
}

}  // namespace onecopy
