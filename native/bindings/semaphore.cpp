#include "locks/semaphore.hpp"

#include "bindings/sync.hpp"

namespace onecopy::py {
namespace {

constexpr const char* kWhat = "the semaphore";

using SemaphoreObject = SyncObject<Semaphore>;

bool usable(const SemaphoreObject& o) noexcept {
    return o.usable(kWhat);
}

PyObject* acquire(SemaphoreObject& o, std::int64_t deadline) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = o.sync.acquire(p);
    }
    if (s == Status::ok && o.detached) [[unlikely]] {
        GilWaitPolicy p;
        o.sync.release(1, p);
        return closed_meanwhile(kWhat);
    }
    return yes_or_no(s, kWhat);
}

PyObject* wait_ready(SemaphoreObject& o, std::int64_t deadline) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = o.sync.wait_ready(p);
    }
    return yes_or_no(s, kWhat);
}

PyObject* release(SemaphoreObject& o, Py_ssize_t n) noexcept {
    if (!usable(o)) return nullptr;
    if (n < 1) {
        PyErr_SetString(PyExc_ValueError, "n must be one or more");
        return nullptr;
    }
    Using call(o);
    Status s;
    {
        GilWaitPolicy p;
        s = o.sync.release(static_cast<u64>(n), p);
    }
    if (s == Status::ok) [[likely]]
        return Py_NewRef(Py_None);
    if (s == Status::not_held) {
        PyErr_SetString(PyExc_ValueError, "Semaphore released too many times");
        return nullptr;
    }
    if (s == Status::too_large) {
        PyErr_SetString(PyExc_ValueError, "n is too large");
        return nullptr;
    }
    return raise_status(s, kWhat);
}

PyObject* value(SemaphoreObject& o) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    u64 n = 0;
    Status s;
    {
        GilWaitPolicy p;
        s = o.sync.value(n, p);
    }
    return s == Status::ok ? PyLong_FromUnsignedLongLong(n) : raise_status(s, kWhat);
}

}  // namespace

void bind_semaphore(nb::module_& m) {
    channel_kinds().push_back(&channel_of<SemaphoreObject>);
    Class<SemaphoreObject> type(m, "SemaphoreBase", nb::is_weak_referenceable(),
                                "A semaphore in a pool; see `onecopy.Semaphore`.");
    type.def(
            "__init__",
            [](SemaphoreObject* self, nb::handle hold, nb::handle member, u64 initial, u32 flags) {
                construct_sync(self, hold, member, kWhat,
                               [&](Member& core, WaitPolicy& p, Handle& out) noexcept {
                                   return Semaphore::create(core, initial, flags, p, out);
                               });
            },
            arg("hold"), arg("member"), arg("initial"), arg("flags"))
        .def(
            "release",
            [](SemaphoreObject& o, Py_ssize_t n) noexcept { return result(release(o, n)); },
            arg("n", 1), "Give tokens back.")
        .def(
            "_wait_ready",
            [](SemaphoreObject& o, Timeout timeout) noexcept {
                Deadline deadline;
                return result(deadline_of(timeout.ptr(), deadline) ? wait_ready(o, deadline)
                                                                   : nullptr);
            },
            arg("timeout", nb::none()), "Wait until a token is there, and take none.")
        .def("__enter__",
             [](SemaphoreObject& o) noexcept { return result(acquire(o, WaitPolicy::kForever)); })
        .def(
            "__exit__",
            [](SemaphoreObject& o, nb::handle, nb::handle, nb::handle) noexcept {
                return result(release(o, 1));
            },
            arg("kind"), arg("error"), arg("traceback"))
        .def(
            "get_value", [](SemaphoreObject& o) noexcept { return result(value(o)); },
            "How many tokens could be taken now.")
        .def_prop_ro("_initial", [](SemaphoreObject& o) noexcept { return o.sync.initial(); })
        .def_prop_ro("_flags", [](SemaphoreObject& o) noexcept { return o.sync.flags(); });
    bind_acquire(
        type,
        [](SemaphoreObject& o, Given block, Timeout timeout, nb::handle blocking) noexcept {
            Deadline deadline;
            return acquire_deadline(block, timeout, blocking, deadline) ? acquire(o, deadline)
                                                                        : nullptr;
        },
        "Take a token; False: none came in time. `blocking` is another name of `block`.");
    bind_channel<SemaphoreObject>(type, kWhat);
}

}  // namespace onecopy::py
