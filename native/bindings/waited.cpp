#include "bindings/waited.hpp"

#include <cstdio>
#include <cstring>

namespace onecopy::py {

std::string title(const char* kind, PyObject* name) {
    if (name != nullptr && PyUnicode_Check(name)) {
        PyObject* shown = PyObject_Repr(name);
        const char* text = shown == nullptr ? nullptr : PyUnicode_AsUTF8(shown);
        std::string all = text == nullptr ? std::string() : std::string(kind) + " " + text;
        Py_XDECREF(shown);
        if (!all.empty()) return all;
        PyErr_Clear();
    }
    return std::string(std::strncmp(kind, "the ", 4) == 0 ? "" : "the ") + kind;
}

std::string title(const char* kind, nb::handle object) {
    PyObject* name = object.is_valid() ? PyObject_GetAttrString(object.ptr(), "_name") : nullptr;
    if (name == nullptr) PyErr_Clear();
    std::string all = title(kind, name);
    Py_XDECREF(name);
    return all;
}

std::string waited(const Deadline& deadline, const char* before) {
    if (deadline.from == 0) return {};
    char text[48];
    std::snprintf(text, sizeof text, "%s%.6g s", before,
                  static_cast<double>(deadline.at - deadline.from) * 1e-9);
    return text;
}

}  // namespace onecopy::py
