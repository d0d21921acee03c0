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

enum class Act { abort, reset };
Status do_it(BarrierObject& o, Act act) noexcept {
    GilWaitPolicy p;
    return act == Act::abort ? o.sync.abort(p) : o.sync.reset(p);
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
    if (!mine.trips) {
        GilWaitPolicy p(deadline);
        s = o.sync.wait(p, mine);
    } else {
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
        s = o.sync.trip(p, mine);
    }
    if (s == Status::ok) return PyLong_FromUnsignedLong(mine.index);
    if (s == Status::broken || s == Status::timed_out || s == Status::would_block)
        return raise_broken(o);
    return raise_status(s, kWhat);
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
            "Break the barrier: all who wait get an error.")
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
}

}  // namespace onecopy::py
