#include "bindings/errors.hpp"

#include <cerrno>
#include <cstdarg>
#include <cstring>

#include "bindings/patience.hpp"

namespace onecopy::py {
namespace {

struct Where {
    const char* module;
    const char* name;
};
constexpr Where kClasses[] = {
    {"onecopy.errors", "OneCopyError"},
    {"onecopy.errors", "PoolFull"},
    {"onecopy.errors", "PoolNotFound"},
    {"onecopy.errors", "PoolExists"},
    {"onecopy.errors", "PoolVersionError"},
    {"onecopy.errors", "PoolCorrupted"},
    {"onecopy.errors", "StaleRef"},
    {"onecopy.errors", "ShutDown"},
    {"onecopy.errors", "Untrusted"},
    {"onecopy.errors", "OwnerDied"},
    {"onecopy.errors", "Closed"},
    {"queue", "Empty"},
    {"queue", "Full"},
};
PyObject* classes[sizeof kClasses / sizeof kClasses[0]];

PyObject* raise_os_error(int error, const std::string& path) noexcept {
    errno = error;
    PyObject* name =
        PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size()));
    if (name == nullptr) return nullptr;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError,
                                         name);  // PermissionError and its kin by errno
    Py_DECREF(name);
    return nullptr;
}

}  // namespace

PyObject* error_class(Error which) noexcept {
    const auto i = static_cast<std::size_t>(which);
    if (classes[i] == nullptr) {
        PyObject* module = PyImport_ImportModule(kClasses[i].module);
        if (module == nullptr) return nullptr;
        classes[i] = PyObject_GetAttrString(module, kClasses[i].name);
        Py_DECREF(module);
    }
    return classes[i];
}

PyObject* raise(Error which, const char* format, ...) noexcept {
    PyObject* type = error_class(which);
    if (type == nullptr) return nullptr;
    va_list arguments;
    va_start(arguments, format);
    PyErr_FormatV(type, format, arguments);
    va_end(arguments);
    return nullptr;
}

PyObject* raise_empty() noexcept {
    if (PyObject* type = error_class(Error::empty)) PyErr_SetNone(type);
    return nullptr;
}

PyObject* raise_full() noexcept {
    if (PyObject* type = error_class(Error::full)) PyErr_SetNone(type);
    return nullptr;
}

PyObject* raise_pool_full(const PoolPtr& pool, u64 nbytes) noexcept {
    PyObject* type = error_class(Error::pool_full);
    PyObject* module = type == nullptr ? nullptr : PyImport_ImportModule("onecopy.errors");
    if (module == nullptr) return nullptr;
    PyObject* member = member_object(pool);
    PyObject* text = member == nullptr
                         ? nullptr
                         : PyObject_CallMethod(module, "pool_full_message", "OK", member,
                                               static_cast<unsigned long long>(nbytes));
    if (text != nullptr) PyErr_SetObject(type, text);
    Py_XDECREF(text);
    Py_XDECREF(member);
    Py_DECREF(module);
    return nullptr;
}

PyObject* raise_corrupt(const char* what) noexcept {
    return raise(Error::corrupted,
                 "%s: what stands in the pool makes no sense. Something outside onecopy has "
                 "written into its memory, or a writable array was "
                 "overrun; make a new pool.",
                 what);
}

PyObject* raise_corrupt(const PoolPtr& pool, const char* what) noexcept {
    pool->core().mark_corrupt();
    return raise_corrupt(what);
}

PyObject* raise_untrusted() noexcept {
    return raise(
        Error::untrusted,
        "refused to unpickle: users other than this one may write the pool, and a pickle can run "
        "any code. Send arrays, bytes, "
        "strings and numbers (none of them is pickled), or make the pool with mode=0o600.");
}

PyObject* raise_status(Status s, const char* what) noexcept {
    switch (s) {
        case Status::interrupted:
            if (!PyErr_Occurred()) PyErr_SetNone(PyExc_KeyboardInterrupt);
            return nullptr;
        case Status::shut_down:
            return raise(Error::shut_down, "%s was shut down", what);
        case Status::no_memory:
            return raise(Error::pool_full, "%s: no room in the pool", what);
        case Status::too_large:
            return raise(Error::pool_full,
                         "%s can never fit the pool: it is larger than the whole of it", what);
        case Status::no_slot:
            return raise(Error::root,
                         "%s has no slot left: as many processes as it has slots for have joined "
                         "it. Make the pool with a larger max_processes.",
                         what);
        case Status::table_full:
            return raise(Error::root,
                         "%s: a table of fixed size is full (names, blocks, subscribers, or "
                         "references to one block)",
                         what);
        case Status::stale:
            return raise(Error::stale,
                         "%s is gone: nothing kept it alive. A handle or a pickled reference keeps "
                         "nothing; keep the original until the copy "
                         "has arrived, or send it on a queue of its own pool.",
                         what);
        case Status::corrupt:
            return raise_corrupt(what);
        case Status::bad_version:
            return raise(Error::version,
                         "%s was made by a build of onecopy with another memory layout", what);
        case Status::closed:
            park_if_left();
            if (outsiders.leaving.load()) {
                return raise(
                    Error::root,
                    "%s cannot be used: this process has left its pools, because it is exiting",
                    what);
            }
            return raise(Error::root,
                         "no slot for this child: the process table was full when it was forked. "
                         "Make the pool with a larger max_processes.");
        case Status::not_allowed:
            PyErr_Format(PyExc_PermissionError, "%s: not allowed", what);
            return nullptr;
        case Status::bad_argument:
            PyErr_Format(PyExc_ValueError, "%s: not possible with these arguments", what);
            return nullptr;
        case Status::no_entry:
            PyErr_SetString(PyExc_KeyError, what);
            return nullptr;
        case Status::timed_out:
        case Status::would_block:
            PyErr_Format(PyExc_TimeoutError, "%s: not in time", what);
            return nullptr;
        case Status::system_error:
            return PyErr_SetFromErrno(PyExc_OSError);
        case Status::deadlock:
            PyErr_Format(PyExc_RuntimeError, "%s: this thread would wait for itself", what);
            return nullptr;
        case Status::not_held:
            PyErr_Format(PyExc_RuntimeError, "%s is not held", what);
            return nullptr;
        case Status::out_of_memory:
            return PyErr_NoMemory();
        case Status::ok:
        case Status::owner_died:
        case Status::exists:
        case Status::broken:
        case Status::read_elsewhere:
        case Status::written_elsewhere:
            break;
    }
    PyErr_Format(PyExc_SystemError, "%s: unexpected status %d", what, static_cast<int>(s));
    return nullptr;
}

PyObject* raise_status(Status s, const char* what, const PoolPtr& pool, u64 nbytes) noexcept {
    if (s == Status::corrupt) return raise_corrupt(pool, what);
    return s == Status::no_memory || s == Status::too_large ? raise_pool_full(pool, nbytes)
                                                            : raise_status(s, what);
}

PyObject* raise_readonly(const std::string& path) noexcept {
    return raise(Error::root,
                 "the pool at %s was opened with mode='r': nothing can be put, allocated, named, "
                 "deleted or waited for in it. Close it everywhere and open it without mode to "
                 "write.",
                 path.c_str());
}

namespace {

// Who has the file open is found out in Python.
// With a message that says which processes have the file open.
PyObject* raise_in_use(const char* message, const std::string& path) noexcept {
    PyObject* type = error_class(Error::root);
    PyObject* module = type == nullptr ? nullptr : PyImport_ImportModule("onecopy.files.users");
    if (module == nullptr) return nullptr;
    PyObject* name =
        PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size()));
    PyObject* text = name == nullptr ? nullptr : PyObject_CallMethod(module, message, "O", name);
    if (text != nullptr) PyErr_SetObject(type, text);
    Py_XDECREF(text);
    Py_XDECREF(name);
    Py_DECREF(module);
    return nullptr;
}

}  // namespace

PyObject* raise_for_pool(Status s, const Failure& why, const std::string& path) noexcept {
    const char* where = path.c_str();
    const char* step = why.what.empty() ? "refused" : why.what.c_str();
    switch (s) {
        case Status::no_entry:
            return raise(Error::pool_not_found,
                         "there is no pool at %s, or the last process that used it has gone and "
                         "taken it along",
                         where);
        case Status::exists:
            return raise(Error::pool_exists,
                         "a pool at %s exists already; open it, or choose another name", where);
        case Status::bad_version:
            return raise(Error::version,
                         "the pool at %s was made by a build of onecopy with another memory "
                         "layout. Use the same version in all processes, or "
                         "remove it once nobody uses it (onecopy gc).",
                         where);
        case Status::corrupt:
            if (why.what == kNotAPool)
                return raise(Error::corrupted, "%s is no pool of onecopy, but something else",
                             where);
            return raise(Error::corrupted,
                         "%s is no sound pool (%s); remove it once nobody uses it", where, step);
        case Status::no_memory:
            return raise(
                Error::pool_full,
                "no memory for the pool at %s (%s): %s. Ask for less, or use another backing.",
                where, step, std::strerror(why.error == 0 ? ENOSPC : why.error));
        case Status::bad_argument:
            PyErr_Format(PyExc_ValueError, "the pool at %s: %s", where, step);
            return nullptr;
        case Status::not_allowed:
            if (why.what.empty()) return raise_os_error(why.error == 0 ? EACCES : why.error, path);
            PyErr_Format(PyExc_PermissionError, "%s: %s", where, step);
            return nullptr;
        case Status::read_elsewhere:
            return raise_in_use("read_message", path);
        case Status::written_elsewhere:
            return raise_in_use("written_message", path);
        case Status::system_error:
            if (why.error == ETIMEDOUT) {
                PyErr_Format(PyExc_TimeoutError,
                             "%s: another process has had the pool directory locked for seconds; "
                             "it may be stopped (Ctrl-Z, SIGSTOP, a debugger) in the middle of "
                             "making or removing a pool. Let it go on, or end it.",
                             where);
                return nullptr;
            }
            if (why.error == EBUSY) return raise_in_use("busy_message", path);
            return raise_os_error(why.error, path);
        default:
            return raise_status(s, where);
    }
}

}  // namespace onecopy::py
