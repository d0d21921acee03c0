#include "bindings/mutex.hpp"

#include <cstdarg>

namespace onecopy::py {

PyObject* owner_tuple(u32 pid, bool alive, std::int64_t since_ns) noexcept {
    const u64 age = static_cast<u64>(os::monotonic_ns()) - static_cast<u64>(since_ns);
    const double held = static_cast<double>(static_cast<std::int64_t>(age)) * 1e-9;
    return Py_BuildValue("(IOd)", static_cast<unsigned>(pid), alive ? Py_True : Py_False,
                         held > 0 ? held : 0.0);
}

namespace {

constexpr const char* kWhat = "the lock";

bool usable(const MutexObject& o) noexcept {
    return o.usable(kWhat);
}

// True, False, or an exception; with OwnerDied it is held.
PyObject* take(PyObject* self, MutexObject& o, std::int64_t deadline) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = o.sync.acquire(p);
    }
    if (s == Status::ok && !o.detached) [[likely]]
        return Py_NewRef(Py_True);
    if (!good(s)) return yes_or_no(s, kWhat);
    if (o.detached) {
        s == Status::ok ? o.sync.release() : o.sync.abandon();
        return closed_meanwhile(kWhat);
    }
    const OnDeath::Said said = o.on_death.tell(self, o.sync.died());
    if (said == OnDeath::Said::dealt_with) return Py_NewRef(Py_True);
    if (said == OnDeath::Said::failed) o.sync.abandon();
    return nullptr;
}

// Whether `acquire` would take it; a dead owner counts as none.
PyObject* wait_ready(MutexObject& o, std::int64_t deadline) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = o.sync.await_turn(p);
    }
    return good(s) ? Py_NewRef(Py_True) : yes_or_no(s, kWhat);
}

PyObject* release(MutexObject& o) noexcept {
    if (!usable(o)) return nullptr;
    if (take_one(o.owed)) [[unlikely]]
        return Py_NewRef(Py_None);
    Using call(o);
    const bool abandon = o.unrepaired && o.sync.mine() && o.sync.once();
    const Status s = abandon ? o.sync.abandon() : o.sync.release();
    if (abandon) o.unrepaired = false;
    if (s == Status::ok) [[likely]]
        return Py_NewRef(Py_None);
    if (s != Status::not_held) return raise_status(s, kWhat);
    if (o.sync.recursive()) {
        raise_not_held(nb::find(o), "cannot release a lock that this thread does not hold");
    } else {
        PyErr_SetString(PyExc_ValueError,
                        "cannot release a lock that nobody holds, or whose holder is dead");
    }
    return nullptr;
}

// All of it in C: no exception of a signal handler can come between taking the lock and returning.
// So a `with` statement that fails to begin has no lock.
PyObject* acquire(PyObject* self, MutexObject& o, std::int64_t deadline) noexcept {
    PyObject* taken = take(self, o, deadline);
    if (taken != Py_True || !o.then) [[likely]]
        return taken;
    PyObject* then = o.then.get();
    PyObject* followed = then == nullptr ? Py_NewRef(Py_None) : PyObject_CallNoArgs(then);
    Py_XDECREF(then);
    if (followed != nullptr) {
        Py_DECREF(followed);
        return taken;
    }
    Py_DECREF(taken);
    SavedError why;
    Py_XDECREF(release(o));
    PyErr_Clear();
    why.restore();
    return nullptr;
}

PyMethodDescrObject* own_acquire = nullptr;
PyMethodDescrObject* own_release = nullptr;

}  // namespace

void bind_mutex(nb::module_& m) {
    channel_kinds().push_back(&channel_of<MutexObject>);
    Class<MutexObject> type(m, "LockBase", nb::is_weak_referenceable(),
                            nb::type_slots(collectable<MutexObject>()),
                            "A lock in a pool; see `onecopy.Lock`.");
    type.def(
            "__init__",
            [](MutexObject* self, nb::handle hold, nb::handle member, bool recursive,
               nb::handle on_death) {
                construct_sync(self, hold, member, kWhat,
                               [&](Member& core, WaitPolicy& p, Handle& out) noexcept {
                                   return Mutex::create(core, recursive, p, out);
                               });
                self->on_death.set(on_death.ptr());
            },
            arg("hold"), arg("member"), arg("recursive"), arg("on_death"))
        .def(
            "locked",
            [](MutexObject& o) noexcept {
                return result(usable(o) ? PyBool_FromLong(o.sync.locked()) : nullptr);
            },
            "Whether a process that is alive has it.")
        .def(
            "_wait_ready",
            [](MutexObject& o, Timeout timeout) noexcept {
                Deadline deadline;
                return result(deadline_of(timeout.ptr(), deadline) ? wait_ready(o, deadline)
                                                                   : nullptr);
            },
            arg("timeout", nb::none()), "Wait until the lock is free, and do not take it.")
        .def(
            "_follow_with",
            [](MutexObject& o, nb::handle then) noexcept { o.then.set(Py_NewRef(then.ptr())); },
            arg("then"),
            "Call it from now on each time the lock was taken. If it raises, the lock is given "
            "back.")
        .def_prop_ro(
            "_mine", [](MutexObject& o) noexcept { return o.reachable() && o.sync.mine(); },
            "Whether this process (recursive: this thread) has it.")
        .def_prop_ro(
            "_owed", [](MutexObject& o) noexcept { return unsigned{o.owed}; },
            "How many of the next releases do nothing.")
        .def_prop_ro("_is_recursive", [](MutexObject& o) noexcept { return o.sync.recursive(); })
        .def_prop_ro(
            "_owner_info",
            [](MutexObject& o) noexcept {
                Owner who;
                if (!usable(o)) return result(nullptr);
                return result(o.sync.owner(who) ? owner_tuple(who.pid, who.alive, who.since_ns)
                                                : Py_NewRef(Py_None));
            },
            "Its owner: pid, whether it is alive, seconds since it took the lock.");
    bind_acquire(
        type,
        [](Self<MutexObject> self, Given block, Timeout timeout, nb::handle blocking) noexcept {
            Deadline deadline;
            return acquire_deadline(block, timeout, blocking, deadline)
                       ? acquire(self.python, self.object, deadline)
                       : nullptr;
        },
        "Take the lock; False: not in time. `blocking` is another name of `block`.");
    type.def("release", of<&release>, "Give it back.")
        .def("__enter__",
             [](Self<MutexObject> self) noexcept {
                 return acquire(self.python, self.object, WaitPolicy::kForever);
             })
        .def(
            "__exit__",
            [](MutexObject& o, nb::handle, nb::handle, nb::handle) noexcept { return release(o); },
            arg("kind"), arg("error"), arg("traceback"));
    bind_channel<MutexObject>(type, kWhat);
    const auto own = [&type](const char* name) {  // kept for ever, as the type is
        return reinterpret_cast<PyMethodDescrObject*>(nb::getattr(type, name).release().ptr());
    };
    own_acquire = own("acquire");
    own_release = own("release");
}

MutexObject* plain_mutex(PyObject* lock) noexcept {
    if (!nb::isinstance<MutexObject>(lock) || !nb::inst_ready(lock)) return nullptr;
    return is_same_method(Py_TYPE(lock), "acquire", own_acquire) &&
                   is_same_method(Py_TYPE(lock), "release", own_release)
               ? nb::inst_ptr<MutexObject>(lock)
               : nullptr;
}

PyObject* raise_not_held(nb::handle self, const char* format, ...) noexcept {
    PyObject* named = nullptr;
    if (self.is_valid()) {
        named =
            PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(self.ptr())), "_not_held");
        if (named == nullptr) PyErr_Clear();
    }
    va_list arguments;
    va_start(arguments, format);
    PyErr_FormatV(named != nullptr ? named : PyExc_RuntimeError, format, arguments);
    va_end(arguments);
    Py_XDECREF(named);
    return nullptr;
}

PyObject* acquire_mutex(PyObject* lock) noexcept {
    auto* object = static_cast<MutexObject*>(instance_of(lock));
    if (object == nullptr) return nullptr;
    const Pinned pinned(*object);
    return acquire(lock, *object, WaitPolicy::kForever);
}
PyObject* release_mutex(MutexObject& lock) noexcept {
    const Pinned pinned(lock);
    return release(lock);
}

}  // namespace onecopy::py
