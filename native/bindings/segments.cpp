#include "bindings/segments.hpp"

#include <unistd.h>

#include <cerrno>

namespace onecopy::py {
namespace {

MappingObject* self_of(PyObject* object) noexcept {
    return nb::inst_ready(object) ? nb::inst_ptr<MappingObject>(object) : nullptr;
}

int get_buffer(PyObject* object, Py_buffer* view, int flags) noexcept {
    MappingObject* self = self_of(object);
    if (self == nullptr || self->closed) {
        view->obj = nullptr;
        PyErr_SetString(PyExc_ValueError, "the shared memory was closed in this process");
        return -1;
    }
    if (PyBuffer_FillInfo(view, object, self->base, static_cast<Py_ssize_t>(self->length), 0,
                          flags) != 0)
        return -1;
    ++self->users;
    return 0;
}

void release_buffer(PyObject* object, Py_buffer*) noexcept {
    self_of(object)->done();
}

// No GC: it refers to no Python objects, so it is part of no cycle.
PyType_Slot slots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void*>(&get_buffer)},
    {Py_bf_releasebuffer, reinterpret_cast<void*>(&release_buffer)},
    {0, nullptr},
};

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
    nb::class_<MappingObject>(m, "Mapping", nb::type_slots(slots),
                              "A file in memory. Its memory stays for as long as a buffer of it is "
                              "in use, closed or not.")
        .def("__init__", &construct, nb::arg("fd"), nb::arg("length"),
             nb::sig("def __init__(self, fd: int, length: int) -> None"))
        .def(
            "close", [](MappingObject& o) noexcept { o.close(); },
            nb::sig("def close(self) -> None"),
            "Hand out no more buffers, and unmap once there are none.")
        .def_prop_ro(
            "mapped", [](MappingObject& o) noexcept { return o.base != nullptr; },
            nb::sig("def mapped(self) -> bool"));
}

}  // namespace onecopy::py
