// Whether two pieces of memory are equal, byte for byte, while other threads run.
#include <cstring>

#include "bindings/guarded.hpp"

namespace onecopy::py {
namespace {

// A buffer of another object, held while it is read.
struct Memory {
    Py_buffer view{};
    bool held = false;

    explicit Memory(PyObject* object) noexcept
        : held(PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) == 0) {}
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() {
        if (held) PyBuffer_Release(&view);
    }
};

PyObject* same_bytes(PyObject* a, PyObject* b) noexcept {
    const Memory one(a);
    if (!one.held) return nullptr;
    const Memory other(b);
    if (!other.held) return nullptr;
    bool same = one.view.len == other.view.len;
    if (same) {
        Py_BEGIN_ALLOW_THREADS same =
            std::memcmp(one.view.buf, other.view.buf, static_cast<size_t>(one.view.len)) == 0;
        Py_END_ALLOW_THREADS
    }
    return Py_NewRef(same ? Py_True : Py_False);
}

}  // namespace

void bind_compare(nb::module_& m) {
    m.def(
        "same_bytes",
        [](nb::handle a, nb::handle b) { return result(same_bytes(a.ptr(), b.ptr())); },
        nb::arg("a"), nb::arg("b"),
        "Whether two contiguous buffers hold the same bytes; other threads run meanwhile.");
}

}  // namespace onecopy::py
