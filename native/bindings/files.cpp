// Pools as files.
#include <cerrno>

#include "bindings/member.hpp"
#include "os/memory.hpp"

namespace onecopy::py {

PyObject* create_member(const CreateSpec& spec) {
    std::shared_ptr<Member> member;
    Failure why;
    Status s;
    {
        Outside outside;
        s = create_pool(spec, member, why);
    }
    if (s != Status::ok) return raise_for_pool(s, why, spec.directory + "/" + spec.name);
    return member_object(pool_of(std::move(member)));
}

PyObject* open_member(const std::string& directory, const std::string& name, bool readonly) {
    std::shared_ptr<Member> member;
    Failure why;
    Status s;
    {
        Outside outside;
        s = readonly ? open_to_read(directory, name, member, why)
                     : open_pool(directory, name, member, why);
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
    return s == Status::ok ? Py_NewRef(Py_None) : raise_for_pool(s, why, m.path);
}

PyObject* unlink_member(Member& m) {
    if (m.readonly) return raise_readonly(m.path);
    if (m.excluded != Status::ok) return raise_closed(m, "the pool");
    Status s;
    {
        Outside outside;
        s = unlink_pool(m);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_for_pool(s, {}, m.path);
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
        Outside outside;
        found = sweep_pool(directory, name, remove);
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
    }
    return PyUnicode_FromString(text);
}

PyObject* check_pool_directory(const std::string& path, bool make) {
    Failure why;
    Status s;
    {
        Outside outside;
        s = check_directory(path, make, why);
    }
    if (s == Status::ok) return Py_NewRef(Py_None);
    if (s == Status::no_entry || s == Status::system_error) {
        errno = why.error != 0 ? why.error : ENOENT;
        PyObject* name =
            PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size()));
        if (name != nullptr) PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
        Py_XDECREF(name);
        return nullptr;
    }
    return raise_for_pool(s, why, path);
}

}  // namespace

void bind_files(nb::module_& m) {
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
        "check_directory",
        [](nb::handle path, bool make) {
            return result(check_pool_directory(file_name(path), make));
        },
        nb::arg("path"), nb::arg("create"),
        nb::sig("def check_directory(path: str, create: bool) -> None"));
    m.def(
        "sweep_pool",
        [](nb::handle directory, nb::handle name, bool remove) {
            return result(sweep(file_name(directory), file_name(name), remove));
        },
        nb::arg("directory"), nb::arg("name"), nb::arg("remove"),
        nb::sig("def sweep_pool(directory: str, name: str, remove: bool) -> str"));
}

}  // namespace onecopy::py
