// Messages one by one, with what belongs to them: whether they were given out before, and which one
// is finished. What happens to the messages of dead processes is in native/queue/redeliver.cpp.
#include "bindings/codec.hpp"
#include "bindings/instance.hpp"
#include "bindings/queue.hpp"

namespace onecopy::py {
namespace {

PyTypeObject* message_type = nullptr;

// A message that was taken. All of it is here, so no exception of a signal handler can come between
// taking it and having it. If it is dropped before anybody has read it, it goes back to the queue.
struct MessageObject {
    static constexpr bool kOneAtATime = true;
    PyObject* queue;  // keeps `of`
    QueueObject& of;
    PyObject* item;
    u64 position;
    u32 redeliveries;
    bool is_seen = false;
    bool is_settled = false;  // finished, or given back

    MessageObject(PyObject* q, QueueObject& native, PyObject* object,
                  const Message& message) noexcept
        : queue(Py_NewRef(q)),
          of(native),
          item(object),
          position(message.position),
          redeliveries(message.redeliveries) {}
    MessageObject(const MessageObject&) = delete;
    MessageObject& operator=(const MessageObject&) = delete;
    ~MessageObject() {
        const Pinned pinned(of);
        if (!is_seen && !is_settled && of.reachable() && of.queue.redelivers()) {
            Using call(of);
            UnboundedWait wait;
            of.queue.give_back(position, wait);
        }
        Py_XDECREF(item);
        Py_XDECREF(queue);
    }
};

int traverse_message(PyObject* self, visitproc visit, void* arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    if (!nb::inst_ready(self)) return 0;
    MessageObject& message = *nb::inst_ptr<MessageObject>(self);
    Py_VISIT(message.item);
    Py_VISIT(message.queue);
    return 0;
}
int clear_message(PyObject* self) noexcept {
    if (!nb::inst_ready(self)) return 0;
    Py_CLEAR(nb::inst_ptr<MessageObject>(self)->item);  // the queue stays: it may go back there
    return 0;
}

// Takes the reference to the object.
PyObject* make_message(PyObject* self, QueueObject& q, PyObject* object,
                       const Message& message) noexcept {
    PyObject* made = new_instance(reinterpret_cast<PyObject*>(message_type));
    if (made == nullptr) {
        SavedError error;
        if (q.queue.redelivers()) {
            UnboundedWait wait;
            q.queue.give_back(message.position, wait);
        }
        Py_DECREF(object);
        error.restore();
        return nullptr;
    }
    new (nb::inst_ptr<MessageObject>(made)) MessageObject(self, q, object, message);
    nb::inst_mark_ready(made);
    return made;
}

PyObject* receive(PyObject* self, QueueObject& q, const Deadline& deadline, Copy how) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    Message message;
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = q.queue.get(message, p);
    }
    if (s != Status::ok) return raise_get(q, s, deadline);
    PyObject* const object = decode(q, message, how);
    if (object != nullptr) return make_message(self, q, object, message);
    // It counts as taken: a receiver that cannot rebuild it can still finish it.
    SavedError error;
    if (PyObject* number = PyLong_FromUnsignedLongLong(message.position); number != nullptr) {
        if (PyObject_SetAttrString(error.value(), "position", number) != 0) PyErr_Clear();
        Py_DECREF(number);
    } else {
        PyErr_Clear();
    }
    error.restore();
    return nullptr;
}

// What happens to a message that was taken: `Queue::task_done` or `Queue::give_back`. If `wait` is
// an UnboundedWait, a signal handler that raises does not prevent it.
PyObject* settle(QueueObject& q, u64 position, bool finish, WaitPolicy& wait) noexcept {
    const Pinned pinned(q);
    if (!usable(q)) return nullptr;
    Using call(q);
    const Status s = finish ? q.queue.task_done(position, wait) : q.queue.give_back(position, wait);
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
PyObject* settle(QueueObject& q, u64 position, bool finish) noexcept {
    GilWaitPolicy p;
    return settle(q, position, finish, p);
}

PyObject* task_done(QueueObject& q) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    Status s;
    {
        GilWaitPolicy p;
        s = q.queue.task_done(p);
    }
    if (s == Status::ok) return Py_NewRef(Py_None);
    if (s == Status::bad_argument) {
        PyErr_SetString(PyExc_ValueError,
                        q.queue.redelivers()
                            ? "task_done() called too many times: this process has finished all "
                              "that it took from the queue"
                            : "task_done() called too many times");
        return nullptr;
    }
    return raise_status(s, "the queue");
}

PyObject* settle(MessageObject& m, bool finish) noexcept {
    PyObject* done = settle(m.of, m.position, finish);
    if (done != nullptr) m.is_settled = true;
    return done;
}

// At the end of a block: finished, or given back after an exception if the queue can take it back.
// Once, also if the block has done that itself.
PyObject* leave(MessageObject& m, bool failed) noexcept {
    if (m.is_settled) return Py_NewRef(Py_None);
    const Pinned pinned(m.of);
    if (!usable(m.of)) return nullptr;
    UnboundedWait wait;
    PyObject* done = settle(m.of, m.position, !(failed && m.of.queue.redelivers()), wait);
    if (done != nullptr) m.is_settled = true;
    return done;
}

PyObject* describe(MessageObject& m) noexcept {
    return PyUnicode_FromFormat("<Message from %R%s>", m.queue,
                                m.redeliveries != 0 ? ", redelivered" : "");
}

PyType_Slot message_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(&traverse_message)},
    {Py_tp_clear, reinterpret_cast<void*>(&clear_message)},
    {0, nullptr},
};

}  // namespace

void bind_message(nb::module_& m) {
    Class<MessageObject> type(
        m, "Message", nb::is_final(), nb::is_weak_referenceable(), nb::type_slots(message_slots),
        "Message()\n--\n\n"
        "An object taken from a queue, with what belongs to it. Made by `Queue.get_message`.\n\n"
        "In a queue that redelivers, a message that is dropped before anybody has looked at its "
        "`item`, or used it in a `with` statement, goes back to the head of the queue.\n\n"
        "Examples\n--------\n"
        ">>> pool = oc.Pool(\"factory\", size=\"16MiB\")\n"
        ">>> jobs = pool.queue(\"jobs\", redeliver=True)\n"
        ">>> jobs.put_many([1, 2])\n"
        ">>> message = jobs.get_message(timeout=10)\n"
        ">>> message.item, message.deliveries, message.redelivered\n"
        "(1, 1, False)\n"
        ">>> message.give_back()  # another consumer shall have it\n"
        ">>> message = jobs.get_message()\n"
        ">>> message.item, message.redelivered\n"
        "(1, True)\n"
        ">>> message.task_done()\n"
        ">>> with jobs.get_message() as message:  # done at the end of the block\n"
        "...     message.item\n"
        "2\n");
    type.subscriptable()
        .made_by("Queue.get_message")
        .def_prop_rw(
            "item",
            [](MessageObject& o) noexcept {
                o.is_seen = true;
                return nb::borrow<nb::object>(o.item != nullptr ? o.item : Py_None);
            },
            [](MessageObject& o, nb::handle item) noexcept {
                o.is_seen = true;
                Py_XSETREF(o.item, Py_NewRef(item.ptr()));
            },
            nb::lock_self(), nb::for_setter(nb::arg("item").none()),
            "What was put. Set it to None to release it before the message is released.")
        .def_prop_ro(
            "redelivered",
            [](MessageObject& o) noexcept { return PyBool_FromLong(o.redeliveries != 0); },
            "Whether another process took it before and died, or left the pool, without finishing "
            "it: its work may have been done in part, or even in full. Always False if the queue "
            "does not redeliver.")
        .def_prop_ro(
            "deliveries", [](MessageObject& o) noexcept { return u64{o.redeliveries} + 1; },
            "How often it was given out, this time included; 64 stands for 64 and more. A message "
            "that ends each process that takes it is known by this: finish it, instead of working "
            "on it.")
        .def_prop_ro(
            "_position", [](MessageObject& o) noexcept { return o.position; },
            "Its place in the queue.")
        .def(
            "task_done", [](MessageObject& o) noexcept { return settle(o, true); },
            "Say that the work on this very message is finished. Raises ValueError if that was "
            "said before, or by an ancestor of this process, which forked with the message in "
            "hand. (A queue that does not redeliver only counts, as `Queue.task_done` does.)")
        .def(
            "give_back", [](MessageObject& o) noexcept { return settle(o, false); },
            "Put the message back to the head of its queue: it is given out again, as redelivered. "
            "Raises ValueError if the queue does not redeliver, or the message is no longer in "
            "this process's hands.")
        .def(
            "__enter__",
            [](Self<MessageObject> self) noexcept {
                self.object.is_seen = true;
                return Py_NewRef(self.python);
            },
            "Work on the message: it is finished at the end of the block.")
        .def(
            "__exit__",
            [](MessageObject& o, nb::handle kind, nb::handle, nb::handle) noexcept {
                return leave(o, !kind.is_none());
            },
            arg("kind"), arg("error"), arg("traceback"),
            "Finish the message; after an exception, give it back. A queue that does not redeliver "
            "cannot take it back. There it counts as finished either way.")
        .def("__repr__", of<&describe>);
    message_type = reinterpret_cast<PyTypeObject*>(type.ptr());
}

void bind_messages(Class<QueueObject>& queue) {
    queue
        .def(
            "get_message",
            [](Self<QueueObject> self, nb::handle wait, Timeout timeout, nb::handle copy) noexcept {
                QueueObject& q = self.object;
                Deadline deadline;
                Copy how;
                return queue_deadline(q, wait.ptr(), timeout.ptr(), deadline) &&
                               queue_copy(q, copy.ptr(), how)
                           ? receive(self.python, q, deadline, how)
                           : nullptr;
            },
            arg("block", true), arg("timeout", nb::none()), arg("copy", nb::none()),
            "Take an object, as `get` does, with what belongs to it: a `Message`, with ``item``, "
            "``redelivered``, ``deliveries`` and ``task_done()``. Raises queue.Empty, ShutDown.")
        .def(
            "task_done", [](QueueObject& q) noexcept { return result(task_done(q)); },
            "Say that the work on an object taken is finished.")
        .def_prop_ro(
            "_schema",
            [](QueueObject& q) noexcept {
                if (!usable(q)) return result(nullptr);
                u64 hash;
                const std::string_view schema = q.queue.schema(hash);
                return result(schema_bytes(q.pool, schema, hash));
            },
            "The schema of a typed queue, or None.")
        .def(
            "_set_type",
            [](QueueObject& q, nb::handle type) noexcept {
                return none_or_error(set_type(q.typing, type));
            },
            arg("made"), "Give this object the type of the queue's messages.")
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
