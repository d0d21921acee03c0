// The texts of queue.Empty and queue.Full: what the call waited for, and how long.
#pragma once
#include <string>

#include "bindings/objects.hpp"

namespace onecopy::py {

// "queue 'jobs'", or "the queue" if it has no name; `object` is the Python object with `_name`.
std::string title(const char* kind, nb::handle object);
std::string title(const char* kind, PyObject* name);
// " for 0.5 s", or nothing if the call did not wait.
std::string waited(const Deadline& deadline, const char* before = " for ");

// A program that polls raises the same text again and again. For calls that do not wait, each
// object makes it once.
class VainText {
  public:
    // `make` gives the text for calls that do not wait; with time in it, it is made again.
    template <class Make>
    PyObject* raise(Error which, const Deadline& deadline, Make make) noexcept {
        PyObject* type = error_class(which);
        if (type == nullptr) return nullptr;
        try {
            if (deadline.from != 0) {
                PyErr_SetString(type, make().c_str());
                return nullptr;
            }
            if (arguments_.get() == nullptr) {
                const std::string text = make();
                if (arguments_.keep(Py_BuildValue("(s#)", text.data(),
                                                  static_cast<Py_ssize_t>(text.size()))) == nullptr)
                    return nullptr;
            }
        } catch (const std::bad_alloc&) {
            return PyErr_NoMemory();
        }
        // Without a call of the class, which would make another tuple of arguments: these classes
        // have no `__init__` of their own.
        auto* kind = reinterpret_cast<PyTypeObject*>(type);
        PyObject* error = kind->tp_new(kind, arguments_.get(), nullptr);
        if (error != nullptr) {
            PyErr_SetObject(type, error);
            Py_DECREF(error);
        }
        return nullptr;
    }

    VainText() = default;
    VainText(const VainText&) = delete;
    VainText& operator=(const VainText&) = delete;
    ~VainText() { Py_XDECREF(arguments_.get()); }

  private:
    Kept arguments_;  // of the exception: (text,)
};

// With a text that is made again each time.
template <class Make>
PyObject* raise_in_vain(Error which, Make make) noexcept {
    PyObject* type = error_class(which);
    if (type == nullptr) return nullptr;
    try {
        PyErr_SetString(type, make().c_str());
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    return nullptr;
}

}  // namespace onecopy::py
