// Methods as plain C functions, for those that programs call all the time: the way into a nanobind
// function costs more than some of them.
#pragma once
#include "bindings/objects.hpp"

namespace onecopy::py {

template <class Function>
PyCFunction as_method(Function* function) noexcept {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

// `method` stays with the class. Throws.
inline void add_method(nb::handle type, PyMethodDef& method) {
    nb::object descriptor =
        nb::steal(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &method));
    if (!descriptor.is_valid()) throw nb::python_error();
    nb::setattr(type, method.ml_name, descriptor);
}

// What METH_FASTCALL | METH_KEYWORDS passed, by position or name, over the defaults in `out` (all
// borrowed). False: TypeError is set.
template <std::size_t N>
bool arguments(const char* function, const char* const (&names)[N], PyObject* const* args,
               Py_ssize_t count, PyObject* keywords, PyObject* (&out)[N]) noexcept {
    if (count > static_cast<Py_ssize_t>(N)) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zu arguments, not %zd", function, N,
                     count);
        return false;
    }
    for (Py_ssize_t i = 0; i < count; ++i)
        out[i] = args[i];
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < named; ++i) {
        PyObject* name = PyTuple_GET_ITEM(keywords, i);
        std::size_t at = 0;
        while (at < N && PyUnicode_CompareWithASCIIString(name, names[at]) != 0)
            ++at;
        if (at == N || static_cast<Py_ssize_t>(at) < count) {
            PyErr_Format(PyExc_TypeError,
                         at == N ? "%s() has no argument %R" : "%s() got argument %R twice",
                         function, name);
            return false;
        }
        out[at] = args[count + i];
    }
    return true;
}

}  // namespace onecopy::py
