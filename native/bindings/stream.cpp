#include "stream/stream.hpp"

#include <memory>

#include "bindings/async_items.hpp"
#include "bindings/codec_typed.hpp"
#include "bindings/instance.hpp"
#include "bindings/leaving.hpp"
#include "bindings/methods.hpp"
#include "bindings/waited.hpp"
#include "bindings/waiting.hpp"

namespace onecopy::py {
namespace {

struct StreamObject : Channel {
    Stream stream;
    Typing typing;
    // The member that has published through this object. A forked child has a copy of the object.
    Shared<u32> publisher_slot = kNoSlot, publisher_gen = 0;

    void note_publisher() noexcept {
        publisher_gen = core().gen;
        publisher_slot = core().slot;
    }
    bool has_published() const noexcept {
        return reachable() && core().slot == publisher_slot && core().gen == publisher_gen;
    }
};

struct SubscriptionObject : Channel {
    Stream stream;
    u32 number = 0;
    Shared<u32> slot = kNoSlot;  // the member that it belongs to: a forked child has a copy of the
                                 // object, not of the subscription
    u32 gen = 0;
    Shared<u64> missed = 0;
    Copy copy = Copy::unsaid;  // for `get` without another choice, and for iteration
    Typing typing;             // of the stream
    nb::object name;           // of the stream, for errors
    VainText is_empty;

    SubscriptionObject() = default;
    SubscriptionObject(SubscriptionObject&& other) noexcept
        : Channel(std::move(other)),
          stream(other.stream),
          number(other.number),
          slot(exchange(other.slot, kNoSlot)),
          gen(other.gen),
          missed(other.missed),
          copy(other.copy),
          typing(std::move(other.typing)),
          name(std::move(other.name)) {}
    ~SubscriptionObject() { end(); }

    bool ours() const noexcept { return is_ours(slot); }
    bool is_ours(u32 of) const noexcept {
        const Member& m = core();
        return of != kNoSlot && m.joined.load() && m.slot == of && m.gen == gen;
    }
    void end() noexcept {
        const u32 of = exchange(slot, kNoSlot);  // once
        if (pool != nullptr && is_ours(of)) stream.unsubscribe(number);
    }
};

bool usable(const StreamObject& s) noexcept {
    return s.usable("the stream");
}

// A publisher that overwrites does not wait for readers, so it waits for memory only if it has a
// timeout.
bool may_wait_for_memory(const StreamObject& s, std::int64_t deadline) noexcept {
    return deadline != kNoWait &&
           ((deadline != WaitPolicy::kForever && deadline != WaitPolicy::kNote) ||
            s.stream.policy() == StreamPolicy::lossless);
}
auto hope(StreamObject& s, std::int64_t deadline) noexcept {
    return [&s, deadline] {
        return (deadline != WaitPolicy::kForever && deadline != WaitPolicy::kNote) ||
               others_hold(s.core());
    };
}

class StreamMemory final : public Memory {
  public:
    StreamMemory(StreamObject& s, std::int64_t deadline) noexcept
        : stream_(s), deadline_(deadline) {}
    Status allocate(const PoolPtr& pool, const BlockSpec& spec, Allocated& out) noexcept override {
        const Status s = AtOnce().allocate(pool, spec, out);
        if (s != Status::no_memory || !may_wait_for_memory(stream_, deadline_)) return s;
        return wait_for_memory(
            pool->core(), deadline_, hope(stream_, deadline_),
            [&](WaitPolicy& p) { return onecopy::allocate(pool->core(), spec, p, out); });
    }

  private:
    StreamObject& stream_;
    std::int64_t deadline_;
};

std::string full_text(StreamObject& self, const Deadline& deadline) {
    const u32 depth = self.stream.depth(), pid = self.stream.slowest_reader();
    std::string text = title("stream", nb::find(self)) +
                       (deadline.from == 0 ? " is full" : " was full" + waited(deadline)) +
                       ": a subscriber";
    if (pid != 0) {
        text += pid == os::own_pid() ? " of this process" : " of process " + std::to_string(pid);
    }
    text +=
        " has not read the last " + std::to_string(depth) + (depth == 1 ? " message" : " messages");
    return text + ", and a lossless stream waits for it";
}

PyObject* publish_plain(StreamObject& self, PyObject* object, const Deadline& deadline) noexcept {
    if (!usable(self)) return nullptr;
    Using call(self);
    Message message;
    StreamMemory memory(self, deadline);
    Encoding encoding(self.pool, memory, message);
    encoding.plain_only = static_cast<bool>(self.typing);
    if (!encoding.encode(object) || !usable(self)) return nullptr;
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = self.stream.publish(message, p);
    }
    if (s == Status::timed_out || s == Status::would_block)
        return raise_in_vain(Error::full, [&] { return full_text(self, deadline); });
    if (s != Status::ok) return raise_status(s, "the stream");
    self.note_publisher();
    encoding.seal_sent();
    return Py_NewRef(Py_None);
}

PyObject* publish(StreamObject& self, PyObject* object, const Deadline& deadline) noexcept {
    if (!self.typing) [[likely]]
        return publish_plain(self, object, deadline);
    PyObject* plain =
        sendable(self.typing, object, [&self] { return title("stream", nb::find(self)); });
    if (plain == nullptr) return nullptr;
    PyObject* done = publish_plain(self, plain, deadline);
    Py_DECREF(plain);
    return done;
}

PyObject* latest(StreamObject& self, Copy how) noexcept {
    if (!usable(self)) return nullptr;
    Using call(self);
    Message message;
    Status s;
    {
        GilWaitPolicy p;
        s = self.stream.newest(message, p);
    }
    if (s == Status::ok)
        return received(self.typing, self.pool, message, how,
                        [&self] { return title("stream", nb::find(self)); });
    if (s != Status::would_block) return raise_status(s, "the stream");
    return raise_in_vain(Error::empty, [&] {
        return title("stream", nb::find(self)) + " is empty: nothing was published yet";
    });
}

// `kind`: class of the object to make, SubscriptionBase or derived from it.
PyObject* subscribe(StreamObject& self, nb::handle kind, u32 history, Copy how) noexcept {
    if (!PyType_Check(kind.ptr()) ||
        !PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(kind.ptr()),
                          reinterpret_cast<PyTypeObject*>(nb::type<SubscriptionObject>().ptr()))) {
        PyErr_SetString(PyExc_TypeError, "a subscription is of a class of subscriptions");
        return nullptr;
    }
    if (!usable(self)) return nullptr;
    Using call(self);
    SubscriptionObject fresh;
    Status s;
    {
        GilWaitPolicy p;
        s = self.stream.subscribe(p, fresh.number, history);
    }
    if (s == Status::table_full)
        return raise(Error::root,
                     "%s has %u subscribers, the most that a stream can have. Close a subscription "
                     "(Subscription.close), or publish to a second stream too",
                     title("the stream", nb::find(self)).c_str(), kSubscribers);
    if (s != Status::ok) return raise_status(s, "the stream");
    const Member& m = self.core();
    fresh.pool = self.pool;
    fresh.stream = self.stream;
    fresh.slot = m.slot;
    fresh.gen = m.gen;
    fresh.copy = how;
    fresh.typing = self.typing;
    if (!usable(self)) return nullptr;  // detached meanwhile; `fresh` ends the subscription
    fresh.held = self.held.again();
    fresh.handle = self.handle;
    if (nb::handle python = nb::find(self); python.is_valid())
        fresh.name = nb::steal(PyObject_GetAttrString(python.ptr(), "_name"));
    if (!fresh.name.is_valid()) PyErr_Clear();  // it has none
    PyObject* object = new_instance(kind);
    if (object == nullptr) return nullptr;
    new (nb::inst_ptr<SubscriptionObject>(object)) SubscriptionObject(std::move(fresh));
    nb::inst_mark_ready(object);
    return object;
}

PyObject* shut_down(StreamObject& self) noexcept {
    if (!usable(self)) return nullptr;
    Using call(self);
    Status s;
    {
        GilWaitPolicy p;
        s = self.stream.close(p);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_status(s, "the stream");
}

// ---- subscriptions ------------------------------------------------------------------------------

PyObject* read(SubscriptionObject& self, const Deadline& deadline, Copy how,
               Nothing nothing = Nothing::is_an_error) noexcept {
    if (self.detached) return raise(Error::closed, "the subscription was closed in this process");
    if (!self.ours()) {
        if (self.core().excluded != Status::ok) return raise_closed(self.core(), "the stream");
        if (has_left()) return raise_status(Status::closed, "the stream");
        return raise(
            Error::root,
            "the subscription belongs to the process that made it; subscribe again in this one");
    }
    Using call(self);
    Message message;
    u64 missed = 0;
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = self.stream.read(self.number, message, missed, p);
    }
    self.missed += missed;
    if (s == Status::ok)
        return received(self.typing, self.pool, message, how,
                        [&self] { return title("stream", self.name.ptr()); });
    if (nothing == Nothing::is_no_error) return nullptr;
    if (self.detached)
        return raise(Error::closed, "the subscription was closed in this process while it waited");
    if (s == Status::timed_out || s == Status::would_block)
        return self.is_empty.raise(Error::empty, deadline, [&] {
            return "no new message in " + title("stream", self.name.ptr()) +
                   waited(deadline, " within ");
        });
    return raise_status(s, s == Status::stale ? "the subscription" : "the stream");
}

PyObject* take_now(PyObject* object) noexcept {
    SubscriptionObject& self = *nb::inst_ptr<SubscriptionObject>(object);
    const Pinned pinned(self);
    if (self.detached || !self.ours()) return nullptr;  // the coroutine ends the loop, or raises
    return read(self, kNoWait, self.copy, Nothing::is_no_error);
}

PyObject* wait_ready(SubscriptionObject& self, std::int64_t deadline) noexcept {
    if (self.detached || !self.ours())
        return raise(Error::closed, "the subscription was closed in this process");
    Using call(self);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = self.stream.wait_ready(self.number, p);
    }
    if (s == Status::ok) return Py_NewRef(Py_True);
    if (s == Status::timed_out || s == Status::would_block) return Py_NewRef(Py_False);
    return raise_status(s, "the stream");
}

PyObject* next(SubscriptionObject& self) noexcept {
    // Before: looking the class up may import, which loses an exception that is set (Ctrl-C's, for
    // example).
    PyObject *over = error_class(Error::shut_down), *closed = error_class(Error::closed);
    if (over == nullptr || closed == nullptr) return nullptr;
    PyObject* object = read(self, WaitPolicy::kForever, self.copy);
    if (object != nullptr) return object;
    if (PyErr_ExceptionMatches(over) || (self.detached && PyErr_ExceptionMatches(closed))) {
        PyErr_Clear();
        PyErr_SetNone(PyExc_StopIteration);
    }
    return nullptr;
}

void construct(StreamObject* self, nb::handle hold, nb::handle member, u32 depth, u32 policy,
               nb::handle schema) {
    auto fresh = std::make_unique<StreamObject>();
    bool create = false;
    check(open_channel(*fresh, hold.ptr(), member.ptr(), create));
    Status s = Status::ok;
    if (create) {
        if (policy > 2) {
            PyErr_SetString(PyExc_ValueError, "policy: 0 (lossy), 1 (lossless) or 2 (latest)");
            throw nb::python_error();
        }
        GilWaitPolicy p;
        s = Stream::create(fresh->core(), depth, static_cast<StreamPolicy>(policy), p,
                           fresh->handle, schema_of(schema));
    }
    if (s == Status::ok) {
        if (create) fresh->held = Held(fresh->pool, handle_index(fresh->handle));
        s = Stream::open(fresh->core(), fresh->handle, fresh->stream);
        if (s == Status::bad_argument) {
            raise(Error::stale, "the block of that handle is no stream");
            throw nb::python_error();
        }
    }
    if (s != Status::ok) {
        raise_status(s, "the stream", fresh->pool, u64{depth} * sizeof(Slot) + kSubscribers * 64);
        throw nb::python_error();
    }
    new (self) StreamObject(std::move(*fresh));
}

PyObject* number(u64 n) noexcept {
    return PyLong_FromUnsignedLongLong(n);
}

}  // namespace

void bind_stream(nb::module_& m) {
    channel_kinds().push_back(&channel_of<StreamObject>);
    Class<SubscriptionObject>(m, "SubscriptionBase", nb::is_weak_referenceable(),
                              nb::type_slots(typing_slots<SubscriptionObject>),
                              "A subscription to a stream, of this process.")
        .subscriptable()
        .def(
            "get",
            [](SubscriptionObject& s, Timeout timeout, nb::handle copy) noexcept {
                Deadline deadline;
                Copy how = s.copy;
                return result(deadline_of(timeout.ptr(), deadline) &&
                                      (copy.is_none() || copy_from(copy.ptr(), how))
                                  ? read(s, deadline, how)
                                  : nullptr);
            },
            arg("timeout", nb::none()), arg("copy", nb::none()),
            "The next message. Raises queue.Empty, and ShutDown once the stream was shut down and "
            "everything is read. Arrays in it are read-only. With copy=\"on_write\" they are "
            "writable and private, and a page is copied when it is written; with copy=True all of "
            "them are copied at once. None: as `Stream.subscribe` says. "
            "`onecopy.writable_copy` copies one of them.")
        .def(
            "_wait_ready",
            [](SubscriptionObject& s, Timeout timeout) noexcept {
                Deadline deadline;
                return result(deadline_of(timeout.ptr(), deadline) ? wait_ready(s, deadline)
                                                                   : nullptr);
            },
            arg("timeout", nb::none()), "Wait until there is a message, and read nothing.")
        .def("__iter__", [](nb::handle self) noexcept { return nb::borrow<nb::object>(self); })
        .def("__next__", [](SubscriptionObject& s) noexcept { return result(next(s)); })
        .def(
            "_items",
            [](nb::handle self, nb::handle later) noexcept {
                return result(async_items(self.ptr(), &take_now, later.ptr()));
            },
            arg("later"), "Messages for `async for`; `later(pause)` waits for one.")
        .def(
            "close",
            [](SubscriptionObject& s) noexcept {
                if (s.detached) return;
                s.end();
                s.detach();
            },
            "End the subscription. Closing twice does nothing.")
        .def_prop_ro(
            "closed", [](SubscriptionObject& s) noexcept { return bool{s.detached}; },
            "Whether it was ended.")
        .def_prop_ro(
            "missed", [](SubscriptionObject& s) noexcept { return u64{s.missed}; },
            "How many messages were overwritten or skipped unread.");

    Class<StreamObject>(m, "StreamBase", nb::is_weak_referenceable(),
                        nb::type_slots(typing_slots<StreamObject>),
                        "A stream in a pool; see `onecopy.Stream`.")
        .subscriptable()
        .def("__init__", of<&construct>, arg("hold"), arg("member"), arg("depth"), arg("policy"),
             arg("schema", nb::none()))
        .def_prop_ro(
            "_schema",
            [](StreamObject& s) noexcept {
                if (!usable(s)) return result(nullptr);
                u64 hash;
                const std::string_view schema = s.stream.schema(hash);
                return result(schema_bytes(s.pool, schema, hash));
            },
            "The schema of a typed stream, or None.")
        .def(
            "_set_type",
            [](StreamObject& s, nb::handle type) noexcept {
                return none_or_error(set_type(s.typing, type));
            },
            arg("made"), "Give this object the type of the stream's messages.")
        .def(
            "publish",
            [](StreamObject& s, nb::handle obj, Timeout timeout) noexcept {
                Deadline deadline;
                return result(deadline_of(timeout.ptr(), deadline) ? publish(s, obj.ptr(), deadline)
                                                                   : nullptr);
            },
            arg("obj"), arg("timeout", nb::none()),
            "Send an object to every subscriber. Raises queue.Full (lossless: a subscriber is "
            "behind), PoolFull, ShutDown.")
        .def(
            "_subscribe",
            [](StreamObject& s, nb::handle kind, u32 history, nb::handle copy) noexcept {
                Copy how;
                return result(copy_from(copy.ptr(), how) ? subscribe(s, kind, history, how)
                                                         : nullptr);
            },
            arg("kind"), arg("history"), arg("copy", nb::none()), PartOf{"subscribe"},
            "Begin to receive; see `Stream.subscribe`.")
        .def(
            "latest",
            [](StreamObject& s, nb::handle copy) noexcept {
                Copy how;
                return result(copy_from(copy.ptr(), how) ? latest(s, how) : nullptr);
            },
            arg("copy", nb::none()),
            "Give the newest message, without a subscription and as often as one likes. `copy` is "
            "as for `Subscription.get`. Raises queue.Empty if nothing was published yet.")
        .def(
            "shutdown", [](StreamObject& s) noexcept { return result(shut_down(s)); },
            "End the stream for all processes: subscribers read what is there, then get ShutDown.")
        .def_prop_ro(
            "_has_published", [](StreamObject& s) noexcept { return s.has_published(); },
            "Whether this process has published through this object.")
        .def(
            "detach", [](StreamObject& s) noexcept { s.detach(); },
            "Release the stream in this process; other processes keep it.")
        .def_prop_ro(
            "depth",
            [](StreamObject& s) noexcept {
                return result(usable(s) ? number(s.stream.depth()) : nullptr);
            },
            "Messages that the stream keeps.")
        .def_prop_ro(
            "policy",
            [](StreamObject& s) noexcept {
                return result(usable(s) ? number(static_cast<u64>(s.stream.policy())) : nullptr);
            },
            "0 lossy, 1 lossless, 2 latest.")
        .def_prop_ro(
            "published",
            [](StreamObject& s) noexcept {
                return result(usable(s) ? number(s.stream.published()) : nullptr);
            },
            "Messages sent so far.")
        .def_prop_ro(
            "subscribers",
            [](StreamObject& s) noexcept {
                return result(usable(s) ? number(s.stream.subscribers()) : nullptr);
            },
            "Live subscriptions.")
        .def_prop_ro(
            "handle", [](StreamObject& s) noexcept { return s.handle; },
            "The number of the stream in its pool.")
        .def_prop_ro(
            "member",
            [](StreamObject& s) noexcept {
                return result(usable(s) ? member_object(s.pool) : nullptr);
            },
            "The process's membership in the pool.");
}

}  // namespace onecopy::py
