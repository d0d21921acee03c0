#include "bindings/segments.hpp"

#include "bindings/methods.hpp"

#include <unistd.h>

#include <cerrno>
#include <string>

#include "os/pool_file.hpp"
#include "os/processes.hpp"
#include "os/shared_segments.hpp"

namespace onecopy::py {
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
    return PyBuffer_FillInfo(view, object, mapping.base, static_cast<Py_ssize_t>(mapping.length), 0,
                             flags);
}

// No GC: what it refers to refers to no Python objects, so it is part of no cycle.
PyType_Slot slots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void*>(&get_buffer)},
    {0, nullptr},
};

void construct_memory(MemoryObject* self, nb::handle mapping) {
    auto& used = nb::cast<MappingObject&>(mapping);
    if (used.closed) {
        PyErr_SetString(PyExc_ValueError, "the shared memory was closed in this process");
        throw nb::python_error();
    }
    new (self) MemoryObject(nb::borrow(mapping), &used);
}

// After an answer `unknown`.
void raise_for_want_of_means(std::uint32_t pid) {
    if (errno != EMFILE && errno != ENFILE && errno != ENOMEM) return;
    const std::string path = "/proc/" + std::to_string(pid) + "/stat";
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
    throw nb::python_error();
}

// Under the GIL: no child is forked that would inherit the second descriptor.
void construct(MappingObject* self, int fd, std::size_t length) {
    // A mapping holds its open file description, and so its locks: it gets one of its own, and
    // whoever closes `fd` is no user any more though arrays keep the memory.
    const int own = os::open_again(fd);
    if (own < 0) {
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, "/proc/self/fd");
        throw nb::python_error();
    }
    void* base = os::map_shared(own, length, true);
    const int error = errno;
    close(own);
    if (base == nullptr) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        throw nb::python_error();
    }
    new (self) MappingObject(static_cast<unsigned char*>(base), length);
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
    m.def(
        "to_high_number", [](int fd) noexcept { return os::to_high_number(fd); }, nb::arg("fd"),
        nb::sig("def to_high_number(fd: int) -> int"),
        "Move a descriptor out of reach of programs that close small numbers by mistake.");
    m.def("hold_segment", &os::hold_segment, nb::arg("fd"),
          nb::sig("def hold_segment(fd: int) -> None"),
          "Note that this process holds a segment by this descriptor, until it ends.");
    m.def("forget_segment", &os::forget_segment, nb::arg("fd"),
          nb::sig("def forget_segment(fd: int) -> None"),
          "Take back what `hold_segment` noted; the caller closes the descriptor.");
    m.def("keep_segments", &os::keep_segments, nb::sig("def keep_segments() -> None"),
          "Note that this process may keep segments that it does not hold.");
    m.def("release_segments", &os::release_segments, nb::sig("def release_segments() -> None"),
          "Release the segments that this process holds or keeps: it is about to end.");
    m.attr("SEGMENT_HOLD_BYTE") = os::kSegmentHoldByte;
    m.attr("SEGMENT_OWNER_EPOCH") = os::kOwnerEpoch;
    m.attr("SEGMENT_PID_BITS") = os::kOwnerPidBits;
    m.attr("SEGMENT_NAMESPACE_MASK") = os::kOwnerNamespaceMask;
}

}  // namespace onecopy::py
