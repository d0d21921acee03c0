#include "bindings/keys.hpp"

#include <cstring>

#include "bindings/errors.hpp"
#include "bindings/wire.hpp"

namespace onecopy::py {
namespace {

// Numbers are fixed: they stand in pools.
enum KeyTag : unsigned char {
    kNone = 1,
    kFalse,
    kTrue,
    kInt,     // i64
    kBigInt,  // run: two's complement, little endian, as short as it can be
    kReal,    // f64
    kText,    // run: UTF-8, with lone surrogates
    kBytes,   // run
    kTuple,   // u32 count, elements
};
// A run: its length in one byte, or 255 and then in four; its bytes.
constexpr unsigned char kLongRun = 255;
constexpr int kDeepest = 64;

PyObject* bytes_of(PyObject* number) noexcept {
    const std::size_t bits = [&]() -> std::size_t {
        PyObject* n = PyObject_CallMethod(number, "bit_length", nullptr);
        const std::size_t out = n == nullptr ? 0 : PyLong_AsSize_t(n);
        Py_XDECREF(n);
        return out;
    }();
    if (PyErr_Occurred()) return nullptr;
    PyObject* names = Py_BuildValue("(s)", "signed");
    PyObject* method = PyUnicode_InternFromString("to_bytes");
    PyObject* length = PyLong_FromSize_t(bits / 8 + 1);
    PyObject* little = PyUnicode_InternFromString("little");
    PyObject* out = nullptr;
    if (names != nullptr && method != nullptr && length != nullptr && little != nullptr) {
        PyObject* arguments[] = {number, length, little, Py_True};
        out = PyObject_VectorcallMethod(method, arguments, 3, names);
    }
    Py_XDECREF(names);
    Py_XDECREF(method);
    Py_XDECREF(length);
    Py_XDECREF(little);
    return out;
}

PyObject* int_from(const unsigned char* bytes, u32 n) noexcept {
    PyObject* data = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(bytes), n);
    PyObject* names = Py_BuildValue("(s)", "signed");
    PyObject* method = PyUnicode_InternFromString("from_bytes");
    PyObject* little = PyUnicode_InternFromString("little");
    PyObject* out = nullptr;
    if (data != nullptr && names != nullptr && method != nullptr && little != nullptr) {
        PyObject* arguments[] = {reinterpret_cast<PyObject*>(&PyLong_Type), data, little, Py_True};
        out = PyObject_VectorcallMethod(method, arguments, 3, names);
    }
    Py_XDECREF(data);
    Py_XDECREF(names);
    Py_XDECREF(method);
    Py_XDECREF(little);
    return out;
}

}  // namespace

bool Key::refuse(PyObject* object) noexcept {
    // int, float, complex and their like among numpy's and others' numbers compare with ours.
    const bool number = PyComplex_CheckExact(object) ? PyComplex_ImagAsDouble(object) == 0
                                                     : PyNumber_Check(object) != 0;
    equals_no_key_ =
        !number && !PyUnicode_Check(object) && !PyBytes_Check(object) && !PyTuple_Check(object);
    PyErr_Format(PyExc_TypeError,
                 "a key of a shared dict is None, a bool, int, float, str or bytes, or a tuple of "
                 "them, and not of a subclass: it must have the same bytes in every process. This "
                 "one is of type %.200s",
                 Py_TYPE(object)->tp_name);
    return false;
}

bool Key::is_absent(PyObject* object) noexcept {
    if (!equals_no_key_) return false;
    PyErr_Clear();
    return PyObject_Hash(object) != -1 || !PyErr_Occurred();
}

bool Key::put(const void* from, std::size_t n) noexcept {
    if (size_ + n > kLongestKey) {
        PyErr_SetString(PyExc_ValueError, "a key of a shared dict has less than 2 GiB");
        return false;
    }
    if (large_.empty() && size_ + n <= sizeof small_) {
        std::memcpy(small_ + size_, from, n);
    } else {
        try {
            if (large_.empty()) large_.assign(small_, small_ + size_);
            const auto* bytes = static_cast<const unsigned char*>(from);
            large_.insert(large_.end(), bytes, bytes + n);
        } catch (const std::bad_alloc&) {
            PyErr_NoMemory();
            return false;
        }
    }
    size_ += n;
    return true;
}

bool Key::add_run(unsigned char tag, const char* from, Py_ssize_t n) noexcept {
    unsigned char head[6] = {tag, static_cast<unsigned char>(n)};
    std::size_t head_size = 2;
    if (n >= kLongRun) {
        if (n >= static_cast<Py_ssize_t>(kLongestKey)) return put(nullptr, kTwoForms);  // refused
        const auto length = static_cast<u32>(n);
        head[1] = kLongRun;
        std::memcpy(head + 2, &length, sizeof length);
        head_size = 6;
    }
    return put(head, head_size) && put(from, static_cast<std::size_t>(n));
}

bool Key::add_int(PyObject* number) noexcept {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow == 0) {
        unsigned char bytes[9] = {kInt};
        std::memcpy(bytes + 1, &value, 8);
        return put(bytes, sizeof bytes);
    }
    PyObject* bytes = bytes_of(number);
    if (bytes == nullptr) return false;
    const bool done = add_run(kBigInt, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    return done;
}

// Canonical: what is equal to an int is written as one.
bool Key::add(PyObject* object, bool canonical, int depth) noexcept {
    PyTypeObject* type = Py_TYPE(object);
    if (type == &PyUnicode_Type) {
        Py_ssize_t n = 0;
        const char* text = PyUnicode_AsUTF8AndSize(object, &n);
        if (text != nullptr) return add_run(kText, text, n);
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return false;
        PyErr_Clear();
        PyObject* bytes = PyUnicode_AsEncodedString(object, "utf-8", "surrogatepass");
        if (bytes == nullptr) return false;
        const bool done = add_run(kText, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
        Py_DECREF(bytes);
        return done;
    }
    if (type == &PyLong_Type) return add_int(object);
    if (type == &PyBytes_Type)
        return add_run(kBytes, PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object));
    if (object == Py_None) {
        const unsigned char tag = kNone;
        return put(&tag, 1);
    }
    if (type == &PyBool_Type) {
        has_other_form_ = true;
        const bool yes = object == Py_True;
        if (!canonical) {
            const unsigned char tag = yes ? kTrue : kFalse;
            return put(&tag, 1);
        }
        unsigned char bytes[9] = {kInt, yes};
        return put(bytes, sizeof bytes);
    }
    if (type == &PyFloat_Type) {
        double value = PyFloat_AS_DOUBLE(object);
        const bool whole = value == value && value - value == 0 && value == __builtin_trunc(value);
        has_other_form_ |= whole;
        if (whole && canonical) {
            PyObject* number = PyLong_FromDouble(value);
            const bool done = number != nullptr && add_int(number);
            Py_XDECREF(number);
            return done;
        }
        if (value != value) value = __builtin_nan("");
        unsigned char bytes[9] = {kReal};
        std::memcpy(bytes + 1, &value, 8);
        return put(bytes, sizeof bytes);
    }
    if (type == &PyTuple_Type) {
        if (depth >= kDeepest) {
            PyErr_SetString(PyExc_ValueError, "a key of a shared dict nests at most 64 tuples");
            return false;
        }
        const Py_ssize_t n = PyTuple_GET_SIZE(object);
        unsigned char head[5] = {kTuple};
        const auto count = static_cast<u32>(n);
        std::memcpy(head + 1, &count, sizeof count);
        if (n > static_cast<Py_ssize_t>(kLongestKey)) return put(nullptr, kTwoForms);  // refused
        if (!put(head, sizeof head)) return false;
        for (Py_ssize_t i = 0; i < n; ++i)
            if (!add(PyTuple_GET_ITEM(object, i), canonical, depth + 1)) return false;
        return true;
    }
    return refuse(object);
}

bool Key::encode(PyObject* object) noexcept {
    if (!add(object, true, 0)) return false;
    const auto canonical = static_cast<u32>(size_);
    if (has_other_form_ && (!add(object, false, 0) || !put(&canonical, sizeof canonical)))
        return false;
    key_ = {large_.empty() ? small_ : large_.data(), static_cast<u32>(size_), canonical};
    return true;
}

namespace {

PyObject* senseless() noexcept {
    return raise_corrupt("a key of a dict");
}

PyObject* read(Reader& from, int depth) noexcept {
    unsigned char tag;
    if (!from.get(tag)) return senseless();
    switch (tag) {
        case kNone:
            return Py_NewRef(Py_None);
        case kFalse:
            return Py_NewRef(Py_False);
        case kTrue:
            return Py_NewRef(Py_True);
        case kInt: {
            std::int64_t value;
            return from.get(value) ? PyLong_FromLongLong(value) : senseless();
        }
        case kReal: {
            double value;
            return from.get(value) ? PyFloat_FromDouble(value) : senseless();
        }
        case kBigInt:
        case kText:
        case kBytes: {
            u8 short_length;
            if (!from.get(short_length)) return senseless();
            u32 n = short_length;
            if (short_length == kLongRun && !from.get(n)) return senseless();
            const unsigned char* data = from.take(n);
            if (data == nullptr) return senseless();
            if (tag == kBigInt) return int_from(data, n);
            const char* text = reinterpret_cast<const char*>(data);
            if (tag == kBytes) return PyBytes_FromStringAndSize(text, n);
            PyObject* object = PyUnicode_DecodeUTF8(text, n, "surrogatepass");
            if (object == nullptr && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
                PyErr_Clear();
                return senseless();
            }
            return object;
        }
        case kTuple: {
            u32 n;
            if (depth >= kDeepest || !from.get(n) || n > from.left()) return senseless();
            PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(n));
            for (u32 i = 0; tuple != nullptr && i < n; ++i) {
                PyObject* item = read(from, depth + 1);
                if (item == nullptr) {
                    Py_CLEAR(tuple);
                } else {
                    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), item);
                }
            }
            return tuple;
        }
        default:
            return senseless();
    }
}

}  // namespace

PyObject* decode_key(const unsigned char* bytes, u32 word) noexcept {
    u32 from = 0, length = word & ~kTwoForms;
    if ((word & kTwoForms) != 0) {
        if (length < sizeof from) return senseless();
        length -= static_cast<u32>(sizeof from);
        std::memcpy(&from, bytes + length, sizeof from);
        if (from > length) return senseless();
    }
    Reader reader(bytes + from, length - from);
    PyObject* key = read(reader, 0);
    if (key == nullptr || reader.left() == 0) return key;
    Py_DECREF(key);
    return senseless();
}

}  // namespace onecopy::py
