// A queue as Python has it: what the files about queues have in common.
#pragma once
#include "bindings/objects.hpp"
#include "queue/queue.hpp"

namespace onecopy::py {

struct QueueObject : Channel {
    QueueObject() = default;
    QueueObject(QueueObject&& other) noexcept : Channel(std::move(other)), queue(std::move(other.queue)) {}
    Queue queue;
    std::atomic<bool> stopped{false};  // nobody shall wait in wait_ready any more
    bool gives_alone = false;  // what was copied for a message belongs to who takes it: see take_alone
};

inline bool usable(const QueueObject& q) noexcept {
    return q.usable("the queue");
}

inline PyObject* raise_get(Status s) noexcept {
    if (s == Status::timed_out || s == Status::would_block) return raise_empty();
    return raise_status(s, "the queue");
}

// Messages with what belongs to them, for `onecopy.Message`.
void bind_messages(nb::class_<QueueObject>& queue);

}  // namespace onecopy::py
