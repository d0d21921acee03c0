// New Python objects of the classes that are bound here.
#pragma once
#include <nanobind/nanobind.h>

namespace onecopy::py {

// Uninitialized; nullptr with an exception set. nanobind throws, and the caller may hold what it
// must release.
namespace nb = nanobind;

inline PyObject* new_instance(nb::handle type) noexcept {
    try {
        return nb::inst_alloc(type).release().ptr();
    } catch (nb::python_error& error) {
        error.restore();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    return nullptr;
}

}  // namespace onecopy::py
