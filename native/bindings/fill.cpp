// Numbers from a list or tuple into an array of ctypes, in one loop. Only what cannot fail is
// converted here. Every other item goes to the array's own `__setitem__`: so ctypes decides what is
// accepted, and what the error is.
#include <cstring>

#include "bindings/guarded.hpp"

namespace onecopy::py {
namespace {

// Each of these answers false without an exception if the array must decide.
template <class T>
bool integer(PyObject* item, T& out) noexcept {
    if (!PyLong_CheckExact(item) && !PyBool_Check(item)) return false;
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(item, &overflow);
    // Cut to the width, as ctypes does, whatever its length.
    out = static_cast<T>(overflow == 0 ? static_cast<unsigned long long>(value)
                                       : PyLong_AsUnsignedLongLongMask(item));
    return true;
}
template <class T>
bool real(PyObject* item, T& out) noexcept {
    if (PyFloat_CheckExact(item)) {
        out = static_cast<T>(PyFloat_AS_DOUBLE(item));
        return true;
    }
    if (!PyLong_CheckExact(item)) return false;
    const double value = PyLong_AsDouble(item);
    if (value == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();  // too large: ctypes says so
        return false;
    }
    out = static_cast<T>(value);
    return true;
}
bool character(PyObject* item, unsigned char& out) noexcept {
    if (!PyBytes_CheckExact(item) || PyBytes_GET_SIZE(item) != 1) return false;
    out = static_cast<unsigned char>(PyBytes_AS_STRING(item)[0]);
    return true;
}
bool wide_character(PyObject* item, wchar_t& out) noexcept {
    if (!PyUnicode_CheckExact(item) || PyUnicode_GET_LENGTH(item) != 1) return false;
    out = static_cast<wchar_t>(PyUnicode_READ_CHAR(item, 0));
    return true;
}
bool boolean(PyObject* item, bool& out) noexcept {
    out = item == Py_True;
    return out || item == Py_False;
}

// The memory belongs to the array, and no other process knows of it yet.
template <class T>
bool fill(PyObject* array, const Py_buffer& memory, PyObject* items,
          bool (*convert)(PyObject*, T&) noexcept) noexcept {
    const Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
    if (count > memory.len / static_cast<Py_ssize_t>(sizeof(T))) {
        PyErr_Format(PyExc_IndexError, "%zd items do not fit the array's %zd bytes", count,
                     memory.len);
        return false;
    }
    PyObject* own = nullptr;
    auto* to = static_cast<unsigned char*>(memory.buf);
    bool done = true;
    for (Py_ssize_t i = 0; done && i < count; ++i, to += sizeof(T)) {
        PyObject* item = PySequence_Fast_GET_ITEM(items, i);
        T value{};
        if (convert(item, value)) [[likely]] {
            std::memcpy(to, &value, sizeof value);
            continue;
        }
        // This may run Python code, which may change a list: from here on, a copy is used.
        if (own == nullptr && PyList_CheckExact(items)) {
            own = PyList_AsTuple(items);
            if (own == nullptr) return false;
            if (PyTuple_GET_SIZE(own) !=
                count) {  // making the copy ran a finalizer that changed it
                PyErr_SetString(PyExc_RuntimeError, "the list changed while it was read");
                done = false;
                break;
            }
            items = own;
            item = PyTuple_GET_ITEM(own, i);
        }
        done = PySequence_SetItem(array, i, item) == 0;
    }
    Py_XDECREF(own);
    return done;
}

bool fill_as(char code, PyObject* array, const Py_buffer& memory, PyObject* items) noexcept {
    switch (code) {
        case 'b':
            return fill(array, memory, items, &integer<signed char>);
        case 'B':
            return fill(array, memory, items, &integer<unsigned char>);
        case 'h':
            return fill(array, memory, items, &integer<short>);
        case 'H':
            return fill(array, memory, items, &integer<unsigned short>);
        case 'i':
            return fill(array, memory, items, &integer<int>);
        case 'I':
            return fill(array, memory, items, &integer<unsigned>);
        case 'l':
            return fill(array, memory, items, &integer<long>);
        case 'L':
            return fill(array, memory, items, &integer<unsigned long>);
        case 'q':
            return fill(array, memory, items, &integer<long long>);
        case 'Q':
            return fill(array, memory, items, &integer<unsigned long long>);
        case 'f':
            return fill(array, memory, items, &real<float>);
        case 'd':
            return fill(array, memory, items, &real<double>);
        case 'c':
            return fill(array, memory, items, &character);
        case 'u':
            return fill(array, memory, items, &wide_character);
        case '?':
            return fill(array, memory, items, &boolean);
        default:
            PyErr_Format(PyExc_ValueError, "no array of type code '%c' is filled here", code);
            return false;
    }
}

PyObject* fill_array(PyObject* array, char code, PyObject* items) noexcept {
    if (!PyList_CheckExact(items) && !PyTuple_CheckExact(items)) {
        PyErr_Format(PyExc_TypeError, "expected a list or tuple, not %.200s",
                     Py_TYPE(items)->tp_name);
        return nullptr;
    }
    Stills stills;
    if ((items = stills.of(items)) == nullptr) return nullptr;
    Py_buffer memory;
    if (PyObject_GetBuffer(array, &memory, PyBUF_WRITABLE) != 0) return nullptr;
    const bool done = fill_as(code, array, memory, items);
    PyBuffer_Release(&memory);
    return done ? Py_NewRef(Py_None) : nullptr;
}

}  // namespace

void bind_fill(nb::module_& m) {
    m.def(
        "fill_array",
        [](nb::handle array, char code, nb::handle items) noexcept {
            return result(fill_array(array.ptr(), code, items.ptr()));
        },
        nb::arg("array"), nb::arg("code"), nb::arg("items"),
        nb::sig("def fill_array(array: typing.Any, code: str, items: list[typing.Any] | "
                "tuple[typing.Any, ...]) -> None"),
        "Write the items of a list or tuple into an array of ctypes that is at least as long.");
}

}  // namespace onecopy::py
