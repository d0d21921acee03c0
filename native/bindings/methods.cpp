#include "bindings/methods.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace onecopy::py {
namespace {

// "Queue.get", by the class of the object that it was called on: that is the user's word for it. A
// class of the core itself has its name in the package, without "Base". A static method has its own
// name, "open".
std::string call_name(const Signature& s, PyObject* self) {
    if (self == nullptr) return s.name;
    std::string type = Py_TYPE(self)->tp_name;
    type.erase(0, type.rfind('.') + 1);  // npos + 1 is 0
    if (type.ends_with("Base")) type.resize(type.size() - 4);
    return type + "." + s.name;
}

// Sets an exception with the function's name and what is wrong. It takes the text over.
PyObject* raise_text(const Signature& s, PyObject* self, PyObject* text,
                     PyObject* type = PyExc_TypeError) noexcept {
    if (text == nullptr) return nullptr;
    try {
        PyErr_Format(type, "%s() %U", call_name(s, self).c_str(), text);
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    Py_DECREF(text);
    return nullptr;
}

// "obj, block, timeout": the names of what it takes.
std::string takes(const Signature& s) {
    std::string all;
    for (const Parameter& parameter : s.parameters)
        all.append(all.empty() ? "" : ", ").append(parameter.name);
    return all;
}

bool raise_too_many(const Signature& s, PyObject* self, Py_ssize_t count) noexcept {
    Py_ssize_t least = 0;
    while (least < s.positional &&
           !s.parameters[static_cast<std::size_t>(least)].otherwise.is_valid())
        ++least;
    raise_text(s, self,
               PyUnicode_FromFormat("takes %s %zd positional argument%s (%zd given)",
                                    least == s.positional ? "exactly" : "at most", s.positional,
                                    s.positional == 1 ? "" : "s", count));
    return false;
}

// What to write for `block=` or `blocking=` where it has another name.
const char* advice_on_waiting(const Signature& s, PyObject* name) noexcept {
    if (PyUnicode_CompareWithASCIIString(name, "block") != 0 &&
        PyUnicode_CompareWithASCIIString(name, "blocking") != 0)
        return "";
    for (const char* known : {"block", "timeout"}) {
        for (const Parameter& parameter : s.parameters)
            if (std::strcmp(parameter.name, known) == 0)
                return *known == 'b' ? ": write block=False not to wait"
                                     : ": write timeout=0 not to wait";
    }
    return "";
}

bool raise_unexpected(const Signature& s, PyObject* self, PyObject* name) noexcept {
    try {
        const std::string known = takes(s);
        raise_text(s, self,
                   PyUnicode_FromFormat("got an unexpected keyword argument %R; it takes %s%s",
                                        name, known.empty() ? "none" : known.c_str(),
                                        advice_on_waiting(s, name)));
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    return false;
}

std::size_t place_of(const Signature& s, PyObject* name) noexcept {
    const std::size_t n = s.parameters.size();
    for (std::size_t i = 0; i < n; ++i)
        if (s.names[i] == name) return i;
    for (std::size_t i = 0; i < n; ++i)  // a name that was made at run time
        if (PyUnicode_CompareWithASCIIString(name, s.parameters[i].name) == 0) return i;
    return n;
}

}  // namespace

PyObject* raise_missing(const Signature& s, PyObject* self, std::size_t at) noexcept {
    return raise_text(s, self,
                      PyUnicode_FromFormat("missing required argument '%s' (pos %zu)",
                                           s.parameters[at].name, at + 1));
}

PyObject* raise_wrong(const Signature& s, PyObject* self, std::size_t at, PyObject* passed,
                      const char* expected) noexcept {
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return nullptr;
        SavedError why;
        return raise_text(
            s, self, PyUnicode_FromFormat("argument '%s': %S", s.parameters[at].name, why.value()),
            PyExc_OverflowError);
    }
    const bool is_short = PyUnicode_Check(passed) || PyLong_Check(passed) || PyFloat_Check(passed);
    PyObject* shown = is_short ? PyUnicode_FromFormat(" %.100R", passed) : PyUnicode_New(0, 0);
    if (shown != nullptr && PyUnicode_Check(passed)) {
        PyObject* number = PyFloat_FromString(passed);
        if (number == nullptr) {
            PyErr_Clear();
        } else {
            Py_DECREF(number);
            Py_SETREF(shown, PyUnicode_FromFormat("%U: write %s=%U", shown, s.parameters[at].name,
                                                  passed));
        }
    }
    if (shown == nullptr) return nullptr;
    raise_text(s, self,
               PyUnicode_FromFormat("argument '%s' must be %s, not %.200s%U", s.parameters[at].name,
                                    expected, passed == Py_None ? "None" : Py_TYPE(passed)->tp_name,
                                    shown));
    Py_DECREF(shown);
    return nullptr;
}

bool sort_arguments(const Signature& s, PyObject* self, PyObject* const* args, Py_ssize_t count,
                    PyObject* keywords, PyObject** out) noexcept {
    if (count > s.positional) return raise_too_many(s, self, count);
    std::fill_n(std::copy_n(args, count, out), static_cast<Py_ssize_t>(s.parameters.size()) - count,
                nullptr);
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < named; ++i) {
        PyObject* name = PyTuple_GET_ITEM(keywords, i);
        const std::size_t at = place_of(s, name);
        if (at == s.parameters.size()) return raise_unexpected(s, self, name);
        if (out[at] != nullptr) {
            raise_text(s, self, PyUnicode_FromFormat("got multiple values for argument %R", name));
            return false;
        }
        out[at] = args[count + i];
    }
    return true;
}

bool take_integer(PyObject* object, long long least, unsigned long long most,
                  unsigned long long& out) noexcept {
    if (!PyIndex_Check(object)) return false;
    PyObject* number = PyNumber_Index(object);
    if (number == nullptr) return false;
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    bool fits = overflow == 0 && value >= least &&
                (value < 0 || static_cast<unsigned long long>(value) <= most);
    out = static_cast<unsigned long long>(value);
    if (overflow > 0 &&
        most > static_cast<unsigned long long>(std::numeric_limits<long long>::max())) {
        out = PyLong_AsUnsignedLongLong(number);
        fits = !PyErr_Occurred();
        PyErr_Clear();
    }
    if (!fits)
        PyErr_Format(PyExc_OverflowError, "%S is out of range: it must be between %lld and %llu",
                     number, least, most);
    Py_DECREF(number);
    return fits;
}

nb::object Signature::finish(nb::handle type, const char* method, PyCFunction call, int flags) {
    is_static = (flags & METH_STATIC) != 0;
    if (name == nullptr) name = method;
    if (positional < 0) positional = static_cast<Py_ssize_t>(parameters.size());
    text = std::string(method) + (is_static ? "(" : "($self");
    for (std::size_t at = 0; at < parameters.size(); ++at) {
        const Parameter& parameter = parameters[at];
        names[at] = PyUnicode_InternFromString(parameter.name);
        if (names[at] == nullptr) throw nb::python_error();
        defaults[at] = parameter.otherwise.ptr();
        if (!text.ends_with('(')) text += ", ";
        if (static_cast<Py_ssize_t>(at) == positional) text += "*, ";
        text += parameter.name;
        if (parameter.otherwise.is_valid())
            text.append("=").append(nb::repr(parameter.otherwise).c_str());
    }
    text.append(")\n--\n\n").append(doc);
    definition = {method, call, flags & ~METH_STATIC, text.c_str()};
    PyObject* made;
    if (is_static) {
        nb::object function = nb::steal(PyCFunction_New(&definition, nullptr));
        if (!function.is_valid()) throw nb::python_error();
        made = PyStaticMethod_New(function.ptr());
    } else {
        made = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &definition);
    }
    if (made == nullptr) throw nb::python_error();
    return nb::steal(made);
}

void add_method(nb::handle type, PyMethodDef& method) {
    nb::object descriptor =
        nb::steal(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &method));
    if (!descriptor.is_valid()) throw nb::python_error();
    nb::setattr(type, method.ml_name, descriptor);
}

namespace {

// `type[name]` if it is a method of a class that was bound here; a new reference, or nullptr.
PyMethodDescrObject* bound_method(PyTypeObject* type, PyObject* name) noexcept {
    PyObject* found = PyObject_GetAttr(reinterpret_cast<PyObject*>(type), name);
    if (found != nullptr && Py_IS_TYPE(found, &PyMethodDescr_Type) &&
        nb::type_check(reinterpret_cast<PyObject*>(PyDescr_TYPE(found))))
        return reinterpret_cast<PyMethodDescrObject*>(found);
    Py_XDECREF(found);
    PyErr_Clear();
    return nullptr;
}

}  // namespace

nb::object own_methods(nb::handle cls) {
    auto* type = reinterpret_cast<PyTypeObject*>(cls.ptr());
    if (!PyType_Check(cls.ptr()) || !nb::type_check(cls)) {
        PyErr_SetString(PyExc_TypeError, "own_methods() takes a class derived from a bound one");
        throw nb::python_error();
    }
    for (nb::handle base : nb::borrow<nb::tuple>(type->tp_mro)) {
        if (base.is(cls) || !nb::type_check(base)) continue;
        for (nb::handle name : nb::list(nb::getattr(base, "__dict__"))) {
            // Other special methods have slots in the class, and are called through those.
            const std::string_view text = nb::borrow<nb::str>(name).c_str();
            if (text.starts_with("__") && text != "__enter__" && text != "__exit__") continue;
            const nb::object method =
                nb::steal(reinterpret_cast<PyObject*>(bound_method(type, name.ptr())));
            if (!method.is_valid()) continue;
            auto* inherited = reinterpret_cast<PyMethodDescrObject*>(method.ptr());
            if (PyDescr_TYPE(inherited) == type) continue;
            const nb::object own = nb::steal(PyDescr_NewMethod(type, inherited->d_method));
            if (!own.is_valid()) throw nb::python_error();
            nb::setattr(cls, name, own);
        }
    }
    return nb::borrow(cls);
}

bool is_same_method(PyTypeObject* type, const char* name, PyMethodDescrObject* method) noexcept {
    PyObject* interned = PyUnicode_InternFromString(name);
    PyMethodDescrObject* found = interned == nullptr ? nullptr : bound_method(type, interned);
    Py_XDECREF(interned);
    PyErr_Clear();
    const bool same = found != nullptr && found->d_method == method->d_method;
    Py_XDECREF(found);
    return same;
}

constinit PyMethodDef class_getitem = {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
                                       "__class_getitem__($type, item, /)\n--\n\nGive a type for "
                                       "annotations."};

void add_class_getitem(nb::handle type) {
    nb::object descriptor = nb::steal(
        PyDescr_NewClassMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &class_getitem));
    if (!descriptor.is_valid()) throw nb::python_error();
    nb::setattr(type, class_getitem.ml_name, descriptor);
}

void add_property(nb::handle type, const char* name, getter get, const char* doc) {
    auto* definition = new PyGetSetDef{name, get, nullptr, doc, nullptr};  // stays with the class
    nb::object property =
        nb::steal(PyDescr_NewGetSet(reinterpret_cast<PyTypeObject*>(type.ptr()), definition));
    if (!property.is_valid()) throw nb::python_error();
    nb::setattr(type, name, property);
}

}  // namespace onecopy::py
