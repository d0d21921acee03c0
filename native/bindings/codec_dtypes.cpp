// The form of a dtype in a message.
//
//|  form       then                             for
//|  simple     u8 type number                   numbers in this machine's byte order
//|  swapped    u8 type number                   numbers in the other
//|  sized      u8 type number, u32 item size    S, V, and U in this machine's byte order
//|  spelled    u16 length, text: dtype.str      dates and times, U in the other byte order
//|  described  u16 length, text: dtype.descr    structured dtypes, where that says it all
//|  pickled    u16 length, a pickle             those with metadata, titles or alignment, and
//|                                              types that users define
#include "bindings/codec.hpp"
#include "bindings/errors.hpp"

namespace onecopy::py {
namespace {

enum class Form : u8 {
    simple = 0,
    swapped = 1,
    sized = 2,
    spelled = 3,
    described = 4,
    pickled = 5
};

constexpr bool is_number(int type) noexcept {
    return (type >= NPY_BOOL && type <= NPY_CLONGDOUBLE) || type == NPY_HALF;
}
constexpr bool is_sized(int type) noexcept {
    return type == NPY_STRING || type == NPY_UNICODE || type == NPY_VOID;
}

// The last dtype that took long to write, and to read: a queue mostly has the same ones.
struct Remembered {
    PyObject* dtype = nullptr;
    PyObject* names = nullptr;  // `dtype.names = …` changes a dtype in place
    PyObject* bytes = nullptr;  // form and what follows
    [[no_unique_address]] Attempt attempt;

    void set(PyArray_Descr* new_dtype, PyObject* new_bytes) noexcept {
        // The old ones are released last: their destructors may call this again.
        Attempt::Inside inside(attempt);
        if (!inside) return;
        PyObject* old_dtype =
            std::exchange(dtype, Py_NewRef(reinterpret_cast<PyObject*>(new_dtype)));
        PyObject* old_names = std::exchange(names, Py_XNewRef(names_of(new_dtype)));
        PyObject* old_bytes = std::exchange(bytes, Py_NewRef(new_bytes));
        inside.leave();
        Py_XDECREF(old_dtype);
        Py_XDECREF(old_names);
        Py_XDECREF(old_bytes);
    }
    // The bytes of a dtype, if it is the one here.
    Item find(PyArray_Descr* of) noexcept {
        const Attempt::Inside inside(attempt);
        return inside && dtype == reinterpret_cast<PyObject*>(of) && names == names_of(of)
                   ? kept_here(bytes)
                   : Item(nullptr);
    }
    // The dtype of these bytes, and whether it has names: a new reference, or nullptr.
    PyArray_Descr* find(u8 form, const unsigned char* data, std::uint16_t n,
                        bool& has_names) noexcept {
        const Attempt::Inside inside(attempt);
        if (!inside || bytes == nullptr || PyBytes_GET_SIZE(bytes) != Py_ssize_t{n} + 1 ||
            PyBytes_AS_STRING(bytes)[0] != static_cast<char>(form) ||
            std::memcmp(PyBytes_AS_STRING(bytes) + 1, data, n) != 0)
            return nullptr;
        auto* known = reinterpret_cast<PyArray_Descr*>(dtype);
        PyObject* now = names_of(known);
        has_names = now != nullptr;
        return has_names && now != names ? nullptr
                                         : reinterpret_cast<PyArray_Descr*>(Py_NewRef(dtype));
    }
    static PyObject* names_of(PyArray_Descr* d) noexcept {
        return PyDataType_ISLEGACY(d) ? PyDataType_NAMES(d) : nullptr;
    }
};
Remembered written, read;

// The bytes of a dtype, after its form and length; takes the reference to `data`
// (bytes or str; nullptr: an exception is set). New reference or nullptr.
PyObject* with_head(Form form, PyObject* data) noexcept {
    if (data == nullptr) return nullptr;
    Py_ssize_t n = 0;
    const char* from;
    if (PyBytes_Check(data)) {
        from = PyBytes_AS_STRING(data);
        n = PyBytes_GET_SIZE(data);
    } else {
        from = PyUnicode_AsUTF8AndSize(data, &n);
    }
    PyObject* result = from == nullptr ? nullptr : PyBytes_FromStringAndSize(nullptr, n + 3);
    if (result != nullptr) {
        char* to = PyBytes_AS_STRING(result);
        // A dtype of that length fits no message, and is refused for that.
        const auto length = static_cast<std::uint16_t>(n <= 0xffff ? n : 0xffff);
        to[0] = static_cast<char>(form);
        std::memcpy(to + 1, &length, 2);
        std::memcpy(to + 3, from, static_cast<std::size_t>(n));
    }
    Py_DECREF(data);
    return result;
}

// repr(dtype.descr) if it describes the dtype completely; else nullptr without an exception.
PyObject* describe(PyArray_Descr* dtype) noexcept {
    auto* object = reinterpret_cast<PyObject*>(dtype);
    PyObject* list = PyObject_GetAttrString(object, "descr");
    PyArray_Descr* again = nullptr;
    PyObject* text = nullptr;
    if (list != nullptr && PyArray_DescrConverter(list, &again) == NPY_SUCCEED &&
        again != nullptr &&
        PyObject_RichCompareBool(object, reinterpret_cast<PyObject*>(again), Py_EQ) == 1 &&
        PyDataType_FLAGS(dtype) == PyDataType_FLAGS(again) && dtype->typeobj == again->typeobj) {
        text = PyObject_Repr(list);
    }
    PyErr_Clear();
    Py_XDECREF(again);
    Py_XDECREF(list);
    return text;
}

PyObject* spell(PyArray_Descr* dtype) noexcept {
    auto* object = reinterpret_cast<PyObject*>(dtype);
    const int type = dtype->type_num;
    const bool bare = PyDataType_ISLEGACY(dtype) && PyDataType_METADATA(dtype) == nullptr;
    if (bare && (type == NPY_DATETIME || type == NPY_TIMEDELTA || type == NPY_UNICODE)) {
        return with_head(Form::spelled, PyObject_GetAttrString(object, "str"));
    }
    if (bare && PyDataType_HASFIELDS(dtype)) {
        if (PyObject* text = describe(dtype); text != nullptr) {
            return with_head(Form::described, text);
        }
    }
    return with_head(Form::pickled, plain_dumps(object));
}

// What `spell` gives, or gave for the same dtype. nullptr with an exception set.
Item spelled(PyArray_Descr* dtype) noexcept {
    Item known = written.find(dtype);
    if (known.get() != nullptr) return known;
    PyObject* bytes = spell(dtype);
    if (bytes == nullptr) return Item(nullptr);
    written.set(dtype, bytes);
    return also_cached(bytes);
}

// ast.literal_eval: constants and containers of constants; it runs no code.
PyObject* evaluate(PyObject* text) noexcept {
    static Kept kept;
    PyObject* literal_eval = kept.get();
    if (literal_eval == nullptr) {
        PyObject* module = PyImport_ImportModule("ast");
        if (module == nullptr) return nullptr;
        literal_eval = kept.keep(PyObject_GetAttrString(module, "literal_eval"));
        Py_DECREF(module);
        if (literal_eval == nullptr) return nullptr;
    }
    return PyObject_CallOneArg(literal_eval, text);
}

PyArray_Descr* refuse(const PoolPtr& pool) noexcept {
    if (!PyErr_Occurred()) raise_corrupt(pool, "a dtype");
    return nullptr;
}

PyArray_Descr* unspell(const PoolPtr& pool, Form form, const unsigned char* data,
                       std::size_t n) noexcept {
    const auto* text = reinterpret_cast<const char*>(data);
    const auto length = static_cast<Py_ssize_t>(n);
    PyArray_Descr* dtype = nullptr;
    if (form == Form::pickled) {
        if (pool->others_may_write) {
            raise_untrusted();
            return nullptr;
        }
        PyObject* bytes = PyBytes_FromStringAndSize(text, length);
        PyObject* object = bytes == nullptr ? nullptr : plain_loads(bytes);
        Py_XDECREF(bytes);
        if (object == nullptr) return nullptr;  // as for any pickle: its own exception
        if (!PyArray_DescrCheck(object)) {
            Py_DECREF(object);
            return refuse(pool);
        }
        dtype = reinterpret_cast<PyArray_Descr*>(object);
    } else {
        PyObject* source = PyUnicode_DecodeUTF8(text, length, nullptr);
        if (source != nullptr && form == Form::described) Py_SETREF(source, evaluate(source));
        if (source == nullptr || PyArray_DescrConverter(source, &dtype) == NPY_FAIL) {
            dtype = nullptr;
            PyErr_Clear();
        }
        Py_XDECREF(source);
        if (dtype == nullptr) return refuse(pool);
    }
    if (!can_share(dtype) || PyDataType_ELSIZE(dtype) <= 0) {
        Py_DECREF(dtype);
        return refuse(pool);
    }
    return dtype;
}

}  // namespace

bool is_pickled_dtype(u8 form) noexcept {
    return form == static_cast<u8>(Form::pickled);
}

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
    const Item bytes = spelled(dtype);
    return bytes.get() != nullptr &&
           to.put(PyBytes_AS_STRING(bytes.get()),
                  static_cast<std::size_t>(PyBytes_GET_SIZE(bytes.get())));
}

int goes_without_pickle(PyArray_Descr* dtype) noexcept {
    if (!can_share(dtype)) return 0;
    unsigned char few[16];
    Writer to(few, few + sizeof few);
    // Short forms fit. What does not fit is remembered.
    if (!write_dtype(dtype, to)) {
        if (PyErr_Occurred()) return -1;
        const Item bytes = spelled(dtype);
        if (bytes.get() == nullptr) return -1;
        few[0] = static_cast<unsigned char>(PyBytes_AS_STRING(bytes.get())[0]);
    }
    const u8 form = few[0];
    return form != static_cast<u8>(Form::pickled) ? 1 : 0;
}

PyArray_Descr* read_dtype(const PoolPtr& pool, Reader& from) noexcept {
    u8 form_byte, small;
    if (!from.get(form_byte)) return refuse(pool);
    const auto form = static_cast<Form>(form_byte);
    switch (form) {
        case Form::simple:
        case Form::swapped: {
            if (!from.get(small) || !is_number(small)) return refuse(pool);
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
                return refuse(pool);
            }
            PyArray_Descr* dtype = PyArray_DescrNewFromType(small);
            if (dtype != nullptr) PyDataType_SET_ELSIZE(dtype, static_cast<npy_intp>(size));
            return dtype;
        }
        case Form::spelled:
        case Form::described:
        case Form::pickled: {
            std::uint16_t n;
            if (!from.get(n)) return refuse(pool);
            const unsigned char* data = from.take(n);
            if (data == nullptr) return refuse(pool);
            if (form != Form::pickled || !pool->others_may_write) {
                bool has_names = false;
                PyArray_Descr* known = read.find(form_byte, data, n, has_names);
                if (known != nullptr && !has_names) return known;
                if (known != nullptr) {
                    PyArray_Descr* copy = PyArray_DescrNew(known);  // each array may rename its own
                    Py_DECREF(known);
                    return copy;
                }
            }
            PyArray_Descr* dtype = unspell(pool, form, data, n);
            if (dtype == nullptr) return nullptr;
            PyObject* bytes = PyBytes_FromStringAndSize(nullptr, Py_ssize_t{n} + 1);
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
    return refuse(pool);
}

}  // namespace onecopy::py
