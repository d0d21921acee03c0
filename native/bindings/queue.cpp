#include "bindings/queue.hpp"

#include <algorithm>
#include <memory>
#include <new>
#include <optional>

#include "bindings/async_items.hpp"
#include "bindings/codec.hpp"
#include "bindings/waiting.hpp"

namespace onecopy::py {
namespace {

constexpr u32 kBatch = 64;

// To wait for memory without a timeout makes sense as long as something may be released: a message
// of the queue, or what other processes hold.
auto hope(QueueObject& q, std::int64_t deadline) noexcept {
    return [&q, deadline] {
        return (deadline != WaitPolicy::kForever && deadline != WaitPolicy::kNote) ||
               q.queue.occupied() != 0 || others_hold(q.core());
    };
}

class QueueMemory final : public Memory {
  public:
    QueueMemory(QueueObject& q, std::int64_t deadline) noexcept : queue_(q), deadline_(deadline) {}
    Status allocate(const PoolPtr& pool, const BlockSpec& spec, Allocated& out) noexcept override {
        const Status s = AtOnce().allocate(pool, spec, out);
        if (s != Status::no_memory || deadline_ == kNoWait) return s;
        return wait_for_memory(
            pool->core(), deadline_, hope(queue_, deadline_),
            [&](WaitPolicy& p) { return onecopy::allocate(pool->core(), spec, p, out); });
    }

  private:
    QueueObject& queue_;
    std::int64_t deadline_;
};

// "queue 'jobs' is full: it has room for 4 messages", and what takes the room.
std::string full_text(QueueObject& q, const Deadline& deadline) {
    const u64 most = q.queue.maxsize();
    std::string text = title("queue", nb::find(q)) +
                       (deadline.from == 0 ? " is full" : " was full" + waited(deadline)) +
                       ": it has room for " + std::to_string(most) +
                       (most == 1 ? " message" : " messages");
    if (q.queue.redelivers())
        text +=
            ", and counts what was taken and is not finished, from the oldest on (task_done, or "
            "`with queue.get_message()`, finishes it)";
    return text;
}

PyObject* raise_put(QueueObject& q, Status s, const Deadline& deadline) noexcept {
    if (s == Status::timed_out || s == Status::would_block)
        return q.is_full.raise(Error::full, deadline, [&] { return full_text(q, deadline); });
    return raise_status(s, "the queue", q.pool, kChunkSlots * sizeof(Slot));
}

// Sends messages. `done`: how many were sent. Waits for room and for memory.
Status send(QueueObject& q, const Message* messages, u32 n, u32& done,
            std::int64_t deadline) noexcept {
    auto attempt = [&](WaitPolicy& p) {
        if (n == 1) {
            const Status s = q.queue.put(*messages, p);
            done = s == Status::ok ? 1 : 0;
            return s;
        }
        u32 moved = 0;
        const Status s = q.queue.put_many(messages + done, n - done, moved, p);
        done += moved;
        return s;
    };
    done = 0;
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = attempt(p);
    }
    if (s != Status::no_memory || deadline == kNoWait) [[likely]]
        return s;
    return wait_for_memory(q.core(), deadline, hope(q, deadline), attempt);
}

// Sends a message in the place of the oldest one if the queue is full. It waits only if there is
// none to drop: in a queue that redelivers, what was taken and is not finished takes room too.
Status send_over_oldest(QueueObject& q, const Message& message, std::int64_t deadline) noexcept {
    for (;;) {
        u32 done;
        Status s = send(q, &message, 1, done, kNoWait);
        if (s != Status::would_block && s != Status::timed_out) return s;
        Message oldest;
        GilWaitPolicy p(kNoWait);
        s = q.queue.get(oldest, p);
        if (s == Status::would_block || s == Status::timed_out) {
            // Another thread has taken it, and there is room; or nothing of what is there can be
            // dropped.
            return send(q, &message, 1, done, deadline);
        }
        if (s != Status::ok) return s;
        if (oldest.block != 0) Held dropped(q.pool, handle_index(oldest.block));
        q.queue.task_done(oldest.position, p);
    }
}

PyObject* put_plain(QueueObject& q, PyObject* object, const Deadline& deadline,
                    bool drop_oldest) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    Message message;
    u32 done;
    const auto send_it = [&] {
        return drop_oldest ? send_over_oldest(q, message, deadline)
                           : send(q, &message, 1, done, deadline);
    };
    if (encode_small(object, message)) [[likely]] {
        const Status s = send_it();
        if (s == Status::ok) [[likely]]
            return Py_NewRef(Py_None);
        return raise_put(q, s, deadline);
    }
    if (q.queue.is_shut_down()) return raise_status(Status::shut_down, "the queue");
    QueueMemory memory(q, deadline);
    Encoding encoding(q.pool, memory, message);
    encoding.plain_only = static_cast<bool>(q.typing);
    if (!encoding.encode(object)) return nullptr;
    if (!usable(q)) return nullptr;  // pickling runs Python code
    if (const Status s = send_it(); s != Status::ok) return raise_put(q, s, deadline);
    encoding.seal_sent();
    return Py_NewRef(Py_None);
}

// Checks an object that goes through a typed queue: a new reference to what is sent, or nullptr.
PyObject* checked(QueueObject& q, PyObject* object) noexcept {
    return sendable(q.typing, object, [&q] { return title("queue", nb::find(q)); });
}

PyObject* put(QueueObject& q, PyObject* object, const Deadline& deadline,
              bool drop_oldest = false) noexcept {
    if (!q.typing) [[likely]]
        return put_plain(q, object, deadline, drop_oldest);
    PyObject* plain = checked(q, object);
    if (plain == nullptr) return nullptr;
    PyObject* done = put_plain(q, plain, deadline, drop_oldest);
    Py_DECREF(plain);
    return done;
}

PyObject* get(QueueObject& q, const Deadline& deadline, Copy how,
              Nothing nothing = Nothing::is_an_error) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    Message message;
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = q.queue.get(message, p);
    }
    if (s == Status::ok) [[likely]]
        return decode(q, message, how);
    return nothing == Nothing::is_no_error ? nullptr : raise_get(q, s, deadline);
}

}  // namespace

PyObject* raise_get(QueueObject& q, Status s, const Deadline& deadline) noexcept {
    if (s != Status::timed_out && s != Status::would_block) return raise_status(s, "the queue");
    if (q.when_empty) [[unlikely]] {
        PyObject* call = q.when_empty.get();
        PyObject* called = call == nullptr ? Py_NewRef(Py_None) : PyObject_CallNoArgs(call);
        Py_XDECREF(call);
        if (called == nullptr) return nullptr;
        Py_DECREF(called);
    }
    return q.is_empty.raise(Error::empty, deadline, [&] {
        return title("queue", nb::find(q)) +
               (deadline.from == 0 ? " is empty" : " was empty" + waited(deadline));
    });
}

namespace {

PyObject* next(QueueObject& q) noexcept {
    // Before: looking the class up may import, which loses an exception that is set.
    PyObject* over = error_class(Error::shut_down);
    if (over == nullptr) return nullptr;
    PyObject* object = get(q, WaitPolicy::kForever, q.as_standard ? Copy::fresh : Copy::unsaid);
    if (object == nullptr && PyErr_ExceptionMatches(over)) {
        PyErr_Clear();
        PyErr_SetNone(PyExc_StopIteration);
    }
    return object;
}

PyObject* take_now(PyObject* object) noexcept {
    QueueObject& q = *nb::inst_ptr<QueueObject>(object);
    const Pinned pinned(q);
    return get(q, kNoWait, q.as_standard ? Copy::fresh : Copy::unsaid, Nothing::is_no_error);
}

// ---- many ---------------------------------------------------------------------------------------

// Messages that are encoded and not yet sent.
class Batch {
  public:
    Batch(QueueObject& q, const Deadline& deadline) noexcept
        : queue_(q), deadline_(deadline), messages_(new (std::nothrow) Message[kBatch]) {}
    // False with MemoryError set.
    bool has_memory() const noexcept { return messages_ != nullptr || PyErr_NoMemory() != nullptr; }

    // False with an exception set. Then what was added before has been sent, as far as that was
    // possible.
    bool add(PyObject* object) noexcept {
        PyObject* plain = queue_.typing ? checked(queue_, object) : Py_NewRef(object);
        if (plain == nullptr) return send_before_error();
        Message& message = messages_[count_];
        message.block = 0;
        const bool added = encode_small(plain, message) || add_large(plain);
        Py_DECREF(plain);
        return added && (++count_ < kBatch || flush());
    }
    bool flush() noexcept {
        if (count_ == 0) return true;
        if (!usable(queue_)) return false;
        const u32 n = std::exchange(count_, 0);
        u32 done;
        const Status s = send(queue_, messages_.get(), n, done, deadline_);
        sent_ += done;
        for (u32 i = 0; i < n; ++i) {
            if (large_[i] != nullptr && i < done) large_[i]->seal_sent();
            large_[i].reset();
        }
        if (s == Status::ok) return true;
        if (s == Status::timed_out || s == Status::would_block) {
            raise_in_vain(Error::full, [this] {
                return full_text(queue_, deadline_) + "; " + std::to_string(sent_) +
                       " objects were put before that";
            });
        } else {
            raise_put(queue_, s, deadline_);
        }
        return false;
    }

  private:
    // The batch itself may hold the memory that it waits for, and no receiver can take that
    // before it is sent.
    class BatchMemory final : public Memory {
      public:
        explicit BatchMemory(Batch& b) noexcept : batch_(b) {}
        Status allocate(const PoolPtr& pool, const BlockSpec& spec,
                        Allocated& out) noexcept override {
            const Status s = AtOnce().allocate(pool, spec, out);
            if (s != Status::no_memory) return s;
            if (!batch_.flush()) return Status::interrupted;  // an exception is set
            return QueueMemory(batch_.queue_, batch_.deadline_).allocate(pool, spec, out);
        }

      private:
        Batch& batch_;
    };

    // As in a loop of puts: the objects before the one that raised are sent. False.
    bool send_before_error() noexcept {
        SavedError error;
        if (!flush()) PyErr_Clear();
        error.restore();
        return false;
    }

    bool add_large(PyObject* object) noexcept {
        std::unique_ptr<Encoding> encoding(new (std::nothrow)
                                               Encoding(queue_.pool, memory_, scratch_));
        if (encoding == nullptr) PyErr_NoMemory();
        scratch_.block = 0;
        if (encoding != nullptr) encoding->plain_only = static_cast<bool>(queue_.typing);
        if (encoding == nullptr || !encoding->encode(object)) return send_before_error();
        // Encoding may have sent the batch, so its place is known only now
        messages_[count_] = scratch_;
        large_[count_] = std::move(encoding);
        return true;
    }

    QueueObject& queue_;
    Deadline deadline_;
    std::unique_ptr<Message[]> messages_;
    std::unique_ptr<Encoding> large_[kBatch];  // of the messages that need one
    BatchMemory memory_{*this};
    Message scratch_;
    u32 count_ = 0;
    u64 sent_ = 0;
};

PyObject* put_many(QueueObject& q, PyObject* iterable, const Deadline& deadline) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    PyObject* iterator = PyObject_GetIter(iterable);
    if (iterator == nullptr) return nullptr;
    Batch batch(q, deadline);
    bool done = batch.has_memory();
    while (done) {
        PyObject* object = PyIter_Next(iterator);
        if (object == nullptr) break;
        done = batch.add(object);
        Py_DECREF(object);
    }
    Py_DECREF(iterator);
    if (!done) return nullptr;
    SavedError error;  // the iterator's own, if it raised: what it gave before is sent
    const bool flushed = batch.flush();
    if (error) {
        if (!flushed) PyErr_Clear();
        error.restore();
        return nullptr;
    }
    return flushed ? Py_NewRef(Py_None) : nullptr;
}

// Messages that were taken belong to the caller: one that cannot be decoded must not lose the
// others.
PyObject* get_many(QueueObject& q, Py_ssize_t max_items, const Deadline& deadline,
                   Copy how) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    if (max_items < 1) {
        PyErr_SetString(PyExc_ValueError, "'max_items' must be a positive number");
        return nullptr;
    }
    const std::unique_ptr<Message[]> messages(new (std::nothrow) Message[kBatch]);
    if (messages == nullptr) return PyErr_NoMemory();
    PyObject* items = PyList_New(0);
    if (items == nullptr) return nullptr;
    std::optional<SavedError> error;  // of the first that could not be decoded
    Py_ssize_t left = max_items;
    while (left > 0 && !error) {
        const u32 n = static_cast<u32>(std::min<Py_ssize_t>(left, kBatch));
        u32 got = 0;
        Status s;
        {
            GilWaitPolicy p(left == max_items ? deadline.at : kNoWait);
            s = q.queue.get_many(messages.get(), n, got, p);
        }
        if (s != Status::ok) {
            if (left != max_items) break;  // some are there
            Py_DECREF(items);
            return raise_get(q, s, deadline);
        }
        left -= static_cast<Py_ssize_t>(got);
        for (u32 i = 0; i < got; ++i) {
            PyObject* item = decode(q, messages[i], how);
            const bool added = item != nullptr && PyList_Append(items, item) == 0;
            Py_XDECREF(item);
            if (added) continue;
            if (!error) {
                error.emplace();
            } else {
                PyErr_Clear();
            }
        }
        if (got < n || q.detached) break;
    }
    if (!error) return items;
    // The exception has the others as `error.items`.
    if (PyObject_SetAttrString(error->value(), "items", items) != 0) PyErr_Clear();
    Py_DECREF(items);
    error->restore();
    return nullptr;
}

// ---- the rest -----------------------------------------------------------------------------------

PyObject* join(QueueObject& q, std::int64_t deadline) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = q.queue.join(p);
    }
    if (s == Status::ok) return Py_NewRef(Py_None);
    if (s == Status::timed_out || s == Status::would_block) {
        PyErr_Format(PyExc_TimeoutError, "%llu tasks of the queue were not finished in time",
                     static_cast<unsigned long long>(q.queue.unfinished()));
        return nullptr;
    }
    return raise_status(s, "the queue");
}

PyObject* shut_down(QueueObject& q, bool immediate) noexcept {
    if (!usable(q)) return nullptr;
    Using call(q);
    Status s;
    {
        GilWaitPolicy p;
        s = q.queue.shut_down(immediate, p);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_status(s, "the queue");
}

void construct(QueueObject* self, nb::handle hold, nb::handle member, u64 maxsize, bool redeliver,
               nb::handle schema) {
    auto fresh = std::make_unique<QueueObject>();
    bool create = false;
    check(open_channel(*fresh, hold.ptr(), member.ptr(), create));
    Status s = Status::ok;
    if (create) {
        GilWaitPolicy p;
        const u32 flags = redeliver ? u32{kQueueRedelivers} : 0;
        s = Queue::create(fresh->core(), maxsize, flags, p, fresh->handle, schema_of(schema));
    }
    if (s == Status::ok) {
        if (create) fresh->held = Held(fresh->pool, handle_index(fresh->handle));
        s = Queue::open(fresh->core(), fresh->handle, fresh->queue);
        if (s == Status::bad_argument) {
            raise(Error::stale, "the block of that handle is no queue");
            throw nb::python_error();
        }
    }
    if (s != Status::ok) {
        raise_status(s, "the queue", fresh->pool, 256 + (maxsize / kChunkSlots + 3) * 8);
        throw nb::python_error();
    }
    new (self) QueueObject(std::move(*fresh));
}

}  // namespace

void bind_queue(nb::module_& m) {
    channel_kinds().push_back(&channel_of<QueueObject>);
    Class<QueueObject> queue(m, "QueueBase", nb::is_weak_referenceable(),
                             nb::type_slots(typing_slots<QueueObject>),
                             "A queue in a pool; see `onecopy.Queue`.");
    queue
        .def("__init__", of<&construct>, arg("hold"), arg("member"), arg("maxsize"),
             arg("redeliver"), arg("schema", nb::none()))
        .def(
            "put",
            [](QueueObject& q, nb::handle obj, nb::handle wait, Timeout timeout,
               bool drop_oldest) noexcept {
                Deadline deadline;
                return result(queue_deadline(q, wait.ptr(), timeout.ptr(), deadline)
                                  ? put(q, obj.ptr(), deadline, drop_oldest)
                                  : nullptr);
            },
            arg("obj"), arg("block", true), arg("timeout", nb::none()), arg("drop_oldest", false),
            "Put an object; with `drop_oldest`, in the place of the oldest one if the queue is "
            "full. Raises queue.Full, PoolFull, ShutDown.")
        .def(
            "__iter__", [](nb::handle self) noexcept { return nb::borrow<nb::object>(self); },
            "Take objects until the queue is shut down and empty.")
        .def("__next__", [](QueueObject& q) noexcept { return result(next(q)); })
        .def(
            "_items",
            [](nb::handle self, nb::handle later) noexcept {
                return result(async_items(self.ptr(), &take_now, later.ptr()));
            },
            arg("later"), "Objects for `async for`; `later(pause)` waits for one.")
        .def(
            "get",
            [](QueueObject& q, nb::handle wait, Timeout timeout, nb::handle copy) noexcept {
                Deadline deadline;
                Copy how;
                return result(queue_deadline(q, wait.ptr(), timeout.ptr(), deadline) &&
                                      queue_copy(q, copy.ptr(), how)
                                  ? get(q, deadline, how)
                                  : nullptr);
            },
            arg("block", true), arg("timeout", nb::none()), arg("copy", nb::none()),
            "Take an object. Raises queue.Empty, ShutDown. Arrays in it are read-only. With "
            "copy=\"on_write\" they are writable and private, and a page is copied when it is "
            "written; with copy=True all of them are copied at once. `onecopy.writable_copy` "
            "copies one of them.")
        .def_prop_rw(
            "_as_standard", [](QueueObject& q) noexcept { return bool{q.as_standard}; },
            [](QueueObject& q, bool yes) noexcept { q.as_standard = yes; },
            "Whether this object is as multiprocessing's queues are: arrays that were copied for a "
            "message come out as private copies, and a negative timeout does not wait.")
        .def(
            "put_nowait",
            [](QueueObject& q, nb::handle obj) noexcept {
                return result(put(q, obj.ptr(), kNoWait));
            },
            arg("obj"), "As `put` with block=False.")
        .def(
            "get_nowait",
            [](QueueObject& q, nb::handle copy) noexcept {
                Copy how;
                return result(queue_copy(q, copy.ptr(), how) ? get(q, kNoWait, how) : nullptr);
            },
            arg("copy", nb::none()), "As `get` with block=False.")
        .def(
            "put_many",
            [](QueueObject& q, AnIterable iterable, Timeout timeout) noexcept {
                Deadline deadline;
                return result(deadline_of(timeout.ptr(), deadline)
                                  ? put_many(q, iterable.ptr(), deadline)
                                  : nullptr);
            },
            arg("iterable"), arg("timeout", nb::none()),
            "Put objects in order, as a loop of `put` does, and faster. The timeout is for all of "
            "them.")
        .def(
            "get_many",
            [](QueueObject& q, Py_ssize_t max_items, Timeout timeout, nb::handle copy) noexcept {
                Deadline deadline;
                Copy how;
                return result(deadline_of(timeout.ptr(), deadline) && queue_copy(q, copy.ptr(), how)
                                  ? get_many(q, max_items, deadline, how)
                                  : nullptr);
            },
            arg("max_items"), arg("timeout", nb::none()), arg("copy", nb::none()),
            "Take what is there, at most so many; waits for the first. `copy` is as for `get`. If "
            "one cannot be decoded, the exception has the others as `items`.")
        .def(
            "qsize",
            [](QueueObject& q) noexcept {
                return result(usable(q) ? PyLong_FromUnsignedLongLong(q.queue.size()) : nullptr);
            },
            "How many objects are there to be taken.")
        .def(
            "empty",
            [](QueueObject& q) noexcept {
                return result(usable(q) ? PyBool_FromLong(q.queue.size() == 0) : nullptr);
            },
            "Whether there is none.")
        .def(
            "full",
            [](QueueObject& q) noexcept {
                return result(usable(q) ? PyBool_FromLong(q.queue.full()) : nullptr);
            },
            "Whether there is no room for one more.")
        .def(
            "join",
            [](QueueObject& q, Timeout timeout) noexcept {
                Deadline deadline;
                return result(deadline_of(timeout.ptr(), deadline) ? join(q, deadline) : nullptr);
            },
            arg("timeout", nb::none()),
            "Wait until `task_done` was called for every object that was put. Raises TimeoutError.")
        .def(
            "shutdown",
            [](QueueObject& q, bool immediate) noexcept { return result(shut_down(q, immediate)); },
            arg("immediate", false),
            "End the queue for all processes: no more puts; gets work until it is empty, or fail "
            "at once if `immediate`.")
        .def(
            "detach", [](QueueObject& q) noexcept { q.detach(); },
            "Release the queue in this process; other processes keep it.")
        .def_prop_ro(
            "redeliver",
            [](QueueObject& q) noexcept {
                return result(usable(q) ? PyBool_FromLong(q.queue.redelivers()) : nullptr);
            },
            "Whether what a process took and did not finish before it died is given out again.")
        .def_prop_ro(
            "maxsize",
            [](QueueObject& q) noexcept {
                return result(usable(q) ? PyLong_FromUnsignedLongLong(q.queue.maxsize()) : nullptr);
            },
            "Objects at most; 0: as many as fit the pool.")
        .def_prop_ro(
            "is_shut_down",
            [](QueueObject& q) noexcept {
                return result(usable(q) ? PyBool_FromLong(q.queue.is_shut_down()) : nullptr);
            },
            "Whether `shutdown` was called, by any process.")
        .def_prop_ro(
            "handle", [](QueueObject& q) noexcept { return q.handle; },
            "The number of the queue in its pool.")
        .def_prop_ro(
            "member",
            [](QueueObject& q) noexcept {
                return result(usable(q) ? member_object(q.pool) : nullptr);
            },
            "The process's membership in the pool.");
    queue.subscriptable();
    bind_message(m);
    bind_messages(queue);
    bind_queue_waits(queue);
}

}  // namespace onecopy::py
