// How a dtype travels.
//
//   form        then                              for
//   simple      u8 type number                    numbers in this machine's byte order
//   swapped     u8 type number                    numbers in the other
//   sized       u8 type number, u32 item size     S, U, V (in this machine's byte order; S and V
//   have none) spelled     u8 length, text as in dtype.str   dates and times; U in the other byte
//   order pickled     u16 length, a pickle              structured dtypes, dtypes with metadata,
//   users' own dtypes
#include "bindings/codec.hpp"
#include "bindings/errors.hpp"

namespace onecopy::py {
namespace {

enum class Form : u8 { simple = 0, swapped = 1, sized = 2, spelled = 3, pickled = 4 };

constexpr bool is_number(int type) noexcept {
    return (type >= NPY_BOOL && type <= NPY_CLONGDOUBLE) || type == NPY_HALF;
}
constexpr bool is_sized(int type) noexcept {
    return type == NPY_STRING || type == NPY_UNICODE || type == NPY_VOID;
}

// The last dtype that took long to write, and to read: a queue mostly carries the same ones.
struct Remembered {
    PyObject* dtype = nullptr;
    PyObject* names = nullptr;  // `dtype.names = …` changes a dtype in place
    PyObject* bytes = nullptr;  // form and what follows

    void set(PyArray_Descr* new_dtype, PyObject* new_bytes) noexcept {
        // The old ones go last: what they run may come back here.
        PyObject* old_dtype =
            std::exchange(dtype, Py_NewRef(reinterpret_cast<PyObject*>(new_dtype)));
        PyObject* old_names = std::exchange(names, Py_XNewRef(names_of(new_dtype)));
        PyObject* old_bytes = std::exchange(bytes, Py_NewRef(new_bytes));
        Py_XDECREF(old_dtype);
        Py_XDECREF(old_names);
        Py_XDECREF(old_bytes);
    }
    static PyObject* names_of(PyArray_Descr* d) noexcept {
        return PyDataType_ISLEGACY(d) ? PyDataType_NAMES(d) : nullptr;
    }
};
Remembered written, read;

// dtype.str, or a pickle, with what goes before it; new reference or nullptr with an exception set.
PyObject* spell(PyArray_Descr* dtype, bool pickled) noexcept {
    auto* object = reinterpret_cast<PyObject*>(dtype);
    if (pickled) {
        PyObject* data = plain_dumps(object);
        if (data == nullptr) return nullptr;
        const Py_ssize_t n = PyBytes_GET_SIZE(data);
        PyObject* result = PyBytes_FromStringAndSize(nullptr, n + 3);
        if (result != nullptr) {
            char* to = PyBytes_AS_STRING(result);
            const auto length = static_cast<std::uint16_t>(
                n <= 0xffff ? n : 0xffff);  // too long for any message, and refused for it
            to[0] = static_cast<char>(Form::pickled);
            std::memcpy(to + 1, &length, 2);
            std::memcpy(to + 3, PyBytes_AS_STRING(data), static_cast<std::size_t>(n));
        }
        Py_DECREF(data);
        return result;
    }
    PyObject* text = PyObject_GetAttrString(object, "str");
    if (text == nullptr) return nullptr;
    Py_ssize_t n = 0;
    const char* data = PyUnicode_AsUTF8AndSize(text, &n);
    PyObject* result = data == nullptr ? nullptr : PyBytes_FromStringAndSize(nullptr, n + 2);
    if (result != nullptr) {
        char* to = PyBytes_AS_STRING(result);
        to[0] = static_cast<char>(Form::spelled);
        to[1] = static_cast<char>(n);
        std::memcpy(to + 2, data, static_cast<std::size_t>(n));
    }
    Py_DECREF(text);
    return result;
}

PyArray_Descr* refuse() noexcept {
    if (!PyErr_Occurred()) raise_corrupt("a dtype");
    return nullptr;
}

PyArray_Descr* unspell(const PoolPtr& pool, Form form, const unsigned char* data,
                       std::size_t n) noexcept {
    if (form == Form::pickled && pool->others_may_write) {
        raise_untrusted();
        return nullptr;
    }
    PyObject* source = form == Form::pickled
                           ? PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data),
                                                       static_cast<Py_ssize_t>(n))
                           : PyUnicode_DecodeASCII(reinterpret_cast<const char*>(data),
                                                   static_cast<Py_ssize_t>(n), nullptr);
    if (source == nullptr) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) PyErr_Clear();
        return refuse();
    }
    PyArray_Descr* dtype = nullptr;
    if (form == Form::pickled) {
        PyObject* object = plain_loads(source);
        if (object != nullptr && PyArray_DescrCheck(object)) {
            dtype = reinterpret_cast<PyArray_Descr*>(object);
        } else {
            Py_XDECREF(object);
        }
    } else if (PyArray_DescrConverter(source, &dtype) == NPY_FAIL) {
        dtype = nullptr;
        PyErr_Clear();
    }
    Py_DECREF(source);
    if (dtype == nullptr) return refuse();
    if (!can_share(dtype) || PyDataType_ELSIZE(dtype) <= 0) {
        Py_DECREF(dtype);
        return refuse();
    }
    return dtype;
}

}  // namespace

bool can_share(PyArray_Descr* dtype) noexcept {
    const int type = dtype->type_num;
    if (PyDataType_REFCHK(dtype) || type == NPY_OBJECT) return false;
    return (type >= 0 && type < NPY_NTYPES_LEGACY) || PyTypeNum_ISUSERDEF(type);
}

bool write_dtype(PyArray_Descr* dtype, Writer& to) noexcept {
    const int type = dtype->type_num;
    const bool native = PyArray_ISNBO(dtype->byteorder);
    const bool plain = PyDataType_ISLEGACY(dtype) && PyDataType_METADATA(dtype) == nullptr &&
                       !PyDataType_HASFIELDS(dtype) && !PyDataType_HASSUBARRAY(dtype);
    if (plain && is_number(type))
        return to.put(native ? Form::simple : Form::swapped) && to.put(static_cast<u8>(type));
    // V has a type of its own per dtype: a subclass of numpy.void (a record) must keep it.
    if (plain && is_sized(type) && native && dtype->typeobj != nullptr &&
        (type != NPY_VOID || dtype->typeobj == &PyVoidArrType_Type)) {
        return to.put(Form::sized) && to.put(static_cast<u8>(type)) &&
               to.put(static_cast<u32>(PyDataType_ELSIZE(dtype)));
    }
    auto* object = reinterpret_cast<PyObject*>(dtype);
    if (written.dtype != object || written.names != Remembered::names_of(dtype)) {
        const bool pickled = !plain || PyTypeNum_ISUSERDEF(type) || type == NPY_VOID;
        PyObject* bytes = spell(dtype, pickled);
        if (bytes == nullptr) return false;
        written.set(dtype, bytes);
        Py_DECREF(bytes);
    }
    return to.put(PyBytes_AS_STRING(written.bytes),
                  static_cast<std::size_t>(PyBytes_GET_SIZE(written.bytes)));
}

PyArray_Descr* read_dtype(const PoolPtr& pool, Reader& from) noexcept {
    u8 form_byte, small;
    if (!from.get(form_byte)) return refuse();
    const auto form = static_cast<Form>(form_byte);
    switch (form) {
        case Form::simple:
        case Form::swapped: {
            if (!from.get(small) || !is_number(small)) return refuse();
            PyArray_Descr* dtype = PyArray_DescrFromType(small);
            if (dtype == nullptr || form == Form::simple) return dtype;
            PyArray_Descr* other = PyArray_DescrNewByteorder(dtype, NPY_SWAP);
            Py_DECREF(dtype);
            return other;
        }
        case Form::sized: {
            u32 size;
            if (!from.get(small) || !is_sized(small) || !from.get(size) || size == 0 ||
                size > 0x7fffffff || (small == NPY_UNICODE && size % 4 != 0)) {
                return refuse();
            }
            PyArray_Descr* dtype = PyArray_DescrNewFromType(small);
            if (dtype != nullptr) PyDataType_SET_ELSIZE(dtype, static_cast<npy_intp>(size));
            return dtype;
        }
        case Form::spelled:
        case Form::pickled: {
            std::size_t n = 0;
            if (form == Form::spelled) {
                if (!from.get(small)) return refuse();
                n = small;
            } else {
                std::uint16_t length;
                if (!from.get(length)) return refuse();
                n = length;
            }
            const unsigned char* data = from.take(n);
            if (data == nullptr) return refuse();
            if (read.bytes != nullptr &&
                static_cast<std::size_t>(PyBytes_GET_SIZE(read.bytes)) == n + 1 &&
                PyBytes_AS_STRING(read.bytes)[0] == static_cast<char>(form) &&
                std::memcmp(PyBytes_AS_STRING(read.bytes) + 1, data, n) == 0 &&
                (form == Form::spelled || !pool->others_may_write)) {
                auto* dtype = reinterpret_cast<PyArray_Descr*>(read.dtype);
                if (Remembered::names_of(dtype) == nullptr)
                    return reinterpret_cast<PyArray_Descr*>(Py_NewRef(read.dtype));
                if (Remembered::names_of(dtype) == read.names)
                    return PyArray_DescrNew(dtype);  // each array may rename its own
            }
            PyArray_Descr* dtype = unspell(pool, form, data, n);
            if (dtype == nullptr) return nullptr;
            PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(n) + 1);
            if (bytes == nullptr) {
                Py_DECREF(dtype);
                return nullptr;
            }
            PyBytes_AS_STRING(bytes)[0] = static_cast<char>(form);
            std::memcpy(PyBytes_AS_STRING(bytes) + 1, data, n);
            read.set(dtype, bytes);
            Py_DECREF(bytes);
            return dtype;
        }
    }
    return refuse();
}

}  // namespace onecopy::py
