#include "locks/condition.hpp"

#include "bindings/mutex.hpp"

namespace onecopy::py {
namespace {

constexpr const char* kWhat = "the condition";

using ConditionObject = SyncObject<Condition>;

// The lock of a condition, which Python passes with each call: the object knows what to do when its
// owner died.
MutexObject* lock_of(const ConditionObject& o, nb::handle lock) noexcept {
    if (!o.usable(kWhat)) return nullptr;
    if (!nb::isinstance<MutexObject>(lock) || !nb::inst_ready(lock)) {
        PyErr_SetString(PyExc_TypeError, "the lock of a condition is a onecopy.Lock or RLock");
        return nullptr;
    }
    auto* mutex = nb::inst_ptr<MutexObject>(lock);
    if (!mutex->usable("the condition's lock")) return nullptr;
    if (mutex->pool != o.pool || mutex->handle != o.sync.lock_handle()) {
        PyErr_SetString(PyExc_ValueError, "that is not the lock of this condition");
        return nullptr;
    }
    return mutex;
}

PyObject* not_held(ConditionObject& o, const char* doing) noexcept {
    return raise_not_held(nb::find(o), "cannot %s a condition whose lock is not held", doing);
}

PyObject* wait(ConditionObject& o, nb::handle lock, std::int64_t deadline) noexcept {
    MutexObject* mutex = lock_of(o, lock);
    if (mutex == nullptr) return nullptr;
    Using call(o), also(*mutex);
    Status s, again;
    {
        GilPatience p(deadline);
        s = o.sync.wait(mutex->sync, p, again);
    }
    if (s == Status::not_held) return not_held(o, "wait on");
    if (s == Status::table_full)
        return raise(Error::root, "too many threads wait on the condition (%u)", o.sync.waiting());
    if (again == Status::owner_died) {
        SavedError interrupted;  // the wait may have been ended by an exception, which comes first
        const bool told =
            mutex->on_death.tell(lock.ptr(), mutex->sync.died()) != OnDeath::Said::failed;
        // The caller gets the lock whatever happens, because it is about to release it.
        if (!told) mutex->unrepaired = true;
        if (interrupted) {
            PyErr_Clear();
            interrupted.restore();
            return nullptr;
        }
        if (PyErr_Occurred()) return nullptr;
    }
    return yes_or_no(s, kWhat);
}

PyObject* notify(ConditionObject& o, nb::handle lock, Py_ssize_t n) noexcept {
    MutexObject* mutex = lock_of(o, lock);
    if (mutex == nullptr) return nullptr;
    if (n < 0) n = 0;
    Using call(o);
    const Status s =
        o.sync.notify(mutex->sync, n > 0xffffffffLL ? 0xffffffffu : static_cast<u32>(n));
    if (s == Status::not_held) return not_held(o, "notify");
    return s == Status::ok ? Py_NewRef(Py_None) : raise_status(s, kWhat);
}

}  // namespace

void bind_condition(nb::module_& m) {
    channel_kinds().push_back(&channel_of<ConditionObject>);
    nb::class_<ConditionObject> type(m, "ConditionBase", nb::is_weak_referenceable(),
                                     "A condition variable in a pool; see `onecopy.Condition`.");
    type.def(
            "__init__",
            [](ConditionObject* self, nb::handle hold, nb::handle member, u64 lock) {
                construct_sync(self, hold, member, kWhat,
                               [&](Member& core, Patience& p, Handle& out) noexcept {
                                   return Condition::create(core, lock, p, out);
                               });
            },
            nb::arg("hold").none(), nb::arg("member"), nb::arg("lock"),
            nb::sig("def __init__(self, hold: Hold | None, member: Member, lock: int) -> None"))
        .def(
            "_wait_with",
            [](ConditionObject& o, nb::handle lock, nb::handle timeout) noexcept {
                std::int64_t deadline;
                return result(standard_deadline(Py_True, timeout.ptr(), deadline)
                                  ? wait(o, lock, deadline)
                                  : nullptr);
            },
            nb::arg("lock"), nb::arg("timeout").none(),
            nb::sig("def _wait_with(self, lock: LockBase, timeout: float | None) -> bool"))
        .def(
            "_notify_with",
            [](ConditionObject& o, nb::handle lock, Py_ssize_t n) noexcept {
                return result(notify(o, lock, n));
            },
            nb::arg("lock"), nb::arg("n"),
            nb::sig("def _notify_with(self, lock: LockBase, n: int) -> None"))
        .def_prop_ro("_lock_handle",
                     [](ConditionObject& o) noexcept { return o.sync.lock_handle(); })
        .def_prop_ro("n_waiting", [](ConditionObject& o) noexcept {
            return o.reachable() ? o.sync.waiting() : 0u;
        });
    bind_channel<ConditionObject>(type, kWhat);
}

}  // namespace onecopy::py
