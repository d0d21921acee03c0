// Pools as files.
#include <cerrno>

#include "bindings/member.hpp"

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

PyObject* open_member(const std::string& directory, const std::string& name, bool readonly) {
    std::shared_ptr<Member> member;
    Failure why;
    Status s;
    {
        WaitOutside p;
        s = readonly ? open_to_read(directory, name, member, why, p)
                     : open_pool(directory, name, member, why, p);
    }
    if (s != Status::ok) return raise_for_pool(s, why, directory + "/" + name);
    return member_object(pool_of(std::move(member)));
}

PyObject* flush_member(Member& m) {
    Failure why;
    Status s;
    {
        Outside outside;
        s = flush_pool(m, why);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_for_pool(s, why, m.path);
}

PyObject* unlink_member(Member& m) {
    if (m.readonly) return raise_readonly(m.path);
    Failure why;
    Status s;
    {
        WaitOutside p;
        s = unlink_pool(m, why, p);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_for_pool(s, why, m.path);
}

std::string file_name(nb::handle object) {
    PyObject* bytes = nullptr;
    if (PyUnicode_FSConverter(object.ptr(), &bytes) == 0) throw nb::python_error();
    std::string name(PyBytes_AS_STRING(bytes), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes)));
    Py_DECREF(bytes);
    return name;
}

namespace {

PyObject* sweep(const std::string& directory, const std::string& name, bool remove) {
    Orphan found;
    {
        WaitOutside p;
        found = sweep_pool(directory, name, remove, p);
    }
    const char* text = "failed";
    switch (found) {
        case Orphan::in_use:
            text = "in_use";
            break;
        case Orphan::removed:
            text = remove ? "removed" : "orphan";
            break;
        case Orphan::kept_persistent:
            text = "persistent";
            break;
        case Orphan::not_a_pool:
            text = "not_a_pool";
            break;
        case Orphan::failed:
            break;
        case Orphan::locked:
            text = "locked";
            break;
        case Orphan::interrupted:
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

PyObject* check_pool_directory(const std::string& path, bool make) {
    Failure why;
    Status s;
    {
        Outside outside;
        s = check_directory(path, make, why);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_for_directory(s, why, path);
}

// The lock of a pool directory, for Python code that gives and takes names too. In C, so that no
// exception of a signal handler comes between taking it and the block that gives it back.
struct DirectoryLockObject {
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
    return Py_NewRef(Py_None);
}

}  // namespace

void bind_files(nb::module_& m) {
    m.def(
        "birth_ns", [](int fd) noexcept { return os::birth_ns(fd); }, nb::arg("fd"),
        "When a file was made, in nanoseconds; 0: its file system does not tell.");
    m.def(
        "check_directory",
        [](nb::handle path, bool make) {
            return result(check_pool_directory(file_name(path), make));
        },
        nb::arg("path"), nb::arg("create"),
        nb::sig("def check_directory(path: str, create: bool) -> None"));
    nb::class_<DirectoryLockObject>(
        m, "DirectoryLock",
        "The lock under which names in a pool directory are given and taken: a context manager.")
        .def(
            "__init__",
            [](DirectoryLockObject* self, nb::handle path) {
                new (self) DirectoryLockObject{file_name(path), nullptr};
            },
            nb::arg("path"), nb::sig("def __init__(self, path: str) -> None"))
        .def(
            "__enter__", [](DirectoryLockObject& o) { return result(enter(o)); },
            nb::sig("def __enter__(self) -> None"))
        .def(
            "__exit__",
            [](DirectoryLockObject& o, nb::handle, nb::handle, nb::handle) noexcept {
                o.locked.reset();
            },
            nb::arg("kind").none(), nb::arg("error").none(), nb::arg("traceback").none(),
            nb::sig("def __exit__(self, kind: type[BaseException] | None, error: BaseException | "
                    "None, traceback: types.TracebackType | None) -> None"));
    m.def(
        "sweep_pool",
        [](nb::handle directory, nb::handle name, bool remove) {
            return result(sweep(file_name(directory), file_name(name), remove));
        },
        nb::arg("directory"), nb::arg("name"), nb::arg("remove"),
        nb::sig("def sweep_pool(directory: str, name: str, remove: bool) -> str"));
}

}  // namespace onecopy::py
