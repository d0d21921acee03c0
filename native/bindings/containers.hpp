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
    OnDeath
        on_death;  // told when the users' lock was taken over from a dead owner. Keeps no cycle.
};

// Waits until the users' lock is free, or free for us. False with an exception set.
template <class Core>
bool wait_for_users(ContainerObject<Core>& o) noexcept {
    Mutex mutex = o.sync.mutex();  // of this thread: it notes who died
    Status s;
    {
        GilPatience p;
        s = mutex.acquire(p);
    }
    if (!good(s)) {
        raise_status(s, "the container's lock");
        return false;
    }
    if (s == Status::owner_died &&
        o.on_death.tell(Py_None, mutex.died()) != OnDeath::Said::dealt_with) {
        mutex.abandon();
        return false;
    }
    mutex.release();
    return true;
}

// One operation, once nobody else has the users' lock. `interrupted`: an exception is set.
template <class Core, class Act>
Status run(ContainerObject<Core>& o, Act act) noexcept {
    for (;;) {
        Status s;
        {
            GilPatience p;
            s = act(p);
        }
        if (s != Status::would_block) [[likely]]
            return s;
        if (!wait_for_users(o)) return Status::interrupted;
    }
}

// Blocks that the core has held for us, as holds that go with this.
inline std::vector<Held> held_all(const PoolPtr& pool, const std::vector<Handle>& handles) {
    std::vector<Held> all;
    all.reserve(handles.size());
    for (Handle h : handles)
        all.emplace_back(pool, handle_index(h));
    return all;
}
inline PyObject* list_of_refs(std::vector<Held>&& all) noexcept {
    PyObject* list = PyList_New(static_cast<Py_ssize_t>(all.size()));
    for (std::size_t i = 0; list != nullptr && i < all.size(); ++i) {
        PyObject* ref = make_ref(std::move(all[i]));
        if (ref == nullptr) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), ref);
        }
    }
    return list;
}
inline PyObject* list_of_objects(std::vector<Held>&& all) noexcept {
    PyObject* list = PyList_New(static_cast<Py_ssize_t>(all.size()));
    for (std::size_t i = 0; list != nullptr && i < all.size(); ++i) {
        PyObject* object = open_envelope(all[i]);
        if (object == nullptr) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), object);
        }
        all[i].release();
    }
    return list;
}

template <class Object>
void construct_container(Object* self, nb::handle hold, nb::handle member, nb::handle on_death,
                         const char* what) {
    using Core = decltype(self->sync);
    construct_sync(self, hold, member, what, [](Member& core, Patience& p, Handle& out) noexcept {
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
                const Status s = run(o, [&](Patience& p) { return o.sync.clear(p); });
                return result(s == Status::ok ? Py_NewRef(Py_None)
                                              : raise_status(s, what, o.pool, 512));
            },
            nb::sig("def clear(self) -> None"), "Take everything out, at once.")
        .def(
            "_pass",
            [what](Object& o) noexcept {
                if (!o.usable(what)) return result(nullptr);
                Using call(o);
                Status s;
                {
                    GilPatience p;
                    s = o.sync.pass(p);
                }
                return result(s == Status::ok ? Py_NewRef(Py_None) : raise_status(s, what));
            },
            nb::sig("def _pass(self) -> None"),
            "Wait until no operation that began before is under way.")
        .def_prop_ro("_lock_handle", [](Object& o) noexcept { return o.sync.mutex_handle(); });
    bind_channel<Object>(type, what);
}

void bind_list(nb::module_& m);
void bind_dict(nb::module_& m);

}  // namespace onecopy::py
