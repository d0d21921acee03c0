// The module's classes, and what they have in common.
#pragma once
#include "bindings/numpy_api.hpp"

#include <nanobind/nanobind.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "bindings/errors.hpp"
#include "bindings/pool.hpp"
#include "bindings/wait_policy.hpp"
#include "directory/directory.hpp"

namespace onecopy::py {

namespace nb = nanobind;

void bind_member(nb::module_& m);
void bind_ref(nb::module_& m);
void bind_queue(nb::module_& m);
void bind_stream(nb::module_& m);
void bind_frames(nb::module_& m);
void bind_waits(nb::module_& m);

// For functions that answer nullptr with an exception set: nanobind passes the exception on without
// throwing in C++.
inline nb::object result(PyObject* object) noexcept {
    return nb::steal<nb::object>(object);
}
inline nb::object none_or_error(bool done) noexcept {
    return result(done ? Py_NewRef(Py_None) : nullptr);
}
// Where nanobind needs a C++ exception (constructors).
inline void check(bool done) {
    if (!done) throw nb::python_error();
}

// Calls it for every pool that this process has joined.
void for_each_pool(const std::function<void(Member&)>& act);  // may throw bad_alloc
nb::list all_members();

struct MemberObject {
    PoolPtr pool;
    explicit MemberObject(PoolPtr p) noexcept : pool(std::move(p)) {}
    MemberObject(const MemberObject&) = delete;
    MemberObject& operator=(const MemberObject&) = delete;
    ~MemberObject();
};

// Keeps a block alive for Python code that is about to open it.
struct HoldObject {
    HeldSlot held;
    Handle handle;
};

// A structure in a pool, as one Python object has it. `detach` releases it. Threads that are in a
// call keep it until they return.
struct Channel {
    PoolPtr pool;
    Held held;
    Handle handle = 0;
    Shared<int> busy = 0;
    Shared<bool> detached = false;
#ifdef Py_GIL_DISABLED
    Shared<bool> released = false;  // `busy` may come to 0 more than once
#endif

    Member& core() const noexcept { return pool->core(); }
    Held hold() noexcept;
    // Whether its memory may be read.
    bool reachable() const noexcept { return !detached && pool->core().excluded == Status::ok; }
    bool usable(const char* what) const noexcept {
        if (reachable()) [[likely]]
            return true;
        if (detached) {
            raise(Error::closed, "%s is closed in this process", what);
        } else {
            raise_closed(pool->core(), what);
        }
        return false;
    }
    void detach() noexcept {
        detached = true;
        if (busy == 0) release();
    }
    // The pool too: a process that has closed its last object in a pool is no member any more, even
    // if Python still has the empty object.
    void release() noexcept {
#ifdef Py_GIL_DISABLED
        if (exchange(released, true)) return;
#endif
        held.release();
        const PoolPtr last = std::move(pool);
    }
};
// Around every call that uses the pool: the GIL may be released in it, and another thread may
// detach. Without the GIL, another thread may do that between `usable` and this. So each method has
// one from its beginning (Entered in methods.hpp), and what looks at the channel of another object
// has `Pinned`. What a channel refers to does not change as long as one of these lives and
// `detached` was false after it was made.
class Using {
  public:
    explicit Using(Channel& c) noexcept : channel_(c) { ++channel_.busy; }
    [[gnu::always_inline]] ~Using() {
        if (--channel_.busy == 0 && channel_.detached) [[unlikely]]
            channel_.release();
    }
    Using(const Using&) = delete;
    Using& operator=(const Using&) = delete;

  private:
    Channel& channel_;
};

#ifdef Py_GIL_DISABLED
using Pinned = Using;
#else
struct Pinned {
    explicit Pinned(Channel&) noexcept {}
    ~Pinned() {}
};
#endif

// A hold of one's own on the block of a channel; empty: it was detached.
inline Held Channel::hold() noexcept {
#ifdef Py_GIL_DISABLED
    const Using call(*this);
    if (detached) return {};
#endif
    return held.again();
}

template <class T>
Channel* channel_of(PyObject* object) noexcept {
    return nb::isinstance<T>(object) && nb::inst_ready(object)
               ? static_cast<Channel*>(nb::inst_ptr<T>(object))
               : nullptr;
}
// Each class that is a channel adds its `channel_of` here.
using AsChannel = Channel* (*)(PyObject*) noexcept;
std::vector<AsChannel>& channel_kinds() noexcept;
Channel* channel_behind(PyObject* object) noexcept;  // nullptr: it is none

// From `hold` (None: make a new one) and `member`, as Python passes them. False: an exception is
// set.
bool open_channel(Channel& channel, PyObject* hold, PyObject* member, bool& create) noexcept;
MemberObject* as_member(PyObject* object) noexcept;  // nullptr with TypeError set
// The block that a Ref, a Hold, a queue, a stream, frames, a lease or an array stands for, held
// once more. Empty with an exception set.
Held held_by(const PoolPtr& pool, PyObject* object, Handle& handle) noexcept;
// Whether another process holds a block. If none does, this process would wait for memory that only
// itself can free.
bool others_hold(Member& m) noexcept;

}  // namespace onecopy::py
