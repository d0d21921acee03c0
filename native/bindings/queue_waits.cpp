// Waits that take nothing from a queue, and what they need.
#include "bindings/queue.hpp"

namespace onecopy::py {
namespace {

// Waits until `get` would not: True; False: not in time, or stopped.
PyObject* wait_ready(QueueObject& q, std::int64_t deadline) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = q.queue.wait_ready(q.stopped, p);
    }
    if (s == Status::ok) return Py_NewRef(Py_True);
    if (s == Status::timed_out || s == Status::would_block) return Py_NewRef(Py_False);
    return raise_status(s, "the queue");
}

// As wait_ready, for a put.
PyObject* wait_room(QueueObject& q, std::int64_t deadline) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = q.queue.wait_room(p);
    }
    if (s == Status::ok) return Py_NewRef(Py_True);
    if (s == Status::timed_out || s == Status::would_block) return Py_NewRef(Py_False);
    return raise_status(s, "the queue");
}

}  // namespace

void bind_queue_waits(Class<QueueObject>& queue) {
    queue
        .def(
            "_wait_ready",
            [](QueueObject& q, Timeout timeout) noexcept {
                Deadline deadline;
                return result(queue_deadline(q, Py_True, timeout.ptr(), deadline)
                                  ? wait_ready(q, deadline)
                                  : nullptr);
            },
            arg("timeout", nb::none()),
            "Wait until there is something to take, or the queue was shut down, and take nothing.")
        .def(
            "_wait_room",
            [](QueueObject& q, Timeout timeout) noexcept {
                Deadline deadline;
                return result(deadline_of(timeout.ptr(), deadline) ? wait_room(q, deadline)
                                                                   : nullptr);
            },
            arg("timeout", nb::none()), "Wait until there is room for one more, and take none.")
        .def(
            "_when_empty",
            [](QueueObject& q, nb::handle call) noexcept {
                q.when_empty.set(call.is_none() ? nullptr : Py_NewRef(call.ptr()));
            },
            arg("call"), "Call it from now on each time that a get of this object finds nothing.")
        .def(
            "_stop_waiting",
            [](QueueObject& q) noexcept {
                q.stopped.store(true, std::memory_order_release);  // [queue.stop]
                if (!q.detached) q.queue.wake_waiters();
            },
            "Let threads that are in _wait_ready of this object return False, now and later.");
}

}  // namespace onecopy::py
