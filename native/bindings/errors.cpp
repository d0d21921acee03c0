#include "bindings/errors.hpp"

#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <new>
#include <string>

#include "bindings/leaving.hpp"
#include "bindings/objects.hpp"

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
Kept classes[sizeof kClasses / sizeof kClasses[0]];

PyObject* raise_os_error(int error, const std::string& path) noexcept {
    errno = error;
    PyObject* name =
        PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size()));
    if (name == nullptr) return nullptr;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError,
                                         name);  // PermissionError and other classes, by errno
    Py_DECREF(name);
    return nullptr;
}

}  // namespace

PyObject* error_class(Error which) noexcept {
    const auto i = static_cast<std::size_t>(which);
    PyObject* kept = classes[i].get();
    if (kept == nullptr) {
        PyObject* module = PyImport_ImportModule(kClasses[i].module);
        if (module == nullptr) return nullptr;
        kept = classes[i].keep(PyObject_GetAttrString(module, kClasses[i].name));
        Py_DECREF(module);
    }
    return kept;
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

PyObject* raise_pool_full(const PoolPtr& pool, u64 nbytes) noexcept {
    PyObject* type = error_class(Error::pool_full);
    PyObject* module = type == nullptr ? nullptr : PyImport_ImportModule("onecopy._core.pool_full");
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
    // What was read may belong to another pool by now: it says nothing about this one.
    if (!pool->core().joined.load()) return raise_status(Status::closed, what);
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

namespace {

// Names every pool of this process whose descriptor is lost: usually there is one.
PyObject* raise_lost(const char* what) noexcept {
    std::string pools;
    for_each_pool([&pools](Member& m) {
        if (!m.file.lost()) return;
        if (!pools.empty()) pools += ", ";
        pools += (m.name().empty() ? "a pool without a name" : m.name()) + " (number " +
                 std::to_string(m.file.number()) + ")";
    });
    return raise(
        Error::root,
        "%s cannot be used any more in this process: something in it closed the descriptor "
        "of the pool at %s, or gave its number to another file. A library that daemonizes "
        "does that (os.closerange), and so does a program that closes a number twice. "
        "Open pools after daemonizing, or leave their descriptors open. Other processes "
        "are not affected; arrays that this one has stay valid.",
        what, pools.c_str());
}

}  // namespace

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
            if (has_left()) {
                return raise(
                    Error::root,
                    "%s cannot be used: this process has left its pools, because it is exiting",
                    what);
            }
            return raise(Error::root, "%s cannot be used: this process has left its pool", what);
        case Status::lost:
            return raise_lost(what);
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
        case Status::no_slot:
        case Status::read_elsewhere:
        case Status::written_elsewhere:
            break;
    }
    PyErr_Format(PyExc_SystemError, "%s: unexpected status %d", what, static_cast<int>(s));
    return nullptr;
}

PyObject* raise_status(Status s, const char* what, const PoolPtr& pool, u64 nbytes) noexcept {
    if (s == Status::corrupt) return raise_corrupt(pool, what);
    if (s == Status::closed) return raise_closed(pool->core(), what);
    return s == Status::no_memory || s == Status::too_large ? raise_pool_full(pool, nbytes)
                                                            : raise_status(s, what);
}

namespace {

// What to do when all slots of a pool are taken.
std::string advice_on_slots(u32 limit) {
    if (limit >= kMaxProcesses)
        return "No pool has room for more; close it in processes that do not need it, or use "
               "several pools";
    return "Make the pool with a larger max_processes (" + std::to_string(kMaxProcesses) +
           " at most)";
}

// Of a forked child: why it is no member of a pool that its parent is a member of.
std::string why_excluded(const Member& m) {
    const std::string slots = std::to_string(m.geo().max_processes);
    const std::string again =
        m.name().empty() ? ""
                         : ", or open it here again by its path (Pool.open('" + m.name() + "'))";
    if (m.excluded == Status::no_slot)
        return "all " + slots + " slots of the pool were taken (max_processes=" + slots + "). " +
               advice_on_slots(m.geo().max_processes) + again +
               (again.empty() ? "" : " once a process has left");
    std::string text = "the pool's file could not be opened again: " +
                       std::string(std::strerror(m.excluded_errno));
    switch (m.excluded_errno) {
        case EMFILE:
        case ENFILE:
            return text +
                   ". Each pool takes a descriptor more while a process forks: raise the "
                   "limit (ulimit -n), or close descriptors before the fork" +
                   again;
        case EACCES:
        case EPERM:
            return text +
                   ". A process that has changed its user or dropped its rights cannot make "
                   "its children members: fork before that" +
                   again;
        case ENOENT:
        case ENOTDIR:
            return text +
                   ". It is reached through /proc, which was not there (chroot?): fork "
                   "before that, or mount /proc" +
                   again;
        default:
            return text;
    }
}

}  // namespace

PyObject* raise_closed(const Member& m, const char* what) noexcept {
    if (m.excluded == Status::ok) return raise_status(Status::closed, what);
    try {
        return raise(Error::root,
                     "%s cannot be used: this process is no member of the pool at %s. When it was "
                     "forked, %s. Nothing that it inherited of the pool can be read.",
                     what, m.name().empty() ? "(unlinked)" : m.name().c_str(),
                     why_excluded(m).c_str());
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
}

PyObject* raise_readonly(const std::string& path) noexcept {
    return raise(Error::root,
                 "the pool at %s was opened with mode='r': nothing can be put, allocated, named, "
                 "deleted or waited for in it. Close it everywhere and open it without mode to "
                 "write.",
                 path.c_str());
}

namespace {

// Python finds out which processes have the file open. The text that is raised names them.
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
            if (why.what == kStale)
                return raise(Error::pool_not_found,
                             "there is no pool at %s any more: all processes that used it have "
                             "died. What is left of it is removed by the next use of the name, and "
                             "by `onecopy gc`",
                             where);
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
        case Status::no_slot:
            return raise(Error::root,
                         "the pool at %s has no slot left for this process: all %u are taken "
                         "(max_processes=%u). %s, or open it again once a process has left.",
                         where, why.limit, why.limit, advice_on_slots(why.limit).c_str());
        case Status::system_error:
            if (why.error == ETIMEDOUT) {
                PyErr_Format(PyExc_TimeoutError,
                             "%s: another process has had the pool directory locked for seconds; "
                             "it may be stopped (Ctrl-Z, SIGSTOP, a debugger) in the middle of "
                             "making or removing a pool. Resume it (fg, SIGCONT), or end it.",
                             where);
                return nullptr;
            }
            if (why.error == EBUSY) return raise_in_use("busy_message", path);
            return raise_os_error(why.error, why.file.empty() ? path : why.file);
        default:
            return raise_status(s, where);
    }
}

}  // namespace onecopy::py
