// What the classes of shared lists and dicts have in common.
#pragma once
#include <vector>

#include "bindings/codec.hpp"
#include "bindings/ref.hpp"
#include "bindings/sync.hpp"
#include "locks/mutex.hpp"

namespace onecopy::py {

template <class Core>
struct ContainerObject : SyncObject<Core> {
    OnDeath on_death;  // called when the users' lock was taken over from a dead owner. It is part
                       // of no cycle.
};

// Waits until the users' lock is free, or belongs to this thread. It does not take the lock: a
// thread that has it may have to wait for the GIL, and all other processes with it. Another thread
// may be faster then; `run` looks again. A dead owner is reported to every caller until one of them
// has dealt with it. False with an exception set.
template <class Core>
bool wait_for_users(ContainerObject<Core>& o) noexcept {
    Mutex mutex = o.sync.mutex();  // of this thread: it notes which process died
    Status s;
    {
        GilWaitPolicy p;
        s = mutex.await(p);
    }
    if (!good(s)) {
        raise_status(s, "the container's lock");
        return false;
    }
    if (s != Status::owner_died) return true;
    if (o.on_death.tell(Py_None, mutex.died()) != OnDeath::Said::dealt_with) return false;
    mutex.forget();
    return true;
}

// One operation, when no other thread has the users' lock. `interrupted`: an exception is set.
template <class Core, class Act>
Status run(ContainerObject<Core>& o, Act act) noexcept {
    for (;;) {
        Status s;
        {
            GilWaitPolicy p;
            s = act(p);
        }
        if (s != Status::would_block) [[likely]]
            return s;
        if (!wait_for_users(o)) return Status::interrupted;
    }
}

// The users' lock, for an operation that needs it: it runs Python code between its steps, and other
// threads were faster again and again.
template <class Core>
class Alone {
  public:
    explicit Alone(ContainerObject<Core>& o) noexcept : object_(o), mutex_(o.sync.mutex()) {}
    ~Alone() {
        if (has_) mutex_.release();
    }
    Alone(const Alone&) = delete;
    Alone& operator=(const Alone&) = delete;

    // False with an exception set.
    bool take() noexcept {
        Status s;
        {
            GilWaitPolicy p;
            s = mutex_.acquire(p);
            has_ = good(s);
        }
        if (s == Status::owner_died &&
            object_.on_death.tell(Py_None, mutex_.died()) != OnDeath::Said::dealt_with) {
            mutex_.abandon();
            has_ = false;
            return false;
        }
        if (has_) {
            GilWaitPolicy p;
            s = object_.sync.pass(p);
        }
        if (!good(s)) raise_status(s, "the container's lock");
        return good(s);
    }

  private:
    ContainerObject<Core>& object_;
    Mutex mutex_;
    bool has_ = false;
};
// So many tries without the lock.
constexpr int kTriesTogether = 16;

// A search goes through a container in pieces of this size.
constexpr u32 kPiece = 256;

// Blocks that the core holds for this process. Those that the caller does not take are dropped at
// the end.
class Taken {
  public:
    explicit Taken(const PoolPtr& pool) noexcept : pool_(pool) {}
    ~Taken() {
        for (std::size_t i = 0; i < handles.size(); ++i)
            take(i);
    }
    Taken(const Taken&) = delete;
    Taken& operator=(const Taken&) = delete;

    std::size_t size() const noexcept { return handles.size(); }
    Held take(std::size_t i) noexcept {
        return {pool_, handle_index(std::exchange(handles[i], 0))};
    }
    std::vector<Handle> handles;

  private:
    PoolPtr pool_;
};

// `make` gives the object of a block.
template <class Make>
PyObject* list_from(Taken& all, Make make) noexcept {
    PyObject* list = PyList_New(static_cast<Py_ssize_t>(all.size()));
    for (std::size_t i = 0; list != nullptr && i < all.size(); ++i) {
        PyObject* object = make(all.take(i));
        if (object == nullptr) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), object);
        }
    }
    return list;
}
inline PyObject* list_of_refs(Taken& all) noexcept {
    return list_from(all, [](Held held) noexcept { return make_ref(std::move(held)); });
}
inline PyObject* list_of_objects(Taken& all) noexcept {
    return list_from(all, [](Held held) noexcept { return open_envelope(held); });
}
// Whether the object in a block is equal to another one, as list has it: 1, 0; -1 with an exception
// set.
inline int is_equal(const Held& held, PyObject* value) noexcept {
    PyObject* object = open_envelope(held);
    if (object == nullptr) return -1;
    const int equal = PyObject_RichCompareBool(object, value, Py_EQ);
    Py_DECREF(object);
    return equal;
}

template <class Object>
void construct_container(Object* self, nb::handle hold, nb::handle member, nb::handle on_death,
                         const char* what) {
    using Core = decltype(self->sync);
    construct_sync(self, hold, member, what, [](Member& core, WaitPolicy& p, Handle& out) noexcept {
        return Core::create(core, p, out);
    });
    self->on_death.set(on_death.ptr());
}

// `_pass`, `_lock_handle`, `clear`, and what every channel has.
template <class Object, class Class>
void bind_container(Class& type, const char* what) {
    type.def(
            "clear",
            [what](Object& o) noexcept {
                if (!o.usable(what)) return result(nullptr);
                Using call(o);
                const Status s = run(o, [&](WaitPolicy& p) { return o.sync.clear(p); });
                return result(s == Status::ok ? Py_NewRef(Py_None)
                                              : raise_status(s, what, o.pool, 512));
            },
            "Take everything out, at once.")
        .def(
            "_pass",
            [what](Object& o) noexcept {
                if (!o.usable(what)) return result(nullptr);
                Using call(o);
                Status s;
                {
                    GilWaitPolicy p;
                    s = o.sync.pass(p);
                }
                return result(s == Status::ok ? Py_NewRef(Py_None) : raise_status(s, what));
            },
            "Wait until no operation that began before is under way.")
        .def_prop_ro("_lock_handle", [](Object& o) noexcept { return o.sync.mutex_handle(); });
    bind_channel<Object>(type, what);
}

void bind_list(nb::module_& m);
void bind_dict(nb::module_& m);

}  // namespace onecopy::py
