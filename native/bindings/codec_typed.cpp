// Messages of typed channels. See codec_typed.hpp.
#include "bindings/codec_typed.hpp"

#include <algorithm>

#include "bindings/codec_packed.hpp"
#include "bindings/errors.hpp"

namespace onecopy::py {

// ---- refusals -----------------------------------------------------------------------------------

PyObject* Refusal::because(PyObject* reason) noexcept {
    Py_XSETREF(reason_, reason);
    return nullptr;
}

PyObject* Refusal::prepend(PyObject* part) noexcept {
    if (part != nullptr && path_ != nullptr) Py_SETREF(part, PyUnicode_Concat(part, path_));
    Py_XSETREF(path_, part);
    return nullptr;
}

PyObject* Refusal::in_field(PyObject* name) noexcept {
    return reason_ == nullptr ? nullptr : prepend(PyUnicode_FromFormat(".%U", name));
}
PyObject* Refusal::at(Py_ssize_t index) noexcept {
    return reason_ == nullptr ? nullptr : prepend(PyUnicode_FromFormat("[%zd]", index));
}
PyObject* Refusal::at_key(PyObject* key) noexcept {
    return reason_ == nullptr ? nullptr : prepend(PyUnicode_FromFormat("[%R]", key));
}

PyObject* Refusal::raise(const std::string& channel, bool received) const noexcept {
    if (PyErr_Occurred() || reason_ == nullptr) return nullptr;
    PyObject* where = path_ == nullptr ? PyUnicode_FromString(received ? "it" : "a message")
                      : PyUnicode_READ_CHAR(path_, 0) == '.'
                          ? PyUnicode_Substring(path_, 1, PyUnicode_GET_LENGTH(path_))
                          : Py_NewRef(path_);
    if (where != nullptr && path_ != nullptr)
        Py_SETREF(where, PyUnicode_FromFormat("field '%U'", where));
    if (where == nullptr) return nullptr;
    if (received) {
        PyObject* type = error_class(Error::corrupted);
        if (type != nullptr)
            PyErr_Format(type,
                         "%s: a message does not fit the type: %U %U. It was not written by a put "
                         "or publish of this package, or it was changed after that.",
                         channel.c_str(), where, reason_);
    } else {
        PyErr_Format(PyExc_TypeError, "%s: %U %U", channel.c_str(), where, reason_);
    }
    Py_DECREF(where);
    return nullptr;
}

namespace {

// "uint8[480, 640]", or the name of the class. A new reference.
PyObject* spell(PyObject* object) noexcept {
    if (object == Py_None) return PyUnicode_FromString("None");
    if (!PyArray_CheckExact(object)) return PyUnicode_FromString(Py_TYPE(object)->tp_name);
    auto* array = reinterpret_cast<PyArrayObject*>(object);
    PyObject* shape = PyArray_IntTupleFromIntp(PyArray_NDIM(array), PyArray_DIMS(array));
    PyObject* list = shape == nullptr ? nullptr : PySequence_List(shape);
    Py_XDECREF(shape);
    PyObject* text =
        list == nullptr
            ? nullptr
            : PyUnicode_FromFormat("%S%R", reinterpret_cast<PyObject*>(PyArray_DESCR(array)), list);
    Py_XDECREF(list);
    return text;
}

PyObject* refuse(const TypeNode& node, PyObject* object, Refusal& why,
                 const char* hint = "") noexcept {
    PyObject* text = spell(object);
    if (text == nullptr) return nullptr;
    PyObject* reason = PyUnicode_FromFormat(
        "must be %U%s, not %U%s", node.what,
        node.nullable && node.kind != TypeNode::Kind::none ? " or None" : "", text, hint);
    Py_DECREF(text);
    return why.because(reason);
}

// ---- the walk -----------------------------------------------------------------------------------

// Copies of the lists and dicts that are checked and sent. Without the GIL, another thread could
// change what was checked. Each has one copy, because one object in two places arrives as one.
#ifdef Py_GIL_DISABLED
class Copies {
  public:
    Copies() = default;
    Copies(const Copies&) = delete;
    Copies& operator=(const Copies&) = delete;
    ~Copies() {
        for (const Pair& pair : all_) {
            Py_DECREF(pair.original);
            Py_DECREF(pair.copy);
        }
    }
    // Borrowed; nullptr with an exception set.
    PyObject* of(PyObject* object) noexcept {
        for (const Pair& pair : all_) {
            if (pair.original == object) return pair.copy;
        }
        PyObject* copy = PyList_CheckExact(object) ? PyList_GetSlice(object, 0, PY_SSIZE_T_MAX)
                                                   : PyDict_Copy(object);
        if (copy == nullptr) return nullptr;
        if (all_.add({Py_NewRef(object), copy})) return copy;
        Py_DECREF(object);
        Py_DECREF(copy);
        return nullptr;
    }

  private:
    struct Pair {
        PyObject *original, *copy;
    };
    Few<Pair, 4> all_;
};
#else
struct Copies {
    PyObject* of(PyObject* object) noexcept { return object; }
};
#endif

// Both directions: an object is checked; a record, and a container with records, is built again.
class Walk {
  public:
    Walk(Refusal& why, bool sending) noexcept : why_(why), sending_(sending) {}
    PyObject* change(const TypeNode& node, PyObject* object) noexcept;

  private:
    PyObject* number(const TypeNode& node, PyObject* object) noexcept;
    bool has_shape(const TypeNode& node, PyArrayObject* array) noexcept;
    PyObject* array(const TypeNode& node, PyObject* object) noexcept;
    PyObject* list(const TypeNode& node, PyObject* object) noexcept;
    PyObject* tuple(const TypeNode& node, PyObject* object) noexcept;
    PyObject* dict(const TypeNode& node, PyObject* object) noexcept;
    PyObject* field(const TypeNode& node, std::size_t i, PyObject* value) noexcept;
    PyObject* to_tuple(const TypeNode& node, PyObject* object) noexcept;
    PyObject* from_tuple(const TypeNode& node, PyObject* object) noexcept;
    PyObject* partial(const TypeNode& node, PyObject* object) noexcept;
    bool has_only_fields(const TypeNode& node, PyObject* dict, std::size_t met) noexcept;

    Refusal& why_;
    bool sending_;
    [[no_unique_address]] Copies copies_;
    npy_intp sizes_[kDimensionNames];  // of the named dimensions; 0: not met, else plus 1
    std::size_t names_ = 0;            // of them that are set
};

PyObject* Walk::number(const TypeNode& node, PyObject* object) noexcept {
    // What type checkers accept is accepted, and arrives as what was declared.
    if (node.kind == TypeNode::Kind::integer) {
        return PyLong_Check(object)
                   ? PyLong_Type.tp_as_number->nb_int(object)
                   : refuse(node, object, why_,
                            PyArray_IsScalar(object, Integer) ? ": int(x) makes an int" : "");
    }
    if (node.kind == TypeNode::Kind::complex && PyComplex_Check(object))
        return PyComplex_FromCComplex(PyComplex_AsCComplex(object));
    double value;
    if (PyFloat_Check(object)) {
        value = PyFloat_AS_DOUBLE(object);
    } else if (PyLong_Check(object)) {
        value = PyLong_AsDouble(object);
        if (value == -1.0 && PyErr_Occurred()) {
            if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return nullptr;
            PyErr_Clear();
            return refuse(node, object, why_, ": this one is too large for a float");
        }
    } else {
        return refuse(node, object, why_,
                      PyArray_IsScalar(object, Floating) ? ": float(x) makes a float" : "");
    }
    return node.kind == TypeNode::Kind::real ? PyFloat_FromDouble(value)
                                             : PyComplex_FromDoubles(value, 0.0);
}

bool Walk::has_shape(const TypeNode& node, PyArrayObject* array) noexcept {
    if (node.any_shape) return true;
    const auto n = static_cast<int>(node.dimensions.size());
    const int ndim = PyArray_NDIM(array);
    if (node.rest < 0 ? ndim != n : ndim < n) return false;
    for (int i = 0; i < n; ++i) {
        const npy_intp wanted = node.dimensions[static_cast<std::size_t>(i)];
        const npy_intp size =
            PyArray_DIM(array, node.rest >= 0 && i >= node.rest ? ndim - n + i : i);
        if (wanted >= 0) {
            if (size != wanted) return false;
        } else if (wanted <= TypeNode::kFirstName) {
            const auto name = static_cast<std::size_t>(TypeNode::kFirstName - wanted);
            while (names_ <= name)
                sizes_[names_++] = 0;
            if (sizes_[name] == 0) sizes_[name] = size + 1;
            if (sizes_[name] != size + 1) return false;
        }
    }
    return true;
}

PyObject* Walk::array(const TypeNode& node, PyObject* object) noexcept {
    if (!PyArray_CheckExact(object)) {
        return refuse(node, object, why_,
                      PyArray_Check(object)
                          ? ", a subclass of numpy.ndarray: np.asarray(x) makes a plain array"
                          : "");
    }
    auto* array = reinterpret_cast<PyArrayObject*>(object);
    PyArray_Descr* dtype = PyArray_DESCR(array);
    if (node.dtype != nullptr) {
        if (dtype != node.dtype && !PyArray_EquivTypes(dtype, node.dtype))
            return refuse(node, object, why_);
    } else if ((!node.kinds.empty() && node.kinds.find(dtype->kind) == std::string::npos) ||
               (node.itemsize != 0 && PyDataType_ELSIZE(dtype) != node.itemsize)) {
        return refuse(node, object, why_);
    } else if (!PyArray_ISNBO(dtype->byteorder)) {
        return refuse(node, object, why_,
                      ", in the other byte order: x.astype(x.dtype.newbyteorder"
                      "('=')) has this machine's");
    }
    if (dtype->type_num < 0 || dtype->type_num >= NPY_OBJECT) {
        const int plain = goes_without_pickle(dtype);
        if (plain < 0) return nullptr;
        if (plain == 0) return refuse(node, object, why_, ": only pickle can describe that dtype");
    } else if (PyDataType_METADATA(dtype) != nullptr) {
        return refuse(node, object, why_, ": only pickle can describe a dtype with metadata");
    }
    if (!has_shape(node, array)) return refuse(node, object, why_);
    return Py_NewRef(object);
}

PyObject* Walk::list(const TypeNode& node, PyObject* object) noexcept {
    if (!PyList_CheckExact(object)) return refuse(node, object, why_);
    if (sending_ && (object = copies_.of(object)) == nullptr) return nullptr;
    PyObject* result = Py_NewRef(object);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(object); ++i) {
        PyObject* item = Py_NewRef(PyList_GET_ITEM(object, i));
        PyObject* changed = change(node.children[0], item);
        if (changed == nullptr) why_.at(i);
        bool sound = changed != nullptr;
        if (sound && changed != item) {
            if (result == object)
                Py_SETREF(result, PyList_GetSlice(object, 0, PyList_GET_SIZE(object)));
            // Takes the reference, also when it fails.
            sound = result != nullptr && PyList_SetItem(result, i, Py_NewRef(changed)) == 0;
        }
        Py_DECREF(item);
        Py_XDECREF(changed);
        if (!sound) {
            Py_XDECREF(result);
            return nullptr;
        }
    }
    return result;
}

PyObject* Walk::tuple(const TypeNode& node, PyObject* object) noexcept {
    if (!PyTuple_CheckExact(object)) return refuse(node, object, why_);
    const Py_ssize_t n = PyTuple_GET_SIZE(object);
    const bool fixed = node.kind == TypeNode::Kind::tuple;
    if (fixed && n != static_cast<Py_ssize_t>(node.children.size()))
        return why_.because(PyUnicode_FromFormat("must be %U, not a tuple of %zd", node.what, n));
    PyObject* result = Py_NewRef(object);
    for (Py_ssize_t i = 0; i < n; ++i) {
        PyObject* item = PyTuple_GET_ITEM(object, i);
        PyObject* changed = change(node.children[fixed ? static_cast<std::size_t>(i) : 0], item);
        if (changed == nullptr) {
            why_.at(i);
            Py_XDECREF(result);
            return nullptr;
        }
        if (changed != item && result == object) {
            Py_SETREF(result, PyTuple_New(n));
            for (Py_ssize_t k = 0; result != nullptr && k < n; ++k)
                PyTuple_SET_ITEM(result, k, Py_NewRef(PyTuple_GET_ITEM(object, k)));
        }
        if (result != nullptr && result != object) {
            PyObject* before = PyTuple_GET_ITEM(result, i);
            PyTuple_SET_ITEM(result, i, changed);
            Py_DECREF(before);
        } else {
            Py_DECREF(changed);
        }
        if (result == nullptr) return nullptr;
    }
    return result;
}

PyObject* Walk::dict(const TypeNode& node, PyObject* object) noexcept {
    if (!PyDict_CheckExact(object)) return refuse(node, object, why_);
    if (sending_ && (object = copies_.of(object)) == nullptr) return nullptr;
    PyObject* result = Py_NewRef(object);
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(object, &at, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        PyObject* same = change(node.children[0], key);
        PyObject* changed = nullptr;
        if (same == nullptr) {
            why_.at_key(key);
        } else if (same != key) {
            refuse(node.children[0], key, why_, ": keys are of exactly that class");
            why_.at_key(key);
        } else if ((changed = change(node.children[1], value)) == nullptr) {
            why_.at_key(key);
        }
        bool sound = changed != nullptr;
        if (sound && changed != value) {
            if (result == object) Py_SETREF(result, PyDict_Copy(object));
            sound = result != nullptr && PyDict_SetItem(result, key, changed) == 0;
        }
        Py_XDECREF(same);
        Py_XDECREF(changed);
        Py_DECREF(key);
        Py_DECREF(value);
        if (!sound) {
            Py_XDECREF(result);
            return nullptr;
        }
    }
    return result;
}

// ---- records ------------------------------------------------------------------------------------

PyObject* Walk::field(const TypeNode& node, std::size_t i, PyObject* value) noexcept {
    PyObject* changed = change(node.children[i], value);
    return changed != nullptr ? changed : why_.in_field(node.fields[i].name);
}

// A dict with all fields has no other keys if their numbers agree.
bool Walk::has_only_fields(const TypeNode& node, PyObject* dict, std::size_t met) noexcept {
    if (static_cast<std::size_t>(PyDict_GET_SIZE(dict)) == met) return true;
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(dict, &at, &key, &value)) {
        const auto is_key = [key](const TypeNode::Field& f) {
            return PyUnicode_Check(key) && PyUnicode_Compare(f.name, key) == 0;
        };
        if (std::any_of(node.fields.begin(), node.fields.end(), is_key)) continue;
        why_.because(
            PyUnicode_FromFormat("has the key %R, which %U does not have", key, node.what));
        break;
    }
    return false;
}

PyObject* Walk::to_tuple(const TypeNode& node, PyObject* object) noexcept {
    const std::size_t n = node.fields.size();
    const bool is_dict = node.form == TypeNode::Form::mapping;
    if (is_dict ? !PyDict_CheckExact(object) : Py_TYPE(object) != node.type) {
        return refuse(node, object, why_,
                      !is_dict && PyType_IsSubtype(Py_TYPE(object), node.type)
                          ? ", a subclass: it would arrive as the class itself"
                          : "");
    }
    Stills stills;
    if (is_dict && (object = stills.of(object)) == nullptr) return nullptr;
    PyObject* result = PyTuple_New(static_cast<Py_ssize_t>(n));
    for (std::size_t i = 0; result != nullptr && i < n; ++i) {
        const TypeNode::Field& f = node.fields[i];
        PyObject* value;
        if (node.form == TypeNode::Form::named) {
            value = Py_XNewRef(i < static_cast<std::size_t>(PyTuple_GET_SIZE(object))
                                   ? PyTuple_GET_ITEM(object, static_cast<Py_ssize_t>(i))
                                   : nullptr);
        } else if (is_dict) {
            value = Py_XNewRef(PyDict_GetItemWithError(object, f.name));
        } else if (f.offset != 0) {
            value = field_of(object, *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) +
                                                                   f.offset))
                        .release();
        } else {
            value = PyObject_GenericGetAttr(object, f.name);
        }
        PyObject* changed = nullptr;
        if (value != nullptr) {
            changed = field(node, i, value);
            Py_DECREF(value);
        } else if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
            why_.because(PyUnicode_FromFormat("is missing; it must be %U", node.children[i].what));
            why_.in_field(f.name);
        }
        if (changed == nullptr) {
            Py_CLEAR(result);
        } else {
            PyTuple_SET_ITEM(result, static_cast<Py_ssize_t>(i), changed);
        }
    }
    if (is_dict && result != nullptr && !has_only_fields(node, object, n)) Py_CLEAR(result);
    return result;
}

PyObject* Walk::from_tuple(const TypeNode& node, PyObject* object) noexcept {
    const auto n = static_cast<Py_ssize_t>(node.fields.size());
    if (!PyTuple_CheckExact(object) || PyTuple_GET_SIZE(object) != n)
        return refuse(node, object, why_);
    PyObject* none = empty_tuple();
    if (none == nullptr) return nullptr;
    PyObject* result = node.form == TypeNode::Form::mapping ? PyDict_New()
                       : node.form == TypeNode::Form::named
                           ? node.type->tp_alloc(node.type, n)
                           : PyBaseObject_Type.tp_new(node.type, none, nullptr);
    for (Py_ssize_t i = 0; result != nullptr && i < n; ++i) {
        const TypeNode::Field& f = node.fields[static_cast<std::size_t>(i)];
        PyObject* value = field(node, static_cast<std::size_t>(i), PyTuple_GET_ITEM(object, i));
        bool sound = value != nullptr;
        if (!sound) {
        } else if (node.form == TypeNode::Form::named) {
            PyTuple_SET_ITEM(result, i, Py_NewRef(value));
        } else if (node.form == TypeNode::Form::mapping) {
            sound = PyDict_SetItem(result, f.name, value) == 0;
        } else if (f.offset != 0) {
            Py_XSETREF(*reinterpret_cast<PyObject**>(reinterpret_cast<char*>(result) + f.offset),
                       Py_NewRef(value));
        } else {
            sound = PyObject_GenericSetAttr(result, f.name, value) == 0;
        }
        Py_XDECREF(value);
        if (!sound) Py_CLEAR(result);
    }
    return result;
}

PyObject* Walk::partial(const TypeNode& node, PyObject* object) noexcept {
    if (!PyDict_CheckExact(object)) return refuse(node, object, why_);
    Stills stills;
    if ((object = stills.of(object)) == nullptr) return nullptr;
    PyObject* result = PyDict_New();
    std::size_t met = 0;
    for (std::size_t i = 0; result != nullptr && i < node.fields.size(); ++i) {
        const TypeNode::Field& f = node.fields[i];
        PyObject* value = PyDict_GetItemWithError(object, f.name);
        if (value == nullptr) {
            bool sound = !PyErr_Occurred();
            if (sound && f.required) {
                why_.because(
                    PyUnicode_FromFormat("is missing; it must be %U", node.children[i].what));
                why_.in_field(f.name);
                sound = false;
            }
            if (!sound) Py_CLEAR(result);
            continue;
        }
        ++met;
        Py_INCREF(value);
        PyObject* changed = field(node, i, value);
        Py_DECREF(value);
        if (changed == nullptr || PyDict_SetItem(result, f.name, changed) != 0) Py_CLEAR(result);
        Py_XDECREF(changed);
    }
    if (result != nullptr && !has_only_fields(node, object, met)) Py_CLEAR(result);
    return result;
}

PyObject* Walk::change(const TypeNode& node, PyObject* object) noexcept {
    using Kind = TypeNode::Kind;
    if (object == Py_None) {
        if (node.nullable || node.kind == Kind::none) return Py_NewRef(object);
        return refuse(node, object, why_);
    }
    PyTypeObject* type = Py_TYPE(object);
    switch (node.kind) {
        case Kind::none:
            break;
        case Kind::boolean:
            if (type == &PyBool_Type) return Py_NewRef(object);
            return refuse(node, object, why_,
                          PyArray_IsScalar(object, Bool) ? ": bool(x) makes a bool" : "");
        case Kind::integer:
            if (type == &PyLong_Type) return Py_NewRef(object);
            if (sending_) return number(node, object);
            break;
        case Kind::real:
            if (type == &PyFloat_Type) return Py_NewRef(object);
            if (sending_) return number(node, object);
            break;
        case Kind::complex:
            if (type == &PyComplex_Type) return Py_NewRef(object);
            if (sending_) return number(node, object);
            break;
        case Kind::text:
            if (type == &PyUnicode_Type) return Py_NewRef(object);
            if (sending_ && PyUnicode_Check(object)) return PyUnicode_FromObject(object);
            break;
        case Kind::bytes:
            if (type == &PyBytes_Type) return Py_NewRef(object);
            if (sending_ && PyBytes_Check(object))
                return PyBytes_FromStringAndSize(PyBytes_AS_STRING(object),
                                                 PyBytes_GET_SIZE(object));
            break;
        case Kind::scalar:
            if (type == node.type) return Py_NewRef(object);
            break;
        case Kind::array:
            return array(node, object);
        case Kind::list:
            return list(node, object);
        case Kind::run:
        case Kind::tuple:
            return tuple(node, object);
        case Kind::dict:
            return dict(node, object);
        case Kind::record:
            if (node.form == TypeNode::Form::partial) return partial(node, object);
            return sending_ ? to_tuple(node, object) : from_tuple(node, object);
    }
    return refuse(node, object, why_);
}

// Whether to read a message could run code. It may be damaged: `decode` finds that out.
bool has_code(const PoolPtr& pool, const Message& message, const Held& block) noexcept {
    Reader from(message.bytes, message.length);
    Tag tag;
    u8 version, flags = 0;
    u64 at;
    BlockInfo info;
    if (!from.get(tag)) return false;
    if (tag == Tag::packed) return from.get(version) && from.get(flags) && flags != 0;
    if (tag == Tag::packed_block) {
        return from.get(at) && block && inspect(pool->core(), block.index(), info) == Status::ok &&
               at < info.length && info.length - at >= sizeof(PackedHead) &&
               info.data[at + offsetof(PackedHead, flags)] != 0;
    }
    return tag == Tag::pickle || tag == Tag::pickle_block;
}

}  // namespace

MessageType::MessageType(PyObject* description) {
    check(root_.read(description, 0));
}

PyObject* MessageType::take_apart(PyObject* object, Refusal& why) const noexcept {
    return Walk(why, true).change(root_, object);
}

PyObject* MessageType::receive(const PoolPtr& pool, const Message& message, Copy how,
                               Refusal& why) const noexcept {
    Held block = message.block == 0 ? Held() : Held(pool, handle_index(message.block));
    if (has_code(pool, message, block))
        return why.because(PyUnicode_FromString("has a part that runs code when it is read"));
    PyObject* plain = decode(pool, message.bytes, message.length, std::move(block), how);
    if (plain == nullptr) return nullptr;
    PyObject* made = Walk(why, false).change(root_, plain);
    Py_DECREF(plain);
    return made;
}

}  // namespace onecopy::py
