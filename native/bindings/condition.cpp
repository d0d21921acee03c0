#include "locks/condition.hpp"

#include <algorithm>
#include <optional>

#include "bindings/methods.hpp"
#include "bindings/mutex.hpp"

namespace onecopy::py {
namespace {

constexpr const char* kWhat = "the condition";

using ConditionObject = SyncObject<Condition>;

// The lock of a condition. Python passes it with each call: its object knows what to do if its
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

// The wait has not begun, and the caller still has the lock.
bool has_no_place(Status s) noexcept {
    return s == Status::no_memory || s == Status::too_large || s == Status::table_full;
}
PyObject* raise_no_place(ConditionObject& o, Status s) noexcept {
    return raise_status(s, kWhat, o.pool, 16384);
}

// The waiter has got the lock of a dead owner. The caller has the lock in every case, because it is
// about to release it. False: an exception is set.
bool report_death(MutexObject& mutex, nb::handle lock) noexcept {
    SavedError interrupted;  // the wait may have been ended by an exception, which comes first
    const bool told = mutex.on_death.tell(lock.ptr(), mutex.sync.died()) != OnDeath::Said::failed;
    if (!told) mutex.unrepaired = true;
    if (interrupted) {
        PyErr_Clear();
        interrupted.restore();
        return false;
    }
    return PyErr_Occurred() == nullptr;
}

// Around a call that uses the lock, from before it is looked at.
#ifdef Py_GIL_DISABLED
class PinnedLock {
  public:
    explicit PinnedLock(nb::handle lock) noexcept {
        if (nb::isinstance<MutexObject>(lock) && nb::inst_ready(lock))
            using_.emplace(*nb::inst_ptr<MutexObject>(lock));
    }

  private:
    std::optional<Using> using_;
};
#else
struct PinnedLock {
    explicit PinnedLock(nb::handle) noexcept {}
    ~PinnedLock() {}
};
#endif

PyObject* wait(ConditionObject& o, nb::handle lock, std::int64_t deadline) noexcept {
    const PinnedLock pinned(lock);
    MutexObject* mutex = lock_of(o, lock);
    if (mutex == nullptr) return nullptr;
    Using call(o), also(*mutex);
    Status s, again;
    {
        GilWaitPolicy p(deadline);
        s = o.sync.wait(mutex->sync, p, again);
    }
    if (s == Status::not_held) return not_held(o, "wait on");
    if (has_no_place(s)) return raise_no_place(o, s);
    if (again == Status::owner_died && !report_death(*mutex, lock)) return nullptr;
    return yes_or_no(s, kWhat);
}

// ---- the wait of a task, in steps ---------------------------------------------------------------

// One wait of one task (docs/design/0021-asyncio.md). It counts as a call of the condition and of
// its lock, so a detach in between frees neither before the task has noticed.
struct StayObject {
    static constexpr bool kOneAtATime = true;
    nb::object condition, lock;
    ConditionObject* of = nullptr;
    MutexObject* mutex = nullptr;
    Condition::Stay stay;
    bool over = true;

    StayObject() = default;
    StayObject(const StayObject&) = delete;
    StayObject& operator=(const StayObject&) = delete;
    // A coroutine that was destroyed has called `close`; this is for one whose frame had no time.
    ~StayObject() {
        if (over) return;
        leave();
        end();
    }
    bool reachable() const noexcept { return of->core().excluded == Status::ok; }
    void leave() noexcept {
        if (reachable()) of->sync.leave(stay);
    }
    // The caller believes that it has the lock, and will release it.
    void leave_without_lock() noexcept {
        leave();
        ++mutex->owed;
    }
    void end() noexcept {
        over = true;
        const Using call(*of), also(*mutex);
        --of->busy;
        --mutex->busy;
    }
};

bool begin_stay(StayObject& w, nb::handle condition, nb::handle lock, PyObject* timeout) noexcept {
    Deadline deadline;  // only to refuse what is none
    if (!standard_deadline(Py_True, timeout, deadline)) return false;
    if (!nb::isinstance<ConditionObject>(condition) || !nb::inst_ready(condition)) {
        PyErr_SetString(PyExc_TypeError, "condition must be a onecopy.Condition");
        return false;
    }
    auto& o = *nb::inst_ptr<ConditionObject>(condition);
    const Pinned pinned(o);
    const PinnedLock pinned_lock(lock);
    MutexObject* mutex = lock_of(o, lock);
    if (mutex == nullptr) return false;
    Using call(o), also(*mutex);
    Status s;
    {
        GilWaitPolicy p;
        s = o.sync.begin(mutex->sync, p, w.stay);
    }
    if (s != Status::ok) {
        if (s == Status::not_held) return not_held(o, "wait on") != nullptr;
        return (has_no_place(s) ? raise_no_place(o, s) : raise_status(s, kWhat)) != nullptr;
    }
    w.condition = nb::borrow(condition);
    w.lock = nb::borrow(lock);
    w.of = &o;
    w.mutex = mutex;
    w.over = false;
    ++o.busy;
    ++mutex->busy;
    return true;
}

// Ends a wait whose task can wait no more: it takes the lock if it is free. Otherwise the lock's
// next release, which is that of this task, does nothing.
void close_stay(StayObject& w) noexcept {
    if (w.over) return;
    const Using call(*w.of), also(*w.mutex);
    if (w.reachable()) {
        Condition::give_up(w.stay, Status::interrupted);
        Status again;
        WaitPolicy now(kNoWait);
        w.of->sync.attempt(w.mutex->sync, now, w.stay, again);
        // No Python code runs here. The next owner gets the report.
        if (again == Status::owner_died) w.mutex->unrepaired = true;
    }
    if (w.stay.word != nullptr) w.leave_without_lock();
    w.end();
}

PyObject* notify(ConditionObject& o, nb::handle lock, Py_ssize_t n) noexcept {
    const PinnedLock pinned(lock);
    MutexObject* mutex = lock_of(o, lock);
    if (mutex == nullptr) return nullptr;
    if (n < 0) n = 0;
    Using call(o);
    const Status s =
        o.sync.notify(mutex->sync, n > 0xffffffffLL ? 0xffffffffu : static_cast<u32>(n));
    if (s == Status::not_held) return not_held(o, "notify");
    return s == Status::ok ? Py_NewRef(Py_None) : raise_status(s, kWhat);
}

// True: notified, False: not, and the lock is held; or False with a note. An exception: the lock is
// held, or the pool is not usable.
PyObject* attempt_stay(StayObject& w, std::int64_t deadline) noexcept {
    if (w.over) {
        PyErr_SetString(PyExc_RuntimeError, "this wait is over");
        return nullptr;
    }
    const Using call(*w.of), also(*w.mutex);
    if (!w.of->reachable()) {
        close_stay(w);
        w.of->usable(kWhat);
        return nullptr;
    }
    Status s, again;
    {
        GilWaitPolicy p(deadline);
        s = w.of->sync.attempt(w.mutex->sync, p, w.stay, again);
    }
    if (s == Status::would_block) return Py_NewRef(Py_False);
    if (w.stay.word != nullptr) w.leave_without_lock();
    w.end();
    if (again == Status::owner_died && !report_death(*w.mutex, w.lock)) return nullptr;
    // What interrupted the task is an exception of its own.
    return s == Status::interrupted ? Py_NewRef(Py_False) : yes_or_no(s, kWhat);
}

// ---- its lock's methods, in C as the lock's own are: no exception of a signal handler comes
// between taking the lock and the block that gives it back

PyObject* lock_name = nullptr;

// A method of the lock, called with what the condition's was.
PyObject* of_the_lock(PyObject* self, PyObject* method, PyObject* const* args, Py_ssize_t count,
                      PyObject* names = nullptr) noexcept {
    constexpr Py_ssize_t kMost = 4;
    const Py_ssize_t all = count + (names == nullptr ? 0 : PyTuple_GET_SIZE(names));
    if (all > kMost) {
        PyErr_Format(PyExc_TypeError, "Condition.%U() takes at most 3 arguments (%zd given)",
                     method, all);
        return nullptr;
    }
    PyObject* lock = PyObject_GetAttr(self, lock_name);
    if (lock == nullptr) return nullptr;
    PyObject* passed[kMost + 1] = {lock};
    std::copy_n(args, all, passed + 1);
    PyObject* answer =
        PyObject_VectorcallMethod(method, passed, static_cast<size_t>(count) + 1, names);
    Py_DECREF(lock);
    return answer;
}

PyObject *acquire_name = nullptr, *release_name = nullptr, *enter_name = nullptr,
         *exit_name = nullptr;

PyObject* acquire_method(PyObject* self, PyObject* const* args, Py_ssize_t count,
                         PyObject* names) noexcept {
    return of_the_lock(self, acquire_name, args, count, names);
}
PyObject* release_method(PyObject* self, PyObject*) noexcept {
    return of_the_lock(self, release_name, nullptr, 0);
}
PyObject* enter_method(PyObject* self, PyObject*) noexcept {
    return of_the_lock(self, enter_name, nullptr, 0);
}
PyObject* exit_method(PyObject* self, PyObject* const* args, Py_ssize_t count) noexcept {
    return of_the_lock(self, exit_name, args, count);
}

PyMethodDef methods[] = {
    {"acquire", as_method(acquire_method), METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, block=True, timeout=None, *, blocking=None)\n--\n\nTake the lock; as "
     "`Lock.acquire`."},
    {"release", as_method(release_method), METH_NOARGS,
     "release($self)\n--\n\nGive the lock back."},
    {"__enter__", as_method(enter_method), METH_NOARGS, "__enter__($self)\n--\n\n"},
    {"__exit__", as_method(exit_method), METH_FASTCALL,
     "__exit__($self, kind, error, traceback)\n--\n\n"},
};

bool intern_names() noexcept {
    lock_name = PyUnicode_InternFromString("_lock");
    acquire_name = PyUnicode_InternFromString("acquire");
    release_name = PyUnicode_InternFromString("release");
    enter_name = PyUnicode_InternFromString("__enter__");
    exit_name = PyUnicode_InternFromString("__exit__");
    return lock_name != nullptr && acquire_name != nullptr && release_name != nullptr &&
           enter_name != nullptr && exit_name != nullptr;
}

}  // namespace

void bind_condition(nb::module_& m) {
    channel_kinds().push_back(&channel_of<ConditionObject>);
    Class<ConditionObject> type(m, "ConditionBase", nb::is_weak_referenceable(),
                                "A condition variable in a pool; see `onecopy.Condition`.");
    type.def(
            "__init__",
            [](ConditionObject* self, nb::handle hold, nb::handle member, u64 lock) {
                construct_sync(self, hold, member, kWhat,
                               [&](Member& core, WaitPolicy& p, Handle& out) noexcept {
                                   return Condition::create(core, lock, p, out);
                               });
            },
            arg("hold"), arg("member"), arg("lock"))
        .def(
            "_wait_with",
            [](ConditionObject& o, nb::handle lock, Timeout timeout) noexcept {
                Deadline deadline;
                return result(standard_deadline(Py_True, timeout.ptr(), deadline)
                                  ? wait(o, lock, deadline)
                                  : nullptr);
            },
            arg("lock"), arg("timeout"), PartOf{"wait"})
        .def(
            "_notify_with",
            [](ConditionObject& o, nb::handle lock, Py_ssize_t n) noexcept {
                return result(notify(o, lock, n));
            },
            arg("lock"), arg("n"), PartOf{"notify"})
        .def_prop_ro("_lock_handle",
                     [](ConditionObject& o) noexcept { return o.sync.lock_handle(); })
        .def_prop_ro("n_waiting", [](ConditionObject& o) noexcept {
            return o.reachable() ? o.sync.waiting() : 0u;
        });
    bind_channel<ConditionObject>(type, kWhat);
    Class<StayObject> stay(m, "ConditionStay", nb::is_weak_referenceable(),
                           "The wait of one task at a condition, in steps.");
    stay.def(
            "__init__",
            [](StayObject* self, nb::handle condition, nb::handle lock, Timeout timeout) {
                new (self) StayObject();
                if (begin_stay(*self, condition, lock, timeout.ptr())) return;
                self->~StayObject();
                throw nb::python_error();
            },
            arg("condition"), arg("lock"), arg("timeout"), PartOf{"wait"})
        .def(
            "attempt",
            [](StayObject& w, Timeout wait) noexcept {
                Deadline deadline;
                return result(deadline_of(wait.ptr(), deadline) ? attempt_stay(w, deadline)
                                                                : nullptr);
            },
            arg("wait"),
            "Whether it was notified; the lock is held then. False, and `over` is not: noted.")
        .def(
            "give_up",
            [](StayObject& w, bool interrupted) noexcept {
                Condition::give_up(w.stay, interrupted ? Status::interrupted : Status::timed_out);
                return none_or_error(true);
            },
            arg("interrupted"), "It only waits for the lock from now on.")
        .def(
            "close",
            [](StayObject& w) noexcept {
                close_stay(w);
                return none_or_error(true);
            },
            "End it without a wait. If the lock is not free, its next release does nothing.")
        .def_prop_ro(
            "over", [](StayObject& w) noexcept { return w.over; }, "Whether it has ended.");
    check(intern_names());
    for (PyMethodDef& method : methods)
        add_method(type, method);
}

}  // namespace onecopy::py
