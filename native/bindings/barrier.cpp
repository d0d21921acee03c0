#include "locks/barrier.hpp"

#include "bindings/sync.hpp"

namespace onecopy::py {
namespace {

constexpr const char* kWhat = "the barrier";

using BarrierObject = SyncObject<Barrier>;

bool usable(const BarrierObject& o) noexcept {
    return o.usable(kWhat);
}

PyObject* raise_broken(const BarrierObject& o) noexcept {
    PyObject* module = PyImport_ImportModule("threading");
    PyObject* type =
        module == nullptr ? nullptr : PyObject_GetAttrString(module, "BrokenBarrierError");
    Py_XDECREF(module);
    if (type == nullptr) return nullptr;
    if (const u32 pid = o.sync.culprit(); o.sync.is_broken() && pid != 0) {
        PyErr_Format(type,
                     "process %u died while it waited at the barrier, which cannot fill any more; "
                     "reset() makes it usable again",
                     pid);
    } else {
        PyErr_SetNone(type);
    }
    Py_DECREF(type);
    return nullptr;
}

PyObject* passed(const BarrierObject& o, Status s, const Barrier::Arrival& mine) noexcept {
    if (s == Status::ok) return PyLong_FromUnsignedLong(mine.index);
    if (s == Status::broken || s == Status::timed_out || s == Status::would_block)
        return raise_broken(o);
    return raise_status(s, kWhat);
}

enum class Act { abort, reset };
Status do_it(BarrierObject& o, Act act) noexcept {
    GilWaitPolicy p;
    return act == Act::abort ? o.sync.abort(p) : o.sync.reset(p);
}

// The last party runs the action, and then the others continue.
PyObject* trip(BarrierObject& o, PyObject* action, const Barrier::Arrival& mine) noexcept {
    if (action != Py_None) {
        PyObject* answer = PyObject_CallNoArgs(action);
        if (answer == nullptr) {
            SavedError error;
            do_it(o, Act::abort);
            error.restore();
            return nullptr;
        }
        Py_DECREF(answer);
    }
    GilWaitPolicy p;
    return passed(o, o.sync.trip(p, mine), mine);
}

// As threading.Barrier: the last party to come runs the action, and releases the others.
PyObject* wait(BarrierObject& o, PyObject* action, std::int64_t deadline) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Barrier::Arrival mine;
    Status s;
    {
        GilWaitPolicy p;  // the timeout is for the others, not for an action that is running
        s = o.sync.arrive(p, mine);
    }
    if (s == Status::broken) return raise_broken(o);
    if (s != Status::ok) return raise_status(s, kWhat);
    if (mine.trips) return trip(o, action, mine);
    {
        GilWaitPolicy p(deadline);
        s = o.sync.wait(p, mine);
    }
    return passed(o, s, mine);
}

// ---- the wait of a task, in steps ---------------------------------------------------------------

// One wait of one task (docs/design/0021-asyncio.md). It counts as a call of the barrier, so a
// detach in between does not free it before the task has noticed.
struct PartyObject {
    static constexpr bool kOneAtATime = true;
    nb::object barrier;
    BarrierObject* of = nullptr;
    Barrier::Arrival mine;
    bool arrived = false;  // and waits for the others

    PartyObject(nb::handle object, BarrierObject& o) noexcept
        : barrier(nb::borrow(object)), of(&o) {
        ++o.busy;
    }
    PartyObject(const PartyObject&) = delete;
    PartyObject& operator=(const PartyObject&) = delete;
    ~PartyObject() {
        close();
        const Using call(*of);
        --of->busy;
    }
    bool reachable() const noexcept { return of->core().excluded == Status::ok; }
    Status give_up() noexcept {
        arrived = false;
        UnboundedWait p;
        return of->sync.give_up(p, mine);
    }
    void close() noexcept {
        if (arrived && reachable()) give_up();
    }
};

bool is_closed(PartyObject& w) noexcept {
    if (w.of->reachable()) return false;
    w.close();
    return !w.of->usable(kWhat);
}

// The party's number, if it is the last one. None: it waits for the others. False: noted.
PyObject* arrive(PartyObject& w, PyObject* action, std::int64_t deadline) noexcept {
    if (is_closed(w)) return nullptr;
    const Using call(*w.of);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = w.of->sync.arrive(p, w.mine);
    }
    if (s == Status::would_block) return Py_NewRef(Py_False);
    if (s == Status::broken) return raise_broken(*w.of);
    if (s != Status::ok) return raise_status(s, kWhat);
    if (w.mine.trips) return trip(*w.of, action, w.mine);
    w.arrived = true;
    return Py_NewRef(Py_None);
}

// The party's number. False: noted.
PyObject* attempt(PartyObject& w, std::int64_t deadline) noexcept {
    if (is_closed(w)) return nullptr;
    const Using call(*w.of);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = w.of->sync.attempt(p, w.mine);
    }
    if (s == Status::would_block) return Py_NewRef(Py_False);
    w.arrived = false;
    return passed(*w.of, s, w.mine);
}

PyObject* act(BarrierObject& o, Act which) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    const Status s = do_it(o, which);
    return s == Status::ok ? Py_NewRef(Py_None) : raise_status(s, kWhat);
}

}  // namespace

void bind_barrier(nb::module_& m) {
    channel_kinds().push_back(&channel_of<BarrierObject>);
    Class<BarrierObject> type(m, "BarrierBase", nb::is_weak_referenceable(),
                              "A barrier in a pool; see `onecopy.Barrier`.");
    type.def(
            "__init__",
            [](BarrierObject* self, nb::handle hold, nb::handle member, u32 parties) {
                construct_sync(self, hold, member, kWhat,
                               [&](Member& core, WaitPolicy& p, Handle& out) noexcept {
                                   return Barrier::create(core, parties, p, out);
                               });
            },
            arg("hold"), arg("member"), arg("parties"))
        .def(
            "_wait_and_do",
            [](BarrierObject& o, nb::handle action, Timeout timeout) noexcept {
                Deadline deadline;
                return result(standard_deadline(Py_True, timeout.ptr(), deadline)
                                  ? wait(o, action.ptr(), deadline)
                                  : nullptr);
            },
            arg("action"), arg("timeout"), PartOf{"wait"})
        .def(
            "abort", [](BarrierObject& o) noexcept { return result(act(o, Act::abort)); },
            "Break the barrier: all threads that wait get an error.")
        .def(
            "reset", [](BarrierObject& o) noexcept { return result(act(o, Act::reset)); },
            "Make it empty, and usable if it was broken. Processes that wait get an error.")
        .def_prop_ro("parties", [](BarrierObject& o) noexcept { return o.sync.parties(); })
        .def_prop_ro(
            "n_waiting",
            [](BarrierObject& o) noexcept {
                return result(usable(o) ? PyLong_FromUnsignedLong(o.sync.waiting()) : nullptr);
            },
            "How many wait now.")
        .def_prop_ro(
            "broken",
            [](BarrierObject& o) noexcept {
                return result(usable(o) ? PyBool_FromLong(o.sync.is_broken()) : nullptr);
            },
            "Whether it is broken.");
    bind_channel<BarrierObject>(type, kWhat);
    Class<PartyObject> party(m, "BarrierParty", nb::is_weak_referenceable(),
                             "The wait of one task at a barrier, in steps.");
    party
        .def(
            "__init__",
            [](PartyObject* self, nb::handle barrier, Timeout timeout) {
                Deadline deadline;  // only to refuse what is none
                check(standard_deadline(Py_True, timeout.ptr(), deadline));
                if (!nb::isinstance<BarrierObject>(barrier) || !nb::inst_ready(barrier)) {
                    PyErr_SetString(PyExc_TypeError, "barrier must be a onecopy.Barrier");
                    throw nb::python_error();
                }
                auto& o = *nb::inst_ptr<BarrierObject>(barrier);
                const Pinned pinned(o);
                check(usable(o));
                new (self) PartyObject(barrier, o);
            },
            arg("barrier"), arg("timeout"), PartOf{"wait"})
        .def(
            "arrive",
            [](PartyObject& w, nb::handle action, Timeout wait) noexcept {
                Deadline deadline;
                return result(deadline_of(wait.ptr(), deadline) ? arrive(w, action.ptr(), deadline)
                                                                : nullptr);
            },
            arg("action"), arg("wait"),
            "The last party runs the action and gets its number. None: it waits. False: noted.")
        .def(
            "attempt",
            [](PartyObject& w, Timeout wait) noexcept {
                Deadline deadline;
                return result(deadline_of(wait.ptr(), deadline) ? attempt(w, deadline) : nullptr);
            },
            arg("wait"), "Its number. False: noted.")
        .def(
            "give_up",
            [](PartyObject& w) noexcept {
                const Using call(*w.of);
                return result(is_closed(w) ? nullptr : passed(*w.of, w.give_up(), w.mine));
            },
            "Break the barrier. Its number: the others had come.")
        .def(
            "close",
            [](PartyObject& w) noexcept {
                const Using call(*w.of);
                w.close();
                return none_or_error(true);
            },
            "Break the barrier if it waits.");
}

}  // namespace onecopy::py
