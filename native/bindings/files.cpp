// Pools as files.
#include <cerrno>
#include <iterator>

#include "bindings/member.hpp"
#include "bindings/methods.hpp"
#include "os/memory.hpp"

namespace onecopy::py {

PyObject* create_member(const CreateSpec& spec) {
    std::shared_ptr<Member> member;
    Failure why;
    Status s;
    {
        WaitOutside p;
        s = create_pool(spec, member, why, p);
    }
    if (s != Status::ok) return raise_for_pool(s, why, spec.directory + "/" + spec.name);
    return member_object(pool_of(std::move(member)));
}

PyObject* open_member(Through way, const std::string& directory, const std::string& name,
                      bool readonly, WhenStale when_stale) {
    std::shared_ptr<Member> member;
    Failure why;
    Status s;
    {
        WaitOutside p;
        s = readonly ? open_to_read(way, directory, name, member, why, p)
                     : open_pool(way, directory, name, when_stale, member, why, p);
    }
    if (s != Status::ok) return raise_for_pool(s, why, directory + "/" + name);
    return member_object(pool_of(std::move(member)));
}

PyObject* flush_member(Member& m) {
    if (m.excluded != Status::ok) return raise_closed(m, "the pool");
    Failure why;
    Status s;
    {
        Outside outside;
        s = flush_pool(m, why);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_for_pool(s, why, m.name());
}

PyObject* unlink_member(Member& m) {
    if (m.readonly) return raise_readonly(m.path);
    if (m.excluded != Status::ok) return raise_closed(m, "the pool");
    if (m.name().empty())
        return raise(Error::pool_not_found,
                     "this pool has no name any more: it was unlinked before. Its members keep it "
                     "until the last one has closed it");
    Failure why;
    Status s;
    {
        WaitOutside p;
        s = unlink_pool(m, why, p);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_for_pool(s, why, m.name());
}

std::string file_name(nb::handle object) {
    PyObject* bytes = nullptr;
    if (PyUnicode_FSConverter(object.ptr(), &bytes) == 0) throw nb::python_error();
    std::string name(PyBytes_AS_STRING(bytes), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes)));
    Py_DECREF(bytes);
    return name;
}

namespace {

PyObject* sweep(Through way, const std::string& directory, const std::string& name, bool remove) {
    PoolFileState found;
    {
        WaitOutside p;
        found = sweep_pool(way, directory, name, remove, p);
    }
    const char* text = "failed";
    switch (found) {
        case PoolFileState::in_use:
            text = "in_use";
            break;
        case PoolFileState::removed:
            text = remove ? "removed" : "stale";
            break;
        case PoolFileState::kept_persistent:
            text = "persistent";
            break;
        case PoolFileState::not_a_pool:
            text = "not_a_pool";
            break;
        case PoolFileState::failed:
            break;
        case PoolFileState::locked:
            text = "locked";
            break;
        case PoolFileState::interrupted:
            return raise_status(Status::interrupted, "the pool directory");
    }
    return PyUnicode_FromString(text);
}

PyObject* raise_for_directory(Status s, const Failure& why, const std::string& path) {
    if (s == Status::no_entry || (s == Status::system_error && why.error != ETIMEDOUT)) {
        errno = why.error != 0 ? why.error : ENOENT;
        PyObject* name =
            PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size()));
        if (name != nullptr) PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
        Py_XDECREF(name);
        return nullptr;
    }
    return raise_for_pool(s, why, path);
}

PyObject* pool_directory(const std::string& path, bool make) {
    Failure why;
    Status s;
    int fd = -1;
    {
        Outside outside;
        s = open_pool_directory(path, make, fd, why);
    }
    return s == Status::ok ? PyLong_FromLong(fd) : raise_for_directory(s, why, path);
}

// The lock of a pool directory, for Python code that gives and takes names too. In C, so that no
// exception of a signal handler comes between taking it and the block that gives it back.
struct DirectoryLockObject {
    static constexpr bool kOneAtATime = true;
    std::string directory;
    LockedDirectoryPtr locked;
};

PyObject* enter(DirectoryLockObject& o) {
    if (o.locked != nullptr) return raise_status(Status::deadlock, "the pool directory");
    Failure why;
    LockedDirectoryPtr locked;
    Status s;
    {
        WaitOutside p;
        s = lock_directory(o.directory, why, p, locked);
    }
    if (s != Status::ok) return raise_for_directory(s, why, o.directory);
    o.locked = std::move(locked);
    return PyLong_FromLong(descriptor_of(*o.locked));
}

void bind_constants(nb::module_& m) {
    constexpr struct {
        const char* name;
        NameKind kind;
    } kinds[] = {
        {"object", NameKind::object},
        {"queue", NameKind::queue},
        {"stream", NameKind::stream},
        {"frames", NameKind::frames},
        {"array", NameKind::array},
        {"lock", NameKind::lock},
        {"rlock", NameKind::rlock},
        {"rwlock", NameKind::rwlock},
        {"semaphore", NameKind::semaphore},
        {"bounded_semaphore", NameKind::bounded_semaphore},
        {"event", NameKind::event},
        {"condition", NameKind::condition},
        {"barrier", NameKind::barrier},
        {"value", NameKind::value},
        {"value_lock", NameKind::value_lock},
        {"list", NameKind::list},
        {"dict", NameKind::dict},
    };
    static_assert(std::size(kinds) == kNameKinds);
    nb::dict by_name;
    for (const auto& each : kinds)
        by_name[each.name] = static_cast<u32>(each.kind);
    m.attr("NAME_KINDS") = by_name;
    m.attr("MOST_PROCESSES") = kMaxProcesses;
    // The first bytes of a pool's file.
    m.attr("POOL_MAGIC") = nb::bytes(reinterpret_cast<const char*>(&kMagic), sizeof kMagic);
    m.attr("POOL_HIDDEN_PREFIX") = storage::kPoolFiles.prefix;
}

}  // namespace

void bind_files(nb::module_& m) {
    bind_constants(m);
    m.def(
        "memory_limit",
        [](nb::handle proc) {
            const std::string where = file_name(proc);
            os::MemoryLimit found;
            bool limited;
            {
                Outside outside;
                limited = os::memory_limit(found, where.c_str());
            }
            if (!limited) return result(Py_NewRef(Py_None));
            return result(Py_BuildValue("KKKN", found.limit, found.used, found.room,
                                        PyUnicode_DecodeFSDefault(found.group)));
        },
        nb::arg("proc") = "/proc",
        nb::sig("def memory_limit(proc: str = \"/proc\") -> tuple[int, int, int, str] | None"),
        "The limit of the control group that leaves the least: limit, used, room, its directory.");
    m.def(
        "birth_ns", [](int fd) noexcept { return os::birth_ns(fd); }, nb::arg("fd"),
        "When a file was made, in nanoseconds; 0: its file system does not tell.");
    m.def(
        "is_readable", [](int fd) noexcept { return os::is_readable(fd); }, nb::arg("fd"),
        nb::sig("def is_readable(fd: int) -> bool"),
        "Whether a read would return at once. It is used in place of Python's `select` module, "
        "because libraries that switch coroutines (gevent) replace functions of that module.");
    m.def(
        "hold_new_file", [](int fd) noexcept { return hold_new_file(fd); }, nb::arg("fd"),
        nb::sig("def hold_new_file(fd: int) -> bool"),
        "Keep a file whose name begins with `.onecopy-new-` from being swept, for as long as its "
        "descriptor is open; False: it was swept just now.");
    m.def(
        "open_pool_directory",
        [](nb::handle path, bool make) { return result(pool_directory(file_name(path), make)); },
        nb::arg("path"), nb::arg("create"),
        nb::sig("def open_pool_directory(path: str, create: bool) -> int"),
        "A descriptor of the pool directory, to be closed by the caller; refused unless only this "
        "user can change it.");
    Class<DirectoryLockObject>(
        m, "DirectoryLock",
        "The lock under which names in a pool directory are given and taken: a context manager.")
        .def(
            "__init__",
            [](DirectoryLockObject* self, nb::handle path) {
                new (self) DirectoryLockObject{file_name(path), nullptr};
            },
            arg("path"))
        .def("__enter__", [](DirectoryLockObject& o) { return result(enter(o)); })
        .def(
            "__exit__",
            [](DirectoryLockObject& o, nb::handle, nb::handle, nb::handle) noexcept {
                o.locked.reset();
            },
            arg("kind"), arg("error"), arg("traceback"));
    m.def(
        "sweep_pool",
        [](nb::handle directory, nb::handle name, bool by_path, bool remove) {
            return result(sweep(through(by_path), file_name(directory), file_name(name), remove));
        },
        nb::arg("directory"), nb::arg("name"), nb::arg("by_path"), nb::arg("remove"),
        nb::sig("def sweep_pool(directory: str, name: str, by_path: bool, remove: bool) -> str"));
    m.def(
        "look_at_pool",
        [](nb::handle directory, nb::handle name, bool by_path) {
            return result(look_at(through(by_path), file_name(directory), file_name(name)));
        },
        nb::arg("directory"), nb::arg("name"), nb::arg("by_path"),
        nb::sig("def look_at_pool(directory: str, name: str, by_path: bool) -> "
                "tuple[dict[str, int], list[dict[str, typing.Any]]]"),
        "What `Member.stats` and `Member.holders` tell, without joining.");
    m.def(
        "observe_pool",
        [](nb::handle directory, nb::handle name, bool by_path) {
            return result(observe(through(by_path), file_name(directory), file_name(name)));
        },
        nb::arg("directory"), nb::arg("name"), nb::arg("by_path"),
        nb::sig("def observe_pool(directory: str, name: str, by_path: bool) -> "
                "dict[str, typing.Any]"),
        "All that is in a pool, without joining, and also if its processes are all dead.");
    m.def(
        "peek_queue",
        [](nb::handle directory, nb::handle name, bool by_path, u32 block, u32 generation, u32 most,
           u64 budget) {
            return result(peek_queue(through(by_path), file_name(directory), file_name(name), block,
                                     generation, most, budget));
        },
        nb::arg("directory"), nb::arg("name"), nb::arg("by_path"), nb::arg("block"),
        nb::arg("generation"), nb::arg("most"), nb::arg("budget"),
        nb::sig("def peek_queue(directory: str, name: str, by_path: bool, block: int, "
                "generation: int, most: int, budget: int) -> dict[str, typing.Any]"),
        "Copies of the next messages of a queue, without joining, and without taking them.");
}

}  // namespace onecopy::py
