// What the classes of locks have in common.
#pragma once
#include "bindings/methods.hpp"

namespace onecopy::py {

template <class Core>
struct SyncObject : Channel {
    Core sync;
};

// Calls the core's `create` or `open`, in a constructor; `what` as in "the lock". Throws the
// exception for Python.
template <class Object, class Create>
void construct_sync(Object* self, nb::handle hold, nb::handle member, const char* what,
                    Create create_it) {
    auto fresh = std::make_unique<Object>();
    bool create = false;
    check(open_channel(*fresh, hold.ptr(), member.ptr(), create));
    Status s = Status::ok;
    if (create) {
        GilWaitPolicy p;
        s = create_it(fresh->core(), p, fresh->handle);
    }
    if (s == Status::ok) {
        if (create) fresh->held = Held(fresh->pool, handle_index(fresh->handle));
        s = decltype(fresh->sync)::open(fresh->core(), fresh->handle, fresh->sync);
        if (s == Status::bad_argument) {
            PyErr_Format(PyExc_ValueError, "the block is not %s", what);
            throw nb::python_error();
        }
    }
    if (s != Status::ok) {
        raise_status(s, what, fresh->pool, 4096);
        throw nb::python_error();
    }
    new (self) Object(std::move(*fresh));
}

// `handle`, `member` and `detach`, which every channel has.
template <class Object, class Class>
void bind_channel(Class& type, const char* what) {
    type.def(
            "detach", [](Object& o) noexcept { o.detach(); },
            "Release it in this process; other processes keep it.")
        .def_prop_ro(
            "handle", [](Object& o) noexcept { return o.handle; }, "Its number in the pool.")
        .def_prop_ro(
            "member",
            [what](Object& o) noexcept {
                return result(o.usable(what) ? member_object(o.pool) : nullptr);
            },
            "The process's membership in the pool.");
}

// True, False (not in time), or an exception: what `acquire` and `wait` answer in the standard
// library.
inline PyObject* yes_or_no(Status s, const char* what) noexcept {
    if (s == Status::ok) [[likely]]
        return Py_NewRef(Py_True);
    if (s == Status::timed_out || s == Status::would_block) return Py_NewRef(Py_False);
    return raise_status(s, what);
}

// (pid, alive, seconds since it took the lock).
PyObject* owner_tuple(u32 pid, bool alive, std::int64_t since_ns) noexcept;

// How long `acquire` waits: `block`, as multiprocessing calls it, or `blocking`, as threading does.
// False with an exception set.
inline bool acquire_deadline(Given block, Timeout timeout, nb::handle blocking,
                             Deadline& out) noexcept {
    PyObject* wait = block.object;
    if (!blocking.is_none()) [[unlikely]] {
        const int asked = PyObject_IsTrue(blocking.ptr());
        const int also = block.passed ? PyObject_IsTrue(block.object) : asked;
        if (asked < 0 || also < 0) return false;
        if (asked != also) {
            PyErr_Format(PyExc_TypeError,
                         "acquire() got block=%R and blocking=%R, which are two names of the same "
                         "argument: pass one of them",
                         block.object, blocking.ptr());
            return false;
        }
        wait = blocking.ptr();
    }
    return standard_deadline(wait, timeout.seconds, out);
}

template <class Class, class Take>
void bind_acquire(Class& type, Take take, const char* doc) {
    type.def("acquire", take, arg("block", true), arg("timeout", nb::none()), ByName{},
             arg("blocking", nb::none()), doc);
}

// Another thread closed the pool while this one was in the call: what it got has been given back.
inline PyObject* closed_meanwhile(const char* what) noexcept {
    return raise(Error::closed, "%s was closed in this process while it was waited for", what);
}

// The Python callable that a lock's object calls after a death. It may refer back to the lock: the
// garbage collector knows.
struct OnDeath {
    PyObject* callable = nullptr;
    OnDeath() = default;
    OnDeath(OnDeath&& other) noexcept : callable(std::exchange(other.callable, nullptr)) {}
    OnDeath(const OnDeath&) = delete;
    OnDeath& operator=(const OnDeath&) = delete;
    ~OnDeath() { Py_CLEAR(callable); }
    void set(PyObject* object) noexcept { Py_XSETREF(callable, Py_NewRef(object)); }
    enum class Said { dealt_with, keep, failed };
    // Calls it with the lock, the pid, and whether the lock is held for good. An exception is set,
    // unless it was dealt with. `keep`: the exception is OwnerDied, so the lock stays held.
    Said tell(PyObject* lock, u32 pid, bool stays = true) const noexcept {
        PyObject* type = error_class(Error::owner_died);  // before there is an exception
        PyObject* answer = PyObject_CallFunction(callable, "OIO", lock, static_cast<unsigned>(pid),
                                                 stays ? Py_True : Py_False);
        Py_XDECREF(answer);
        if (answer != nullptr) return Said::dealt_with;
        return type != nullptr && PyErr_ExceptionMatches(type) ? Said::keep : Said::failed;
    }
};

template <class Object>
int traverse_sync(PyObject* self, visitproc visit, void* arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    if (!nb::inst_ready(self)) return 0;
    Object* object = nb::inst_ptr<Object>(self);
    Py_VISIT(object->on_death.callable);
    if constexpr (requires { object->then; }) Py_VISIT(object->then.peek());
    return 0;
}
template <class Object>
int clear_sync(PyObject* self) noexcept {
    if (!nb::inst_ready(self)) return 0;
    Object* object = nb::inst_ptr<Object>(self);
    Py_CLEAR(object->on_death.callable);
    if constexpr (requires { object->then; }) object->then.set(nullptr);
    return 0;
}
template <class Object>
PyType_Slot* collectable() noexcept {
    static PyType_Slot slots[] = {
        {Py_tp_traverse, reinterpret_cast<void*>(&traverse_sync<Object>)},
        {Py_tp_clear, reinterpret_cast<void*>(&clear_sync<Object>)},
        {0, nullptr},
    };
    return slots;
}

void bind_mutex(nb::module_& m);
void bind_rwlock(nb::module_& m);
void bind_semaphore(nb::module_& m);
void bind_event(nb::module_& m);
void bind_condition(nb::module_& m);  // after bind_mutex
void bind_barrier(nb::module_& m);

}  // namespace onecopy::py
