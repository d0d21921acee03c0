#include "locks/rwlock.hpp"

#include "bindings/instance.hpp"
#include "bindings/methods.hpp"
#include "bindings/sync.hpp"

namespace onecopy::py {
namespace {

constexpr const char* kWhat = "the lock";

struct RwLockObject : SyncObject<RwLock> {
    OnDeath on_death;
};

bool usable(const RwLockObject& o) noexcept {
    return o.usable(kWhat);
}

PyObject* refuse(bool write) noexcept {
    PyErr_SetString(PyExc_RuntimeError,
                    write
                        ? "this thread has the lock already and would wait for itself: a reader "
                          "cannot become a writer. Release the read lock first, take the write "
                          "lock, and look again at what you read"
                        : "this thread has the lock for writing, and may read under it; taking it "
                          "for reading as well would wait for itself");
    return nullptr;
}

PyObject* acquire(PyObject* self, bool write, std::int64_t deadline) noexcept {
    auto* o = static_cast<RwLockObject*>(instance_of(self));
    if (o == nullptr) return nullptr;
    const Pinned pinned(*o);
    if (!usable(*o)) return nullptr;
    Using call(*o);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = write ? o->sync.write(p) : o->sync.read(p);
    }
    if (s == Status::ok && !o->detached) [[likely]]
        return Py_NewRef(Py_True);
    if (s == Status::deadlock) return refuse(write);
    if (s == Status::table_full)
        return raise(Error::root, "this thread has too many reader-writer locks at a time");
    if (!good(s)) return yes_or_no(s, kWhat);
    if (o->detached) {
        if (s == Status::owner_died)
            o->sync.abandon();
        else
            write ? o->sync.write_release() : o->sync.read_release();
        return closed_meanwhile(kWhat);
    }
    // Held for writing now, also by a thread that wanted to read.
    const OnDeath::Said said = o->on_death.tell(self, o->sync.died(), write);
    if (said == OnDeath::Said::dealt_with) {
        if (!write) o->sync.downgrade();
        return Py_NewRef(Py_True);
    }
    // A reader cannot repair. It gets nothing, and the next owner gets `owner_died` again.
    if (said == OnDeath::Said::failed || !write) o->sync.abandon();
    return nullptr;
}

PyObject* release(PyObject* self, bool write) noexcept {
    auto* o = static_cast<RwLockObject*>(instance_of(self));
    if (o == nullptr) return nullptr;
    const Pinned pinned(*o);
    if (!usable(*o)) return nullptr;
    Using call(*o);
    const Status s = write ? o->sync.write_release() : o->sync.read_release();
    if (s == Status::ok) [[likely]]
        return Py_NewRef(Py_None);
    if (s != Status::not_held) return raise_status(s, kWhat);
    PyErr_Format(PyExc_RuntimeError, "this thread does not have the lock for %s",
                 write ? "writing" : "reading");
    return nullptr;
}

// One side of a lock, as an object to use with `with`: it refers to the lock and has no state.
struct SideObject {
    PyObject* lock = nullptr;
    PyObject* timeout = nullptr;
    bool write = false;
    SideObject() = default;
    SideObject(const SideObject&) = delete;
    SideObject& operator=(const SideObject&) = delete;
    ~SideObject() {
        Py_XDECREF(lock);
        Py_XDECREF(timeout);
    }
};

PyObject* side(nb::handle lock, bool write, Timeout timeout) noexcept {
    PyObject* object = new_instance(nb::type<SideObject>());
    if (object == nullptr) return nullptr;
    auto* s = new (nb::inst_ptr<SideObject>(object)) SideObject;
    nb::inst_mark_ready(object);
    s->lock = Py_NewRef(lock.ptr());
    s->timeout = Py_NewRef(timeout.ptr());
    s->write = write;
    return object;
}

PyObject* enter(SideObject& s) noexcept {
    Deadline deadline;
    if (!standard_deadline(Py_True, s.timeout, deadline)) return nullptr;
    PyObject* got = acquire(s.lock, s.write, deadline);
    if (got != Py_False) return got;
    Py_DECREF(got);
    const char* what = s.write ? "writing" : "reading";
    if (deadline == kNoWait) {
        PyErr_Format(PyExc_TimeoutError, "the lock could not be taken for %s at once", what);
    } else {
        PyErr_Format(PyExc_TimeoutError, "the lock could not be taken for %s within %S seconds",
                     what, s.timeout);
    }
    return nullptr;
}

// Pickled and copied as the lock and a call of it.
PyObject* reduce_side(SideObject& s) noexcept {
    PyObject* method = PyObject_GetAttrString(s.lock, s.write ? "write" : "read");
    return method == nullptr ? nullptr : Py_BuildValue("N(O)", method, s.timeout);
}

int traverse_side(PyObject* self, visitproc visit, void* arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    if (nb::inst_ready(self)) {
        Py_VISIT(nb::inst_ptr<SideObject>(self)->lock);
        Py_VISIT(nb::inst_ptr<SideObject>(self)->timeout);
    }
    return 0;
}
int clear_side(PyObject* self) noexcept {
    if (nb::inst_ready(self)) {
        Py_CLEAR(nb::inst_ptr<SideObject>(self)->lock);
        Py_CLEAR(nb::inst_ptr<SideObject>(self)->timeout);
    }
    return 0;
}
PyType_Slot side_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(&traverse_side)},
    {Py_tp_clear, reinterpret_cast<void*>(&clear_side)},
    {0, nullptr},
};

}  // namespace

void bind_rwlock(nb::module_& m) {
    channel_kinds().push_back(&channel_of<RwLockObject>);
    Class<SideObject> side_type(m, "RWSide", nb::type_slots(side_slots),
                                "The reading or the writing side of an RWLock.");
    side_type
        .def(
            "release", [](SideObject& s) noexcept { return result(release(s.lock, s.write)); },
            "Give it back, in the thread that took it.")
        .def("__reduce__", of<&reduce_side>)
        .def("__enter__", of<&enter>)
        .def(
            "__exit__",
            [](SideObject& s, nb::handle, nb::handle, nb::handle) noexcept {
                return release(s.lock, s.write);
            },
            arg("kind"), arg("error"), arg("traceback"));
    bind_acquire(
        side_type,
        [](SideObject& s, Given block, Timeout timeout, nb::handle blocking) noexcept {
            Deadline deadline;
            if (timeout.seconds == Py_None) timeout.seconds = s.timeout;
            return acquire_deadline(block, timeout, blocking, deadline)
                       ? acquire(s.lock, s.write, deadline)
                       : nullptr;
        },
        "Take this side; False: not in time. `blocking` is another name of `block`.");

    Class<RwLockObject> type(m, "RWLockBase", nb::is_weak_referenceable(),
                             nb::type_slots(collectable<RwLockObject>()),
                             "A reader-writer lock in a pool; see `onecopy.RWLock`.");
    type.def(
            "__init__",
            [](RwLockObject* self, nb::handle hold, nb::handle member, u32 prefer,
               nb::handle on_death) {
                construct_sync(self, hold, member, kWhat,
                               [&](Member& core, WaitPolicy& p, Handle& out) noexcept {
                                   return RwLock::create(core, static_cast<Prefer>(prefer), p, out);
                               });
                self->on_death.set(on_death.ptr());
            },
            arg("hold"), arg("member"), arg("prefer"), arg("on_death"))
        .def_prop_ro("_prefer",
                     [](RwLockObject& o) noexcept { return static_cast<u32>(o.sync.prefer()); })
        .def_prop_ro(
            "readers",
            [](RwLockObject& o) noexcept {
                return result(usable(o) ? PyLong_FromUnsignedLong(o.sync.readers()) : nullptr);
            },
            "How many read now, in processes that live.")
        .def_prop_ro(
            "_owner_info",
            [](RwLockObject& o) noexcept {
                Owner who;
                if (!usable(o)) return result(nullptr);
                return result(o.sync.owner(who) ? owner_tuple(who.pid, who.alive, who.since_ns)
                                                : Py_NewRef(Py_None));
            },
            "The process that writes: pid, whether it lives, seconds since it began.");
    type.def(
            "read",
            [](nb::handle self, Timeout timeout) noexcept { return side(self, false, timeout); },
            arg("timeout", nb::none()), "The reading side, for `with`, or to acquire and release.")
        .def(
            "write",
            [](nb::handle self, Timeout timeout) noexcept { return side(self, true, timeout); },
            arg("timeout", nb::none()), "The writing side, for `with`, or to acquire and release.");
    bind_channel<RwLockObject>(type, kWhat);
}

}  // namespace onecopy::py
