// How the core gets the type of a channel: nested tuples, made by onecopy._typed.plan.
//
//|  node     (kind, nullable, text for errors, more)
//|  more     scalar     its class
//|           list, run  node
//|           tuple      (node, …)
//|           dict       (node, node)
//|           record     (form, class or None, ((name, required, node), …))
//|           array      (kinds, item size or 0, dtype or None, None or (dimension, …),
//|                      place of ... or -1)
#include "bindings/codec_typed.hpp"

#include <structmember.h>

#include "bindings/errors.hpp"
#include "bindings/methods.hpp"
#include "body/schema.hpp"

namespace onecopy::py {
namespace {

constexpr int kDeepestType = 40;  // _typed.schema allows fewer

// The place of a slot in objects of a class; 0: the attribute has none.
Py_ssize_t slot_offset(PyTypeObject* type, PyObject* name) noexcept {
    PyObject* found = _PyType_Lookup(type, name);
    if (found == nullptr || Py_TYPE(found) != &PyMemberDescr_Type) return 0;
    const PyMemberDef* member = reinterpret_cast<PyMemberDescrObject*>(found)->d_member;
    return member->type == T_OBJECT_EX && (member->flags & READONLY) == 0 ? member->offset : 0;
}

int traverse_type(PyObject* self, visitproc visit, void* arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    return nb::inst_ready(self) ? nb::inst_ptr<MessageType>(self)->traverse(visit, arg) : 0;
}
PyType_Slot type_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(&traverse_type)},
    {0, nullptr},
};

void construct(MessageType* self, nb::handle description) {
    new (self) MessageType(description.ptr());
}

}  // namespace

TypeNode::TypeNode(TypeNode&& other) noexcept
    : kind(other.kind),
      nullable(other.nullable),
      what(std::exchange(other.what, nullptr)),
      type(std::exchange(other.type, nullptr)),
      children(std::move(other.children)),
      form(other.form),
      fields(std::move(other.fields)),
      kinds(std::move(other.kinds)),
      itemsize(other.itemsize),
      dtype(std::exchange(other.dtype, nullptr)),
      any_shape(other.any_shape),
      rest(other.rest),
      dimensions(std::move(other.dimensions)) {}

TypeNode::~TypeNode() {
    Py_XDECREF(what);
    Py_XDECREF(type);
    Py_XDECREF(dtype);
    for (const Field& field : fields)
        Py_DECREF(field.name);
}

int TypeNode::traverse(visitproc visit, void* arg) const noexcept {
    Py_VISIT(type);
    Py_VISIT(dtype);
    for (const TypeNode& child : children) {
        if (const int done = child.traverse(visit, arg); done != 0) return done;
    }
    return 0;
}

bool TypeNode::add(PyObject* description, int depth) {
    children.emplace_back();
    return children.back().read(description, depth + 1);
}

bool TypeNode::read(PyObject* description, int depth) {
    int number = 0, may_be_none = 0;
    PyObject *text = nullptr, *more = nullptr;
    if (depth > kDeepestType || !PyTuple_Check(description) ||
        !PyArg_ParseTuple(description, "ipUO", &number, &may_be_none, &text, &more)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the type nests too deep");
        return false;
    }
    kind = static_cast<Kind>(number);
    nullable = may_be_none != 0;
    what = Py_NewRef(text);
    switch (kind) {
        case Kind::scalar:
            if (!PyType_Check(more)) break;
            type = reinterpret_cast<PyTypeObject*>(Py_NewRef(more));
            return true;
        case Kind::array:
            return read_array(more);
        case Kind::list:
        case Kind::run:
            return add(more, depth);
        case Kind::tuple:
        case Kind::dict:
            if (!PyTuple_Check(more) || (kind == Kind::dict && PyTuple_GET_SIZE(more) != 2)) break;
            for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(more); ++i) {
                if (!add(PyTuple_GET_ITEM(more, i), depth)) return false;
            }
            return true;
        case Kind::record:
            return read_record(more, depth);
        default:
            if (number >= 0 && kind < Kind::scalar) return true;
    }
    PyErr_SetString(PyExc_ValueError, "a description of a type makes no sense");
    return false;
}

bool TypeNode::read_array(PyObject* description) {
    const char* letters = nullptr;
    PyObject *exactly = nullptr, *shape = nullptr;
    if (!PyTuple_Check(description) ||
        !PyArg_ParseTuple(description, "snOOi", &letters, &itemsize, &exactly, &shape, &rest))
        return false;
    kinds = letters;
    if (exactly != Py_None) {
        if (PyArray_DescrConverter(exactly, &dtype) == NPY_FAIL) return false;
    }
    if (shape == Py_None) return true;
    any_shape = false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); ++i) {
        const Py_ssize_t size = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i));
        if (size == -1 && PyErr_Occurred()) return false;
        if (size < kFirstName - static_cast<npy_intp>(kDimensionNames) + 1) {
            PyErr_Format(PyExc_TypeError, "a type has at most %d names of dimensions",
                         static_cast<int>(kDimensionNames));
            return false;
        }
        dimensions.push_back(size);
    }
    return true;
}

bool TypeNode::read_record(PyObject* description, int depth) {
    int number = 0;
    PyObject *cls = nullptr, *members = nullptr;
    if (!PyTuple_Check(description) ||
        !PyArg_ParseTuple(description, "iOO!", &number, &cls, &PyTuple_Type, &members))
        return false;
    form = static_cast<Form>(number);
    if (cls != Py_None) type = reinterpret_cast<PyTypeObject*>(Py_NewRef(cls));
    const bool of_class = form == Form::object || form == Form::named;
    if (number < 0 || form > Form::partial ||
        (of_class && (type == nullptr || !PyType_Check(cls)))) {
        PyErr_SetString(PyExc_ValueError, "a description of a record makes no sense");
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(members); ++i) {
        PyObject *name = nullptr, *inner = nullptr;
        int required = 0;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(members, i), "UpO", &name, &required, &inner))
            return false;
        fields.push_back({name, required != 0, form == Form::object ? slot_offset(type, name) : 0});
        Py_INCREF(name);
        PyUnicode_InternInPlace(&fields.back().name);
        if (!add(inner, depth)) return false;
    }
    return true;
}

// ---- what the classes of channels have in common ------------------------------------------------

PyObject* schema_bytes(const PoolPtr& pool, std::string_view schema, u64 hash) noexcept {
    if (schema.empty()) return Py_NewRef(Py_None);
    PyObject* copy =
        PyBytes_FromStringAndSize(schema.data(), static_cast<Py_ssize_t>(schema.size()));
    if (copy == nullptr || schema_hash({PyBytes_AS_STRING(copy), schema.size()}) == hash)
        return copy;
    Py_DECREF(copy);
    return raise_corrupt(pool, "the schema of a channel");
}

bool set_type(Typing& typing, nb::handle type) noexcept {
    MessageType* made = nullptr;
    if (!nb::try_cast(type, made, false) || made == nullptr) {
        PyErr_SetString(PyExc_TypeError, "a MessageType is needed");
        return false;
    }
    if (const auto before = std::exchange(typing.holder, nb::borrow(type)); before.is_valid()) {
        // Without the GIL, another thread may use it.
        if constexpr (Stills::kCopies) Py_INCREF(before.ptr());
    }
    typing.type = made;
    return true;
}

std::string_view schema_of(nb::handle schema) {
    if (schema.is_none()) return {};
    char* data = nullptr;
    Py_ssize_t n = 0;
    check(PyBytes_AsStringAndSize(schema.ptr(), &data, &n) == 0);
    return {data, static_cast<std::size_t>(n)};
}

void bind_message_type(nb::module_& m) {
    Class<MessageType>(m, "MessageType", nb::type_slots(type_slots),
                       "The type of a channel's messages; made by onecopy._typed.plan.")
        .def("__init__", of<&construct>, arg("description"));
}

}  // namespace onecopy::py
