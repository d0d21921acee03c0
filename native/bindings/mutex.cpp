#include "bindings/mutex.hpp"

namespace onecopy::py {

PyObject* owner_tuple(u32 pid, bool alive, std::int64_t since_ns) noexcept {
    const u64 age = static_cast<u64>(os::monotonic_ns()) - static_cast<u64>(since_ns);
    const double held = static_cast<double>(static_cast<std::int64_t>(age)) * 1e-9;
    return Py_BuildValue("(IOd)", static_cast<unsigned>(pid), alive ? Py_True : Py_False,
                         held > 0 ? held : 0.0);
}

namespace {

constexpr const char* kWhat = "the lock";

bool usable(const MutexObject& o) noexcept {
    return o.usable(kWhat);
}

PyObject* acquire(PyObject* self, std::int64_t deadline) noexcept {
    MutexObject* o = ready<MutexObject>(self);
    if (o == nullptr || !usable(*o)) return nullptr;
    Using call(*o);
    Status s;
    {
        GilPatience p(deadline);
        s = o->sync.acquire(p);
    }
    if (s == Status::ok && !o->detached) [[likely]]
        return Py_NewRef(Py_True);
    if (!good(s)) return yes_or_no(s, kWhat);
    if (o->detached) {
        s == Status::ok ? o->sync.release() : o->sync.abandon();
        return closed_meanwhile(kWhat);
    }
    const OnDeath::Said said = o->on_death.tell(self, o->sync.died());
    if (said == OnDeath::Said::dealt_with) return Py_NewRef(Py_True);
    if (said == OnDeath::Said::failed) o->sync.abandon();
    return nullptr;
}

PyObject* release(MutexObject& o) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    const bool abandon = o.unrepaired && o.sync.mine() && o.sync.once();
    const Status s = abandon ? o.sync.abandon() : o.sync.release();
    if (abandon) o.unrepaired = false;
    if (s == Status::ok) [[likely]]
        return Py_NewRef(Py_None);
    if (s != Status::not_held) return raise_status(s, kWhat);
    if (o.sync.recursive()) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release a lock that this thread does not hold");
    } else {
        PyErr_SetString(PyExc_ValueError,
                        "cannot release a lock that nobody holds, or whose holder is dead");
    }
    return nullptr;
}

}  // namespace

void bind_mutex(nb::module_& m) {
    channel_kinds().push_back(&channel_of<MutexObject>);
    const auto block = nb::arg("block").none();
    nb::class_<MutexObject> type(m, "LockBase", nb::is_weak_referenceable(),
                                 nb::type_slots(collectable<MutexObject>()),
                                 "A lock in a pool; see `onecopy.Lock`.");
    type.def(
            "__init__",
            [](MutexObject* self, nb::handle hold, nb::handle member, bool recursive,
               nb::handle on_death) {
                construct_sync(self, hold, member, kWhat,
                               [&](Member& core, Patience& p, Handle& out) noexcept {
                                   return Mutex::create(core, recursive, p, out);
                               });
                self->on_death.set(on_death.ptr());
            },
            nb::arg("hold").none(), nb::arg("member"), nb::arg("recursive"), nb::arg("on_death"),
            nb::sig("def __init__(self, hold: Hold | None, member: Member, recursive: bool, "
                    "on_death: collections.abc.Callable[[typing.Any, int, bool], object]) -> None"))
        .def(
            "acquire",
            [](nb::handle_t<MutexObject> self, nb::handle wait, nb::handle timeout) noexcept {
                std::int64_t deadline;
                return result(lock_deadline(wait.ptr(), timeout.ptr(), deadline)
                                  ? acquire(self.ptr(), deadline)
                                  : nullptr);
            },
            block = true, nb::arg("timeout") = nb::none(),
            nb::sig("def acquire(self, block: bool = True, timeout: float | None = None) -> bool"),
            "Take the lock; False: not in time.")
        .def(
            "release", [](MutexObject& o) noexcept { return result(release(o)); },
            nb::sig("def release(self) -> None"), "Give it back.")
        .def(
            "__enter__",
            [](nb::handle_t<MutexObject> self) noexcept {
                return result(acquire(self.ptr(), Patience::kForever));
            },
            nb::sig("def __enter__(self) -> bool"))
        .def(
            "__exit__",
            [](MutexObject& o, nb::handle, nb::handle, nb::handle) noexcept {
                return result(release(o));
            },
            nb::arg("kind").none(), nb::arg("error").none(), nb::arg("traceback").none(),
            nb::sig("def __exit__(self, kind: type[BaseException] | None, error: BaseException | "
                    "None, traceback: types.TracebackType | None) -> None"))
        .def(
            "locked",
            [](MutexObject& o) noexcept {
                return result(usable(o) ? PyBool_FromLong(o.sync.locked()) : nullptr);
            },
            nb::sig("def locked(self) -> bool"), "Whether somebody who lives has it.")
        .def_prop_ro(
            "_mine", [](MutexObject& o) noexcept { return !o.detached && o.sync.mine(); },
            "Whether this process (recursive: this thread) has it.")
        .def_prop_ro("_is_recursive", [](MutexObject& o) noexcept { return o.sync.recursive(); })
        .def_prop_ro(
            "_owner_info",
            [](MutexObject& o) noexcept {
                Owner who;
                if (!usable(o)) return result(nullptr);
                return result(o.sync.owner(who) ? owner_tuple(who.pid, who.alive, who.since_ns)
                                                : Py_NewRef(Py_None));
            },
            nb::sig("def _owner_info(self) -> tuple[int, bool, float] | None"),
            "Who has it: pid, whether it lives, seconds since it took it.");
    bind_channel<MutexObject>(type, kWhat);
}

}  // namespace onecopy::py
