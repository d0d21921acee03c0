// Messages one by one, with what belongs to them: whether they were given out before, and who
// finishes which. What happens to the messages of the dead is native/queue/redeliver.cpp.
#include "bindings/codec.hpp"
#include "bindings/queue.hpp"

namespace onecopy::py {
namespace {

// (object, redeliveries, position)
PyObject* receive(QueueObject& q, const Deadline& deadline, Copy how) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    Message message;
    Status s;
    {
        GilPatience p(deadline);
        s = q.queue.get(message, p);
    }
    if (s != Status::ok) return raise_get(q, s, deadline);
    const u64 position = message.position;
    const u32 redeliveries = message.redeliveries;
    PyObject* const object = decode(q.pool, message, how);
    if (object == nullptr) {
        // It counts as taken: whoever cannot rebuild it can still finish it.
        SavedError error;
        if (PyObject* number = PyLong_FromUnsignedLongLong(position); number != nullptr) {
            if (PyObject_SetAttrString(error.value(), "position", number) != 0) PyErr_Clear();
            Py_DECREF(number);
        } else {
            PyErr_Clear();
        }
        error.restore();
        return nullptr;
    }
    return Py_BuildValue("(NIK)", object, redeliveries, static_cast<unsigned long long>(position));
}

// What happens to a message that was taken: `Queue::task_done` or `Queue::give_back`.
PyObject* settle(QueueObject& q, u64 position, bool finish) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    Status s;
    {
        GilPatience p;
        s = finish ? q.queue.task_done(position, p) : q.queue.give_back(position, p);
    }
    if (s == Status::ok) return Py_NewRef(Py_None);
    if (s == Status::bad_argument) {
        const char* name = finish ? "task_done" : "give_back";
        if (q.queue.redelivers()) {
            PyErr_Format(PyExc_ValueError,
                         "%s(): this process does not have the message: task_done() or give_back() "
                         "was called for it before, or another process took it. After a fork, only "
                         "the parent has what it took",
                         name);
        } else {
            PyErr_Format(PyExc_ValueError,
                         finish ? "%s() called too many times"
                                : "%s(): the queue does not redeliver; make it with "
                                  "redeliver=True",
                         name);
        }
        return nullptr;
    }
    return raise_status(s, "the queue");
}

}  // namespace

void bind_messages(Class<QueueObject>& queue) {
    queue
        .def(
            "_receive",
            [](QueueObject& q, nb::handle wait, Timeout timeout, nb::handle copy) noexcept {
                Deadline deadline;
                Copy how;
                return result(queue_deadline(q, wait.ptr(), timeout.ptr(), deadline) &&
                                      queue_copy(q, copy.ptr(), how)
                                  ? receive(q, deadline, how)
                                  : nullptr);
            },
            arg("block", true), arg("timeout", nb::none()), arg("copy", nb::none()),
            PartOf{"get_message"},
            "As `get`; gives the object, how often it was given out before, and its position for "
            "`finish`.")
        .def(
            "_finish",
            [](QueueObject& q, u64 position) noexcept { return result(settle(q, position, true)); },
            arg("position"), "Say that the work on the message at that position is finished.")
        .def(
            "_give_back",
            [](QueueObject& q, u64 position) noexcept {
                return result(settle(q, position, false));
            },
            arg("position"), "Put the message at that position back to the head.");
}

}  // namespace onecopy::py
