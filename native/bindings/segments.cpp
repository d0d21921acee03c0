#include "bindings/segments.hpp"

#include <cerrno>
#include <cstring>
#include <string>

#include "bindings/member.hpp"
#include "bindings/methods.hpp"
#include "bindings/wait_policy.hpp"
#include "os/descriptor.hpp"
#include "os/processes.hpp"
#include "os/shared_file.hpp"
#include "storage/shared_memory.hpp"

namespace onecopy::py {

template <>
inline constexpr bool one_at_a_time<NewSegment> = true;

namespace {

// Uses the mapping for as long as it exists itself. It is what exports the memory, and not the
// mapping: `numpy.ndarray(buffer=...)` releases the buffer at once and keeps only the exporter.
struct MemoryObject {
    nb::object owner;
    MappingObject* mapping;

    MemoryObject(nb::object of, MappingObject* used) noexcept
        : owner(std::move(of)), mapping(used) {
        ++mapping->users;
    }
    MemoryObject(const MemoryObject&) = delete;
    MemoryObject& operator=(const MemoryObject&) = delete;
    ~MemoryObject() { mapping->done(); }
};

int get_buffer(PyObject* object, Py_buffer* view, int flags) noexcept {
    if (!nb::inst_ready(object)) {
        view->obj = nullptr;
        PyErr_SetString(PyExc_ValueError, "the memory of no shared memory");
        return -1;
    }
    const MappingObject& mapping = *nb::inst_ptr<MemoryObject>(object)->mapping;
    return PyBuffer_FillInfo(view, object, static_cast<unsigned char*>(mapping.base),
                             static_cast<Py_ssize_t>(mapping.length), 0, flags);
}

// No GC: what it refers to refers to no Python objects, so it is part of no cycle.
PyType_Slot slots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void*>(&get_buffer)},
    {0, nullptr},
};

void construct_memory(MemoryObject* self, nb::handle mapping) {
    auto& used = nb::cast<MappingObject&>(mapping);
    new (self) MemoryObject(nb::borrow(mapping), &used);
    if (!used.closed) return;
    self->~MemoryObject();
    PyErr_SetString(PyExc_ValueError, "the shared memory was closed in this process");
    throw nb::python_error();
}

// After an answer `unknown`.
void raise_for_want_of_means(std::uint32_t pid) {
    if (errno != EMFILE && errno != ENFILE && errno != ENOMEM) return;
    const std::string path = "/proc/" + std::to_string(pid) + "/stat";
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
    throw nb::python_error();
}

// In one go: a thread of Python forks when all others have stopped, so no child inherits the second
// descriptor.
void construct(MappingObject* self, int fd, std::size_t length) {
    // A mapping holds its open file description, and so its locks: it gets one of its own, and a
    // process that closes `fd` is no user any more though arrays keep the memory.
    const os::Descriptor own(os::open_again(fd));
    if (!own) {
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, "/proc/self/fd");
        throw nb::python_error();
    }
    void* base = os::map_shared(own.number(), length, true);
    if (base == nullptr) {
        PyErr_SetFromErrno(PyExc_OSError);
        throw nb::python_error();
    }
    new (self) MappingObject(static_cast<unsigned char*>(base), length);
}

// ---- segments: storage/shared_memory.hpp --------------------------------------------------------

struct SegmentObject {
    static constexpr bool kOneAtATime = true;
    std::shared_ptr<Segment> it;
};

std::string path_of(const std::string& name) {
    return std::string(kSegmentDirectory) + "/" + name;
}

PyObject* raise_os_error(int error, const std::string& text, const std::string& path) noexcept {
    PyObject* file =
        PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size()));
    if (file == nullptr) return nullptr;
    // Its own class of OSError comes from the number.
    PyObject* made = PyObject_CallFunction(PyExc_OSError, "isN", error, text.c_str(), file);
    if (made == nullptr) return nullptr;
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made)), made);
    Py_DECREF(made);
    return nullptr;
}

PyObject* raise_for_segment(Status s, const Failure& why, const std::string& name) {
    const std::string path = path_of(name);
    switch (s) {
        case Status::no_entry:
            return raise_os_error(ENOENT,
                                  "there is no shared memory of that name, or it went with the "
                                  "last process that used or kept it",
                                  path);
        case Status::corrupt:
            return raise(Error::root, "%s %s", path.c_str(), why.what.c_str());
        case Status::bad_argument:
            return PyErr_Format(PyExc_ValueError,
                                "%s is empty: the process that makes it has not given it a size "
                                "yet, or died before",
                                path.c_str());
        case Status::out_of_memory:
            return PyErr_NoMemory();
        case Status::interrupted:
            return nullptr;
        case Status::lost:
            return raise_status(s, "the shared memory");
        default:
            // `what` is a step, as in "open the segment", or a reason.
            return raise_os_error(why.error,
                                  std::string(std::strerror(why.error)) + ": " + why.what,
                                  why.file.empty() ? path : why.file);
    }
}

void construct_new(NewSegment* self, std::uint64_t size, bool persistent) {
    auto made = std::make_unique<NewSegment>();
    Failure why;
    Status s;
    {
        WaitOutside p;
        s = made->make(kSegmentDirectory, size, persistent, why, p);
    }
    if (s != Status::ok) {
        raise_for_segment(s, why, {});
        throw nb::python_error();
    }
    new (self) NewSegment(std::move(*made));
}

PyObject* publish(NewSegment& o, nb::handle name, std::uint32_t parent) {
    const std::string as = file_name(name);
    Failure why;
    SegmentObject made;
    const Status s = o.publish(as, parent, made.it, why);
    if (s == Status::exists) return Py_NewRef(Py_None);
    return s == Status::ok ? nb::cast(std::move(made)).release().ptr()
                           : raise_for_segment(s, why, as);
}

PyObject* attach(nb::handle name) {
    const std::string to = file_name(name);
    Failure why;
    SegmentObject found;
    Status s;
    {
        GilWaitPolicy p;
        s = attach_segment(kSegmentDirectory, to, found.it, why, p);
    }
    return s == Status::ok ? nb::cast(std::move(found)).release().ptr()
                           : raise_for_segment(s, why, to);
}

PyObject* unlink(SegmentObject& o) {
    Failure why;
    Status s;
    {
        GilWaitPolicy p;
        s = o.it->unlink(why, p);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_for_segment(s, why, o.it->name());
}

PyObject* take_over(SegmentObject& o) {
    Failure why;
    const Status s = o.it->take_over(why);
    return s == Status::ok ? Py_NewRef(Py_None) : raise_for_segment(s, why, o.it->name());
}

PyObject* identity_of(SegmentObject& o) noexcept {
    return Py_BuildValue("KK", static_cast<unsigned long long>(o.it->identity().device),
                         static_cast<unsigned long long>(o.it->identity().inode));
}

const char* text_of(SegmentState state) noexcept {
    switch (state) {
        case SegmentState::in_use:
            return "in_use";
        case SegmentState::kept:
            return "kept";
        case SegmentState::removed:
            return "removed";
        case SegmentState::stale:
            return "stale";
        case SegmentState::persistent:
            return "persistent";
        default:
            return "failed";
    }
}

PyObject* sweep(bool remove) {
    std::vector<SegmentInfo> found;
    {
        Outside outside;
        static_cast<void>(sweep_segments(kSegmentDirectory, remove, found));
    }
    PyObject* list = PyList_New(0);
    for (const SegmentInfo& each : found) {
        if (list == nullptr) return nullptr;
        PyObject* one =
            Py_BuildValue("NsK",
                          PyUnicode_DecodeFSDefaultAndSize(
                              each.name.data(), static_cast<Py_ssize_t>(each.name.size())),
                          text_of(each.state), static_cast<unsigned long long>(each.size));
        if (one == nullptr || PyList_Append(list, one) != 0) Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

void bind_shared_memory(nb::module_& m) {
    Class<SegmentObject>(m, "SegmentHold",
                         "A shared-memory segment that this process holds, until `release`, "
                         "`unlink` or its end. The end of this object changes nothing.")
        .def_prop_ro("size", [](SegmentObject& o) noexcept { return o.it->size(); })
        .def_prop_ro("made_here", [](SegmentObject& o) noexcept { return o.it->made_here(); })
        .def_prop_ro("persistent", [](SegmentObject& o) noexcept { return o.it->persistent(); })
        .def_prop_ro("identity", [](SegmentObject& o) { return result(identity_of(o)); })
        .def(
            "fileno", [](SegmentObject& o) noexcept { return o.it->number(); },
            "The descriptor; -1: it was released.")
        .def(
            "is_ours", [](SegmentObject& o) noexcept { return o.it->is_ours(); },
            "Whether the number still is the descriptor of this segment. Any code of the process "
            "can close it, and the next file that is opened gets the number.")
        .def("has_name", [](SegmentObject& o) noexcept { return o.it->has_name(); })
        .def("unlink", [](SegmentObject& o) { return result(unlink(o)); })
        .def("release", [](SegmentObject& o) noexcept { o.it->release(); })
        .def("release_unnamed", [](SegmentObject& o) noexcept { return o.it->release_unnamed(); })
        .def("take_over", [](SegmentObject& o) { return result(take_over(o)); });
    Class<NewSegment>(m, "NewSegment",
                      "A shared-memory segment in the making. It goes if it is not published.")
        .def("__init__", of<&construct_new>, arg("size"), arg("persistent"))
        .def(
            "fileno", [](NewSegment& o) noexcept { return o.number(); },
            "To map it, before anybody can attach.")
        .def(
            "publish",
            [](NewSegment& o, nb::handle name, std::uint32_t parent) {
                return result(publish(o, name, parent));
            },
            arg("name"), arg("parent"),
            "Give it a name; None: something has that name. `parent`: the process that has "
            "started this one, or 0.")
        .def(
            "discard", [](NewSegment& o) noexcept { o.discard(); },
            "Let it go now, if it was not published.");
    m.def(
        "attach_segment", [](nb::handle name) { return result(attach(name)); }, nb::arg("name"),
        nb::sig("def attach_segment(name: str) -> SegmentHold"));
    m.def(
        "sweep_segments", [](bool remove) { return result(sweep(remove)); }, nb::arg("remove"),
        nb::sig("def sweep_segments(remove: bool) -> list[tuple[str, str, int]]"),
        "Name, state and size of each segment of this user that was made by onecopy.");
    m.def(
        "note_segment_owner", [](std::uint32_t parent) noexcept { note_owner(parent); },
        nb::arg("parent"), nb::sig("def note_segment_owner(parent: int) -> None"),
        "Before a fork: find out which process owns what this process makes. Its child cannot.");
    m.def("keep_segments", &keep_segments, nb::sig("def keep_segments() -> None"),
          "Note that this process may own segments that it does not hold.");
    m.def(
        "release_segments", []() noexcept { release_segments(); },
        nb::sig("def release_segments() -> None"),
        "Release the segments that this process holds or owns: it is about to end.");
    m.attr("SEGMENT_DIRECTORY") = kSegmentDirectory;
    m.attr("SEGMENT_HIDDEN_PREFIX") = kHiddenSegment;
}

}  // namespace

void bind_segments(nb::module_& m) {
    Class<MappingObject>(m, "Mapping",
                         "A file in memory. It stays for as long as a `MappedMemory` of it "
                         "is there, closed or not.")
        .def("__init__", of<&construct>, arg("fd"), arg("length"))
        .def(
            "close", [](MappingObject& o) noexcept { o.close(); },
            "Let no more of it be used, and unmap once it is not in use.")
        .def_prop_ro("mapped", [](MappingObject& o) noexcept { return o.base != nullptr; });
    Class<MemoryObject>(m, "MappedMemory", nb::type_slots(slots),
                        "The memory of a `Mapping`, for memoryviews and arrays.")
        .def("__init__", of<&construct_memory>, arg("mapping"));
    m.def(
        "process_start",
        [](std::uint32_t pid) {
            std::uint64_t start = 0;
            if (os::start_of(pid, start) != os::Life::unknown)
                return result(PyLong_FromUnsignedLongLong(start));
            raise_for_want_of_means(pid);
            return result(Py_NewRef(Py_None));
        },
        nb::arg("pid"), nb::sig("def process_start(pid: int) -> int | None"),
        "The clock tick at which a process started; 0: it is dead; None: it cannot be seen from "
        "here. OSError: there was no descriptor, or no memory, to look.");
    m.def(
        "process_is_dead",
        [](std::uint32_t pid, std::uint64_t start_ticks) {
            const os::Life life = os::life_of(pid, start_ticks, ~std::uint64_t{0});
            if (life == os::Life::unknown) raise_for_want_of_means(pid);
            return life == os::Life::dead;
        },
        nb::arg("pid"), nb::arg("start_ticks"),
        nb::sig("def process_is_dead(pid: int, start_ticks: int) -> bool"),
        "Whether the process that started at that tick has certainly ended. OSError: there was no "
        "descriptor, or no memory, to look.");
    bind_shared_memory(m);
}

}  // namespace onecopy::py
