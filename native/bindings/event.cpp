#include "locks/event.hpp"

#include "bindings/sync.hpp"

namespace onecopy::py {
namespace {

constexpr const char* kWhat = "the event";

using EventObject = SyncObject<Event>;

bool usable(const EventObject& o) noexcept {
    return o.usable(kWhat);
}

PyObject* change(EventObject& o, bool set) noexcept {
    if (!usable(o)) return nullptr;
    const Status s = set ? o.sync.set() : o.sync.clear();
    return s == Status::ok ? Py_NewRef(Py_None) : raise_status(s, kWhat);
}

PyObject* wait(EventObject& o, std::int64_t deadline) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = o.sync.wait(p);
    }
    return yes_or_no(s, kWhat);
}

}  // namespace

void bind_event(nb::module_& m) {
    channel_kinds().push_back(&channel_of<EventObject>);
    Class<EventObject> type(m, "EventBase", nb::is_weak_referenceable(),
                            "An event in a pool; see `onecopy.Event`.");
    type.def(
            "__init__",
            [](EventObject* self, nb::handle hold, nb::handle member) {
                construct_sync(self, hold, member, kWhat,
                               [](Member& core, WaitPolicy& p, Handle& out) noexcept {
                                   return Event::create(core, p, out);
                               });
            },
            arg("hold"), arg("member"))
        .def(
            "set", [](EventObject& o) noexcept { return result(change(o, true)); },
            "Set the flag, and wake all threads that wait for it.")
        .def(
            "clear", [](EventObject& o) noexcept { return result(change(o, false)); },
            "Clear the flag.")
        .def(
            "is_set",
            [](EventObject& o) noexcept {
                return result(usable(o) ? PyBool_FromLong(o.sync.is_set()) : nullptr);
            },
            "Whether it is set.")
        .def(
            "wait",
            [](EventObject& o, Timeout timeout) noexcept {
                Deadline deadline;
                return result(standard_deadline(Py_True, timeout.ptr(), deadline)
                                  ? wait(o, deadline)
                                  : nullptr);
            },
            arg("timeout", nb::none()), "Wait until it is set; False: not in time.");
    bind_channel<EventObject>(type, kWhat);
}

}  // namespace onecopy::py
