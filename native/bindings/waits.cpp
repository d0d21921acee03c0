// Waits of event loops: what `onecopy._aio` builds the awaitable calls on.
#include "os/waits.hpp"
#include "bindings/methods.hpp"

namespace onecopy::py {
namespace {

PyTypeObject* wait_type = nullptr;  // kept for ever, as the module is

struct WakeupsObject {
    Sink sink;
};
struct WaitObject {
    nb::object wakeups;  // keeps the sink; first, so that it goes last
    Note note;
    WaitObject(nb::object of, Sink& sink, bool one) noexcept
        : wakeups(std::move(of)), note(sink, one) {}
};

PyObject* taken(WakeupsObject& w) noexcept {
    PyObject* all = PyList_New(0);
    if (all == nullptr) return nullptr;
    // If there is no memory for the list, the notes that were taken are lost: the sink does not
    // have them any more. Their tasks continue when their timeouts end, or get the error of this
    // call.
    while (Note* n = w.sink.take()) {
        if (PyList_Append(all, static_cast<PyObject*>(n->owner)) == 0) continue;
        Py_DECREF(all);
        return nullptr;
    }
    return all;
}

}  // namespace

bool as_wait(PyObject* object, Note*& out) noexcept {
    if (wait_type == nullptr || !PyObject_TypeCheck(object, wait_type) || !nb::inst_ready(object))
        return false;
    out = &nb::inst_ptr<WaitObject>(object)->note;
    return true;
}

bool deadline_of_object(PyObject* timeout, Deadline& out) noexcept {
    if (!PyFloat_CheckExact(timeout) && as_wait(timeout, noting)) {
        noting->clear();
        out = WaitPolicy::kNote;
        return true;
    }
    const double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) return false;
    if (!(seconds >= 0)) {
        PyErr_SetString(PyExc_ValueError, "'timeout' must be a non-negative number");
        return false;
    }
    if (seconds == 0) {
        out = kNoWait;
    } else if (seconds > 3e8) {  // ten years, and no overflow
        out = WaitPolicy::kForever;
    } else {
        out.from = os::monotonic_ns();
        out.at = out.from + static_cast<std::int64_t>(seconds * 1e9) + 1;
    }
    return true;
}

void bind_waits(nb::module_& m) {
    Class<WakeupsObject> wakeups(m, "Wakeups", nb::is_weak_referenceable(),
                                 "Notifies one event loop of its waits.");
    wakeups
        .def("__init__",
             [](WakeupsObject* self) {
                 new (self) WakeupsObject();
                 if (self->sink.descriptor() >= 0) return;
                 PyErr_SetFromErrno(PyExc_OSError);
                 self->~WakeupsObject();
                 throw nb::python_error();
             })
        .def(
            "fileno", [](WakeupsObject& w) noexcept { return w.sink.descriptor(); },
            "Readable while there is something to take.")
        .def(
            "take", [](WakeupsObject& w) noexcept { return result(taken(w)); },
            "The waits that were notified since the last call.")
        .def(
            "ring",
            [](WakeupsObject& w) noexcept {
                w.sink.ring();
                return none_or_error(true);
            },
            "Make it readable until the next `take`.");
    Class<WaitObject> wait(m, "Wait", nb::is_weak_referenceable(),
                           "A call that gets it as its timeout does not wait. It notes what it "
                           "would wait for, and the loop is notified when the call should be "
                           "tried again.");
    wait.def(
            "__init__",
            [](WaitObject* self, nb::handle of, bool one) {
                if (!nb::isinstance<WakeupsObject>(of)) {
                    PyErr_SetString(PyExc_TypeError, "wakeups must be a Wakeups object");
                    throw nb::python_error();
                }
                new (self) WaitObject(nb::borrow(of), nb::inst_ptr<WakeupsObject>(of)->sink, one);
                self->note.owner = nb::find(*self).ptr();
            },
            arg("wakeups"), arg("one"))
        .def_prop_ro(
            "noted", [](WaitObject& w) noexcept { return w.note.is_on(); },
            "Whether the last call would have waited, and noted it here.")
        .def_prop_ro(
            "failed", [](WaitObject& w) noexcept { return w.note.has_failed(); },
            "Whether it could not note it: there is no memory, or no thread.")
        .def(
            "end",
            [](WaitObject& w, bool unused) noexcept {
                w.note.end(unused);
                return none_or_error(true);
            },
            arg("unused"),
            "The wait is over. `unused`: a wake that it got, and that no call has used, is for "
            "another waiter.");
    wait_type = reinterpret_cast<PyTypeObject*>(wait.ptr());
    m.def("has_futex_waitv", &os::has_futex_waitv,
          "Whether one thread can sleep on many words here (Linux 5.16).");
    m.def("pretend_no_futex_waitv", &os::pretend_no_futex_waitv, nb::arg("yes"));
}

}  // namespace onecopy::py
