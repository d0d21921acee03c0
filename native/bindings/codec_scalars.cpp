// None, bool, int, float, str, bytes and tuples of them: the hot path of a queue.
#include "bindings/codec.hpp"
#include "bindings/errors.hpp"

namespace onecopy::py {
namespace {

bool write_bytes(Tag tag, const char* from, Py_ssize_t n, Writer& to) noexcept {
    if (n < 0 || n > 255 || to.room() < static_cast<std::size_t>(n) + 2) return false;
    to.put(tag);
    to.put(static_cast<u8>(n));
    return to.put(from, static_cast<std::size_t>(n));
}

// Exact types only: an object of a subclass must arrive with its own type.
bool write_small(PyObject* object, Writer& to) noexcept {
    PyTypeObject* type = Py_TYPE(object);
    if (type == &PyLong_Type) {
        int overflow = 0;
        const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
        return overflow == 0 && to.put(Tag::integer) && to.put(static_cast<std::int64_t>(value));
    }
    if (type == &PyFloat_Type) return to.put(Tag::real) && to.put(PyFloat_AS_DOUBLE(object));
    if (type == &PyUnicode_Type) {
        if (PyUnicode_IS_COMPACT_ASCII(object)) {
            return write_bytes(Tag::text, static_cast<const char*>(PyUnicode_DATA(object)),
                               PyUnicode_GET_LENGTH(object), to);
        }
        if (PyUnicode_GET_LENGTH(object) > 255) return false;  // before UTF-8 is made of a long one
        Py_ssize_t n = 0;
        const char* text = PyUnicode_AsUTF8AndSize(object, &n);
        if (text == nullptr) {
            PyErr_Clear();  // lone surrogates: pickle can send them
            return false;
        }
        return write_bytes(Tag::text, text, n, to);
    }
    if (type == &PyBytes_Type)
        return write_bytes(Tag::bytes, PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object), to);
    if (object == Py_None) return to.put(Tag::none);
    if (type == &PyBool_Type) return to.put(object == Py_True ? Tag::yes : Tag::no);
    if (type == &PyTuple_Type) {
        const Py_ssize_t n = PyTuple_GET_SIZE(object);
        if (n > 255 || !to.put(Tag::tuple) || !to.put(static_cast<u8>(n))) return false;
        // Each level takes two bytes, so the message bounds the depth.
        for (Py_ssize_t i = 0; i < n; ++i) {
            if (!write_small(PyTuple_GET_ITEM(object, i), to)) return false;
        }
        return true;
    }
    return false;
}

PyObject* short_message(const PoolPtr& pool) noexcept {
    return raise_corrupt(pool, "a message");
}

}  // namespace

bool encode_small(PyObject* object, Message& out) noexcept {
    Writer to(out.bytes, out.bytes + kInlineBytes);
    if (!write_small(object, to)) return false;
    out.length = static_cast<u32>(to.at() - out.bytes);
    return true;
}

PyObject* decode_small(const PoolPtr& pool, Tag tag, Reader& from) noexcept {
    switch (tag) {
        case Tag::none:
            return Py_NewRef(Py_None);
        case Tag::yes:
            return Py_NewRef(Py_True);
        case Tag::no:
            return Py_NewRef(Py_False);
        case Tag::integer: {
            std::int64_t value;
            return from.get(value) ? PyLong_FromLongLong(value) : short_message(pool);
        }
        case Tag::real: {
            double value;
            return from.get(value) ? PyFloat_FromDouble(value) : short_message(pool);
        }
        case Tag::text:
        case Tag::bytes: {
            u8 n;
            const unsigned char* data = from.get(n) ? from.take(n) : nullptr;
            if (data == nullptr) return short_message(pool);
            if (tag == Tag::bytes)
                return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data), n);
            PyObject* text = PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(data), n, nullptr);
            if (text == nullptr && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
                PyErr_Clear();
                return short_message(pool);
            }
            return text;
        }
        case Tag::tuple: {
            u8 n;
            if (!from.get(n) || from.left() < n) return short_message(pool);
            PyObject* result = PyTuple_New(n);
            if (result == nullptr) return nullptr;
            for (u8 i = 0; i < n; ++i) {
                u8 inner;
                PyObject* item = from.get(inner) ? decode_small(pool, static_cast<Tag>(inner), from)
                                                 : short_message(pool);
                if (item == nullptr) {
                    Py_DECREF(result);
                    return nullptr;
                }
                PyTuple_SET_ITEM(result, i, item);
            }
            return result;
        }
        default:
            return short_message(pool);
    }
}

}  // namespace onecopy::py
