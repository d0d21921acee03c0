// A queue as Python has it: what the files about queues have in common.
#pragma once
#include "bindings/codec_typed.hpp"
#include "bindings/methods.hpp"
#include "bindings/private_memory.hpp"
#include "bindings/waited.hpp"
#include "queue/queue.hpp"

namespace onecopy::py {

struct QueueObject : Channel {
    QueueObject() = default;
    QueueObject(QueueObject&& other) noexcept
        : Channel(std::move(other)), queue(std::move(other.queue)) {}
    Slot when_empty;  // called when a get finds nothing; it does not refer to the queue
    Queue queue;
    Typing typing;
    std::atomic<bool> stopped{false};  // no thread may wait in wait_ready any more
    // As multiprocessing's: arrays come out as private copies; a negative timeout does not wait.
    Shared<bool> as_standard = false;
    VainText is_empty, is_full;
};

inline bool usable(const QueueObject& q) noexcept {
    return q.usable("the queue");
}

// False with an exception set.
inline bool queue_deadline(const QueueObject& q, PyObject* block, PyObject* timeout,
                           Deadline& out) noexcept {
    return q.as_standard ? standard_deadline(block, timeout, out)
                         : deadline_of(block, timeout, out);
}

// How the caller wants to have what it takes. False with an exception set.
inline bool queue_copy(const QueueObject& q, PyObject* copy, Copy& out) noexcept {
    if (!copy_from(copy, out)) return false;
    if (q.as_standard && copy == Py_None) out = Copy::fresh;
    return true;
}

// The object of a message that was taken.
inline PyObject* decode(QueueObject& q, const Message& message, Copy how) noexcept {
    return received(q.typing, q.pool, message, how, [&q] { return title("queue", nb::find(q)); });
}

PyObject* raise_get(QueueObject& q, Status s, const Deadline& deadline) noexcept;

// Messages with what belongs to them, for `onecopy.Message`.
void bind_message(nb::module_& m);
void bind_messages(Class<QueueObject>& queue);
void bind_queue_waits(Class<QueueObject>& queue);

}  // namespace onecopy::py
