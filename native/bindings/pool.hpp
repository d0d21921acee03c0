// What a process knows of a pool beyond the core's Member, and holds on its blocks. Everything here
// is used with the GIL held, or, without a GIL, with a thread state.
#pragma once
#include <memory>
#include <utility>

#include "bindings/free_threading.hpp"
#include "bindings/numpy_api.hpp"
#include "heap/blocks.hpp"
#include "segment/file.hpp"

namespace onecopy::py {

struct MemberObject;  // the Python class Member

struct Pool {
    std::shared_ptr<Member> member;
    // Whether a process of another uid may write here. It is read from the file when that is
    // opened, and not from the header, which a process that can write the pool can change. A later
    // chmod by the owner is not noticed: an owner that gives away a pool in use gives away what its
    // members read.
    bool others_may_write = false;
#ifdef Py_GIL_DISABLED
    PyObject* wrapper = nullptr;  // a weak reference to the Python object; guarded by the table
#else
    MemberObject* wrapper = nullptr;     // the Python object, while there is one
    PyObject* wrapper_object = nullptr;  // borrowed
#endif
    Shared<u64> users = 0;  // how many PoolPtr there are

    Member& core() const noexcept { return *member; }
};

// A share in a Pool, which is destroyed with its last share. With the GIL, the count is no atomic:
// one put and get of an array changes it a dozen times.
class PoolPtr {
  public:
    PoolPtr() = default;
    PoolPtr(std::nullptr_t) noexcept {}
    explicit PoolPtr(Pool* pool) noexcept : pool_(pool) {
        if (pool_ != nullptr) ++pool_->users;
    }
    PoolPtr(const PoolPtr& other) noexcept : PoolPtr(other.pool_) {}
    PoolPtr(PoolPtr&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)) {}
    PoolPtr& operator=(PoolPtr other) noexcept {
        std::swap(pool_, other.pool_);
        return *this;
    }
    ~PoolPtr() {
        if (pool_ != nullptr && --pool_->users == 0) destroy(pool_);
    }

    // Takes over a share that is there.
    static PoolPtr taking_over(Pool* pool) noexcept {
        PoolPtr made;
        made.pool_ = pool;
        return made;
    }

    Pool* operator->() const noexcept { return pool_; }
    Pool& operator*() const noexcept { return *pool_; }
    friend bool operator==(const PoolPtr&, const PoolPtr&) = default;

  private:
    static void destroy(Pool* pool) noexcept;
    Pool* pool_ = nullptr;
};

// The one Pool of a member.
PoolPtr pool_of(std::shared_ptr<Member> member);
// The Python object Member; a new reference, or nullptr with an exception set.
PyObject* member_object(const PoolPtr& pool) noexcept;

// One hold on a block. It is dropped with this object.
class Held {
  public:
    Held() = default;
    Held(PoolPtr pool, u32 index) noexcept
        : pool_(std::move(pool)), index_(index) {}  // takes over a hold that is there
    Held(Held&& other) noexcept
        : pool_(std::move(other.pool_)), index_(std::exchange(other.index_, 0)) {}
    Held& operator=(Held&& other) noexcept {
        if (this != &other) {
            // Released last, because the GIL may be released by that.
            const Held old(std::move(*this));
            pool_ = std::move(other.pool_);
            index_ = std::exchange(other.index_, 0);
        }
        return *this;
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ~Held() { release(); }

    explicit operator bool() const noexcept { return index_ != 0; }
    u32 index() const noexcept { return index_; }
    const PoolPtr& pool() const noexcept { return pool_; }
    Member& core() const noexcept { return pool_->core(); }
    // A second hold on the same block.
    Held again() const noexcept {
        if (index_ != 0) hold_again(core(), index_);
        return {pool_, index_};
    }
    // The pool too: an object that holds nothing in it is no reason to stay a member.
    void release() noexcept {
        if (pool_ == nullptr) [[likely]]  // most were moved from
            return;
        // Taken out first: the GIL may be released, and another thread may find this object.
        const PoolPtr pool = std::move(pool_);
        if (const u32 index = std::exchange(index_, 0); index != 0) {
            UnboundedWait wait;
            drop(pool->core(), index, wait);
        }
    }

  private:
    PoolPtr pool_;
    u32 index_ = 0;
};

// The hold of an object that several threads may have: one may release it while another looks.
#ifdef Py_GIL_DISABLED
class HeldSlot {
  public:
    HeldSlot(Held held) noexcept : held_(std::move(held)) {}
    Held again() const noexcept {
        const Table::Inside inside(table_);
        return held_.again();
    }
    Held take() noexcept {
        const Table::Inside inside(table_);
        return std::move(held_);
    }

  private:
    Held held_;
    mutable Table table_;
};
// What it holds, to look at: the caller's own hold.
inline Held look(const HeldSlot& slot) noexcept {
    return slot.again();
}
inline Held take_out(HeldSlot& slot) noexcept {
    return slot.take();
}
// From what `look` answered: a hold of one's own.
inline Held own(Held&& seen) noexcept {
    return std::move(seen);
}
#else
using HeldSlot = Held;
inline const Held& look(const HeldSlot& slot) noexcept {
    return slot;
}
inline Held take_out(HeldSlot& slot) noexcept {
    return std::move(slot);
}
inline Held own(const Held& seen) noexcept {
    return seen.again();
}
#endif

}  // namespace onecopy::py
