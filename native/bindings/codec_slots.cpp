// Objects whose fields lie at fixed places: those of classes with slots, and those that a library
// makes with a call of their class (msgspec's structs). The walk reads the fields without code.
//
//|  u8 node, class: as in codec_classes.cpp; then
//|    slotted          count, pairs of nodes: the fields that are set
//|    frozen           count, nodes: the fields of a frozen dataclass, in their order
//|    called           count, nodes: the arguments for the class
//|    called_by_name   count, pairs of nodes
#include "bindings/codec_buffers.hpp"
#include "bindings/codec_packed.hpp"
#include "bindings/errors.hpp"

// A part of Python until 3.11; a header of its own from 3.12 on.
#if PY_VERSION_HEX < 0x030c0000
#include <structmember.h>
#define Py_T_OBJECT_EX T_OBJECT_EX
#endif

namespace onecopy::py {

PyObject*& field_at(PyObject* object, PyObject* descriptor) noexcept {
    const auto* member = reinterpret_cast<PyMemberDescrObject*>(descriptor)->d_member;
    return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) + member->offset);
}

bool are_fields_of(PyTypeObject* type, PyObject* slots) noexcept {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(slots); ++i) {
        PyObject* slot = PyTuple_GET_ITEM(slots, i);
        if (Py_TYPE(slot) != &PyMemberDescr_Type || !PyType_IsSubtype(type, PyDescr_TYPE(slot)))
            return false;
        const auto* member = reinterpret_cast<PyMemberDescrObject*>(slot)->d_member;
        const Py_ssize_t last = type->tp_basicsize - static_cast<Py_ssize_t>(sizeof(PyObject*));
        if (member->type != Py_T_OBJECT_EX || member->offset < 0 || member->offset > last)
            return false;
    }
    return true;
}

// ---- writing ------------------------------------------------------------------------------------

namespace {

// The fields of an object. Without the GIL, they are read once: another thread may set them.
#ifdef Py_GIL_DISABLED
class Fields {
  public:
    Fields(Stills& stills, PyObject* object, PyObject* slots) noexcept {
        for (Py_ssize_t i = 0; is_complete_ && i < PyTuple_GET_SIZE(slots); ++i) {
            PyObject* value = stills.of(object, field_at(object, PyTuple_GET_ITEM(slots, i)));
            is_complete_ = !PyErr_Occurred() && values_.add(value);
            count_ += value != nullptr;
        }
    }
    bool is_complete() const noexcept { return is_complete_; }  // false: MemoryError is set
    u64 count() const noexcept { return count_; }               // of those that are set
    PyObject* operator[](Py_ssize_t i) const noexcept {
        return values_[static_cast<std::size_t>(i)];
    }

  private:
    Few<PyObject*, 8> values_;
    u64 count_ = 0;
    bool is_complete_ = true;
};
#else
class Fields {
  public:
    Fields(Stills&, PyObject* object, PyObject* slots) noexcept : object_(object), slots_(slots) {}
    bool is_complete() const noexcept { return true; }
    u64 count() const noexcept {
        u64 count = 0;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(slots_); ++i)
            count += (*this)[i] != nullptr;
        return count;
    }
    PyObject* operator[](Py_ssize_t i) const noexcept {
        return field_at(object_, PyTuple_GET_ITEM(slots_, i));
    }

  private:
    PyObject *object_, *slots_;
};
#endif

}  // namespace

Done Packer::write_slotted(PyObject* object, PyTypeObject* type, const Plan& plan,
                           int depth) noexcept {
    if (const Done met = meet(object); met != Done::no) return met;
    const Fields fields(stills_, object, plan.slots);
    if (!fields.is_complete() || !write_class(type, plan, Node::slotted) ||
        !nodes_.room(kCountBytes))
        return Done::failed;
    nodes_.count(fields.count());
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(plan.slots); ++i) {
        PyObject* slot = PyTuple_GET_ITEM(plan.slots, i);
        PyObject* value = fields[i];
        if (value == nullptr) continue;
        if (!write_text(PyDescr_NAME(slot)) || !write(value, depth + 1, false)) return Done::failed;
    }
    return Done::yes;
}

Done Packer::write_frozen(PyObject* object, PyTypeObject* type, const Plan& plan,
                          int depth) noexcept {
    const Fields fields(stills_, object, plan.slots);
    if (!fields.is_complete()) return Done::failed;
    if (fields.count() != plan.fields) return Done::no;  // pickle raises the error
    if (const Done met = meet(object); met != Done::no) return met;
    if (!write_class(type, plan, Node::frozen) || !nodes_.room(kCountBytes)) return Done::failed;
    nodes_.count(plan.fields);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(plan.slots); ++i) {
        if (!write(fields[i], depth + 1, false)) return Done::failed;
    }
    return Done::yes;
}

Done Packer::write_called(PyObject* object, PyTypeObject* type, const Plan& plan,
                          int depth) noexcept {
    const Fields fields(stills_, object, plan.slots);
    if (!fields.is_complete()) return Done::failed;
    if (fields.count() != plan.fields) return Done::no;
    if (const Done met = begin_whole(object); met != Done::no) return met;
    const bool by_name = plan.kind == PlanKind::called_by_name;
    if (!write_class(type, plan, by_name ? Node::called_by_name : Node::called) ||
        !nodes_.room(kCountBytes))
        return Done::failed;
    nodes_.count(plan.fields);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(plan.slots); ++i) {
        PyObject* slot = PyTuple_GET_ITEM(plan.slots, i);
        if (by_name && !write_text(PyDescr_NAME(slot))) return Done::failed;
        if (!write(fields[i], depth + 1, false)) return Done::failed;
    }
    open_.drop();
    return Done::yes;
}

// ---- reading ------------------------------------------------------------------------------------

namespace {

// The member descriptor of that name, which is usually the one at `likely`. Borrowed, or nullptr.
PyObject* slot_of(PyObject* slots, PyObject* name, u64 likely) noexcept {
    const Py_ssize_t n = PyTuple_GET_SIZE(slots);
    if (likely < static_cast<u64>(n)) {
        PyObject* slot = PyTuple_GET_ITEM(slots, static_cast<Py_ssize_t>(likely));
        if (PyDescr_NAME(slot) == name) return slot;
    }
    for (Py_ssize_t i = 0; i < n; ++i) {
        PyObject* slot = PyTuple_GET_ITEM(slots, i);
        if (PyDescr_NAME(slot) == name || PyUnicode_Compare(PyDescr_NAME(slot), name) == 0)
            return slot;
    }
    return nullptr;
}

// As pickle does with the fields of an object whose class says how to restore it, or has no slots.
bool set_fields(PyObject* object, PyObject* fields) noexcept {
    PyObject* set = PyObject_GetAttrString(object, "__setstate__");
    if (set != nullptr) {
        PyObject* state = PyTuple_Pack(2, Py_None, fields);
        PyObject* done = state == nullptr ? nullptr : PyObject_CallOneArg(set, state);
        Py_DECREF(set);
        Py_XDECREF(state);
        Py_XDECREF(done);
        return done != nullptr;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return false;
    PyErr_Clear();
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(fields, &at, &key, &value)) {  // nobody else has this dict
        if (PyObject_SetAttr(object, key, value) != 0) return false;
    }
    return true;
}

}  // namespace

PyObject* Unpacker::read_slotted(const Known& known, u64 where, bool shared, int depth) noexcept {
    u64 n;
    if (!get_elements(n, 2)) return wrong();
    const bool direct = known.kind == PlanKind::slotted;
    PyObject* made = new_object(known, direct);
    if (made == nullptr) return nullptr;
    PyObject* fields = direct ? nullptr : PyDict_New();
    bool sound = (direct || fields != nullptr) && (!shared || note(where, made));
    for (u64 i = 0; sound && i < n; ++i) {
        PyObject* name = read(kDeepest, true);
        sound = name != nullptr && (PyUnicode_CheckExact(name) || wrong() != nullptr);
        if (sound) PyUnicode_InternInPlace(&name);
        PyObject* value = sound ? read(depth + 1, false) : nullptr;
        sound = value != nullptr;
        if (PyObject* slot = sound && direct ? slot_of(known.slots, name, i) : nullptr;
            slot != nullptr) {
            Py_XSETREF(field_at(made, slot), Py_NewRef(value));
        } else if (sound && !direct) {
            sound = PyDict_SetItem(fields, name, value) == 0;
        } else if (sound) {
            sound = PyObject_SetAttr(made, name, value) == 0;  // a field that this class lacks
            if (!sound) explain();
        }
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    if (sound && !direct && n != 0 && !set_fields(made, fields)) {
        explain();
        sound = false;
    }
    Py_XDECREF(fields);
    if (!sound) Py_CLEAR(made);
    return made;
}

PyObject* Unpacker::read_frozen(const Known& known, u64 where, bool shared, int depth) noexcept {
    u64 n;
    if (!get_elements(n, 1)) return wrong();
    const bool direct = known.kind == PlanKind::frozen;
    PyObject* made = new_object(known, direct);
    if (made == nullptr) return nullptr;
    PyObject* state = direct ? nullptr : PyList_New(0);
    bool sound = (direct || state != nullptr) && (!shared || note(where, made));
    for (u64 i = 0; sound && i < n; ++i) {
        PyObject* value = read(depth + 1, false);
        sound = value != nullptr;
        if (sound && !direct) {
            sound = PyList_Append(state, value) == 0;
        } else if (sound && i < known.fields) {
            // As the class's `__setstate__` does: in the order of the fields that it has now.
            PyObject* slot = PyTuple_GET_ITEM(known.slots, static_cast<Py_ssize_t>(i));
            Py_XSETREF(field_at(made, slot), Py_NewRef(value));
        }
        Py_XDECREF(value);
    }
    if (sound && !direct) sound = set_state(made, state);
    Py_XDECREF(state);
    if (!sound) Py_CLEAR(made);
    return made;
}

PyObject* Unpacker::read_called(const Known& known, bool by_name, u64 where, bool shared,
                                int depth) noexcept {
    u64 n;
    std::size_t at = 0;
    if (!get_elements(n, by_name ? 2 : 1)) return wrong();
    if (shared && !reserve(where, at)) return nullptr;
    PyObject* arguments = PyTuple_New(by_name ? 0 : static_cast<Py_ssize_t>(n));
    PyObject* names = by_name ? PyDict_New() : nullptr;
    bool sound = arguments != nullptr && (!by_name || names != nullptr);
    for (u64 i = 0; sound && i < n; ++i) {
        PyObject* name = by_name ? read(kDeepest, true) : nullptr;
        sound = !by_name || (name != nullptr && (PyUnicode_CheckExact(name) || wrong() != nullptr));
        PyObject* value = sound ? read(depth + 1, false) : nullptr;
        sound = value != nullptr;
        if (sound && by_name) {
            sound = PyDict_SetItem(names, name, value) == 0;
            Py_DECREF(value);
        } else if (sound) {
            PyTuple_SET_ITEM(arguments, static_cast<Py_ssize_t>(i), value);
        }
        Py_XDECREF(name);
    }
    PyObject* made = nullptr;
    if (sound) {
        made = PyObject_Call(reinterpret_cast<PyObject*>(known.type), arguments, names);
        if (made == nullptr) explain();
    }
    Py_XDECREF(arguments);
    Py_XDECREF(names);
    if (made != nullptr && shared) met_[at].object = Py_NewRef(made);
    return made;
}

}  // namespace onecopy::py
