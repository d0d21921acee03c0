// Reads packed messages. Other processes wrote them, so every count, place and kind is checked
// before it is used. The size of the message bounds the time and memory.
#include "bindings/codec_buffers.hpp"
#include "bindings/codec_packed.hpp"
#include "bindings/codec_scalar_types.hpp"

#include "bindings/errors.hpp"
#include <numpy/arrayscalars.h>

namespace onecopy::py {
namespace {

// Keys of dicts repeat. A str cannot change, so several messages may share one.
struct KnownKey {
    u64 head = 0;  // its first eight bytes
    std::size_t length = 0;
    PyObject* text = nullptr;
    [[no_unique_address]] Attempt attempt;
};
constexpr std::size_t kKnownKeys = 512;  // the number of values of a hash: its upper 9 bits
constexpr u64 kLongestKnownKey = 32;
KnownKey known_keys[kKnownKeys];

// Up to eight bytes of `n`; at most `left` bytes may be read.
u64 head_of(const unsigned char* data, std::size_t n, std::size_t left) noexcept {
    u64 head = 0;
    if (left >= 8) {
        std::memcpy(&head, data, 8);
        return n >= 8 ? head : head & ((u64{1} << 8 * n) - 1);
    }
    std::memcpy(&head, data, n < 8 ? n : 8);
    return head;
}

// `n` is not 0. `left`: the number of bytes from `data` on.
PyObject* key_text(const unsigned char* data, std::size_t n, std::size_t left) noexcept {
    const u64 head = head_of(data, n, left);
    u64 mixed = (head ^ n << 56) * 0x9e3779b97f4a7c15;
    if (n > 8) {
        u64 tail;
        std::memcpy(&tail, data + n - 8, 8);
        mixed = (mixed ^ mixed >> 29 ^ tail) * 0xff51afd7ed558ccd;
    }
    KnownKey& known = known_keys[mixed >> 55];
    {
        const Attempt::Inside inside(known.attempt);
        if (inside && known.length == n && known.head == head &&
            (n <= 8 || std::memcmp(PyUnicode_1BYTE_DATA(known.text), data, n) == 0))
            return Py_NewRef(known.text);
    }
    PyObject* text =
        PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, data, static_cast<Py_ssize_t>(n));
    // The hash too: the str keeps it.
    if (text != nullptr && PyObject_Hash(text) != -1) {
        PyObject* before = nullptr;
        if (const Attempt::Inside inside(known.attempt); inside) {
            known.head = head;
            known.length = n;
            before = std::exchange(known.text, Py_NewRef(text));
        }
        Py_XDECREF(before);
    }
    return text;
}

bool cannot_be_key(PyObject* object) noexcept {
    return PyList_CheckExact(object) || PyDict_CheckExact(object) ||
           Py_TYPE(object) == &PySet_Type || PyByteArray_CheckExact(object) ||
           PyArray_Check(object);
}

// Room for this many keys is allocated at once. Each key takes at least two bytes of the message.
PyObject* new_dict(u64 keys) noexcept {
#if PY_VERSION_HEX < 0x030d0000
    if (keys > 5) return _PyDict_NewPresized(static_cast<Py_ssize_t>(keys));
#endif
    return PyDict_New();
}

}  // namespace

Unpacker::~Unpacker() {
    for (PyObject* part : parts_)
        Py_XDECREF(part);
    for (const Met& met : met_)
        Py_XDECREF(met.object);
    for (const Known& known : classes_) {
        Py_DECREF(known.type);
        Py_XDECREF(known.slots);
    }
    for (PyObject* zone : zones_)
        Py_DECREF(zone);
}

PyObject* Unpacker::wrong() noexcept {
    return raise_corrupt(pool_, "a packed message");
}

bool Unpacker::get_count(u64& out) noexcept {
    u8 first;
    if (!from_.get(first)) return false;
    if (first < 254) {
        out = first;
        return true;
    }
    if (first == 255) return from_.get(out);
    u32 middle;
    if (!from_.get(middle)) return false;
    out = middle;
    return true;
}

// ---- parts --------------------------------------------------------------------------------------

PyObject* Unpacker::read_array_inside() noexcept {
    PyArray_Descr* dtype = read_dtype(pool_, from_);
    if (dtype == nullptr) return nullptr;
    u8 ndim, order;
    npy_intp shape[kMaxDims];
    std::int64_t bytes = 0;
    const unsigned char* data = nullptr;
    bool sound = from_.get(ndim) && from_.get(order) && ndim <= kMaxDims && order <= 1;
    if (sound) {
        data = from_.take(8 * std::size_t{ndim});
        sound = data != nullptr;
    }
    if (sound) {
        std::memcpy(shape, data, 8 * std::size_t{ndim});
        sound = total(ndim, shape, PyDataType_ELSIZE(dtype), bytes);
    }
    if (sound) {
        data = from_.take(static_cast<std::size_t>(bytes));
        sound = data != nullptr && !PyDataType_HASSUBARRAY(dtype);
    }
    if (!sound) {
        Py_DECREF(dtype);
        return wrong();
    }
    PyObject* array = PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, shape, nullptr, nullptr,
                                           order == 1 ? NPY_ARRAY_F_CONTIGUOUS : 0, nullptr);
    if (array == nullptr) {
        if (!PyErr_ExceptionMatches(PyExc_ValueError)) return nullptr;
        PyErr_Clear();  // a shape that no array can have
        return wrong();
    }
    if (bytes != 0)
        std::memcpy(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)), data,
                    static_cast<std::size_t>(bytes));
    return array;
}

bool Unpacker::read_parts(u64 count) noexcept {
    for (u64 i = 0; i < count; ++i) {
        u8 kind;
        if (!from_.get(kind)) return wrong() != nullptr;
        PyObject* part = nullptr;
        u32 number;
        switch (static_cast<PartKind>(kind)) {
            case PartKind::in_child:
            case PartKind::shared: {
                if (!from_.get(number)) return wrong() != nullptr;
                Held block;
                if (children_.cells != nullptr) {
                    if (number >= children_.count) return wrong() != nullptr;
                    const Handle child = children_.cells[number].load_acquire();  // [block.cell]
                    if (hold(pool_->core(), child) == Status::ok)
                        block = Held(pool_, handle_index(child));
                } else if (number == 0 && children_.one) {
                    // The only part takes what the message has.
                    block = count == 1 ? std::move(children_.one) : children_.one.again();
                }
                // Without a block, `decode_array` refuses all arrays but empty ones.
                part = static_cast<PartKind>(kind) == PartKind::shared
                           ? decode_shared_array(pool_, from_, std::move(block))
                           : decode_array(pool_, from_, std::move(block), how_);
                break;
            }
            case PartKind::inside:
                part = read_array_inside();
                break;
            case PartKind::pickled:
                if (!from_.get(number)) return wrong() != nullptr;
                if (!pickled_.add(static_cast<u32>(i)) || !pickled_.add(number)) return false;
                if (!parts_.add(nullptr)) return false;
                continue;
            case PartKind::standard:
                part = read_standard();
                break;
            default:
                return wrong() != nullptr;
        }
        if (part == nullptr) return false;
        if (!parts_.add(part)) {
            Py_DECREF(part);
            return false;
        }
    }
    return true;
}

bool Unpacker::load_rest(u64 bytes, PyObject* buffers) noexcept {
    if ((flags_ & kHasPickle) == 0) {
        Py_XDECREF(buffers);
        if (bytes != 0 || pickled_.size() != 0) return wrong() != nullptr;
        return true;
    }
    const unsigned char* data =
        bytes <= from_.left() ? from_.take(static_cast<std::size_t>(bytes)) : nullptr;
    if (data == nullptr) {
        Py_XDECREF(buffers);
        return wrong() != nullptr;
    }
    if (buffers == nullptr && (buffers = PyList_New(0)) == nullptr) return false;
    // In a block, pickle reads it where it is.
    PyObject* pickle =
        children_.whole_at == nullptr
            ? PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data),
                                        static_cast<Py_ssize_t>(bytes))
            : part(children_.whole.again(), static_cast<u64>(data - children_.whole_at), bytes);
    PyObject* rest = rebuild(pickle, buffers, how_);
    if (rest == nullptr) return false;
    bool sound = PyList_CheckExact(rest);
    for (std::size_t i = 0; sound && i < pickled_.size(); i += 2) {
        sound = pickled_[i + 1] < static_cast<u64>(PyList_GET_SIZE(rest));
        if (sound) parts_[pickled_[i]] = Py_NewRef(PyList_GET_ITEM(rest, pickled_[i + 1]));
    }
    Py_DECREF(rest);
    return sound || wrong() != nullptr;
}

PyObject* Unpacker::unpack(PyObject* buffers) noexcept {
    u64 parts, pickle;
    if (!get_count(parts) || !get_count(pickle) || parts > from_.left()) {
        Py_XDECREF(buffers);
        return wrong();
    }
    if (!read_parts(parts)) {
        Py_XDECREF(buffers);
        return nullptr;
    }
    if (!load_rest(pickle, buffers)) return nullptr;
    first_ = from_.take(0);
    elements_left_ = from_.left();
    return read(0, false);
}

// ---- objects that are met again -----------------------------------------------------------------

bool Unpacker::reserve(u64 where, std::size_t& at) noexcept {
    at = met_.size();
    return met_.add({where, nullptr, false});
}

bool Unpacker::note(u64 where, PyObject* object, bool open) noexcept {
    if (!met_.add({where, object, open})) return false;
    Py_INCREF(object);
    return true;
}

PyObject* Unpacker::read_again(bool in_key) noexcept {
    u64 where;
    if (!get_count(where)) return wrong();
    std::size_t low = 0, high = met_.size();  // they are in the order of their places
    while (low < high) {
        const std::size_t middle = (low + high) / 2;
        if (met_[middle].where < where) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == met_.size() || met_[low].where != where || met_[low].object == nullptr)
        return wrong();
    PyObject* object = met_[low].object;
    // To hash an object that contains itself would never end.
    if (in_key && (met_[low].open || cannot_be_key(object) || !is_bounded_key(object)))
        return wrong();
    return Py_NewRef(object);
}

PyObject* Unpacker::read_part(bool in_key) noexcept {
    u64 number;
    if (!get_count(number) || number >= parts_.size()) return wrong();
    PyObject* part = parts_[number];
    if (part == nullptr || (in_key && PyArray_CheckExact(part))) return wrong();
    return Py_NewRef(part);
}

// ---- values -------------------------------------------------------------------------------------

PyObject* Unpacker::read_big_int() noexcept {
    u64 n;
    const unsigned char* data =
        get_count(n) && n <= from_.left() ? from_.take(static_cast<std::size_t>(n)) : nullptr;
    return data == nullptr ? wrong()
                           : _PyLong_FromByteArray(data, static_cast<std::size_t>(n), 1, 1);
}

// A text of Latin-1 whose length is known.
PyObject* Unpacker::read_latin1(std::size_t n, bool in_key) noexcept {
    if (n > from_.left()) return wrong();
    const unsigned char* data = from_.take(n);
    if (in_key && n <= kLongestKnownKey && n != 0) return key_text(data, n, n + from_.left());
    return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, data, static_cast<Py_ssize_t>(n));
}

PyObject* Unpacker::read_text(u8 width, bool in_key) noexcept {
    u64 n;
    if (!get_count(n) || n > from_.left() / width) return wrong();
    if (width == 1) return read_latin1(static_cast<std::size_t>(n), in_key);
    const auto bytes = static_cast<std::size_t>(n) * width;
    const unsigned char* data = from_.take(bytes);
    alignas(4) unsigned char few[256];
    auto* aligned = few;
    if (bytes > sizeof few &&
        (aligned = static_cast<unsigned char*>(PyMem_Malloc(bytes))) == nullptr)
        return PyErr_NoMemory();
    std::memcpy(aligned, data, bytes);
    PyObject* text = PyUnicode_FromKindAndData(width, aligned, static_cast<Py_ssize_t>(n));
    if (aligned != few) PyMem_Free(aligned);
    if (text == nullptr && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();  // a number that is not a character
        return wrong();
    }
    return text;
}

PyObject* Unpacker::read_bytes(bool array) noexcept {
    u64 n;
    const unsigned char* data =
        get_count(n) && n <= from_.left() ? from_.take(static_cast<std::size_t>(n)) : nullptr;
    if (data == nullptr) return wrong();
    const auto length = static_cast<Py_ssize_t>(n);
    PyObject* made = array ? PyByteArray_FromStringAndSize(nullptr, length)
                           : PyBytes_FromStringAndSize(nullptr, length);
    if (made != nullptr && n != 0)
        copy_out_of_pool(array ? PyByteArray_AS_STRING(made) : PyBytes_AS_STRING(made), data, n);
    return made;
}

PyObject* Unpacker::read_scalar() noexcept {
    u8 number;
    if (!from_.get(number) || !is_number_type(number)) return wrong();
    const unsigned char* data = from_.take(size_of_scalar(number));
    if (data == nullptr) return wrong();
    alignas(16) unsigned char value[kLongestScalar];
    std::memcpy(value, data, size_of_scalar(number));
    PyArray_Descr* dtype = PyArray_DescrFromType(number);
    if (dtype == nullptr) return nullptr;
    PyObject* scalar = PyArray_Scalar(value, dtype, nullptr);
    Py_DECREF(dtype);
    return scalar;
}

PyObject* Unpacker::read_moment() noexcept {
    u8 number, unit;
    u32 multiple;
    std::int64_t value;
    if (!from_.get(number) || !from_.get(unit) || !from_.get(multiple) || !from_.get(value) ||
        (number != NPY_DATETIME && number != NPY_TIMEDELTA) || unit > NPY_FR_GENERIC || unit == 3 ||
        multiple == 0 || multiple > 0x7fffffff)
        return wrong();
    // numpy makes no other datetime64 without a unit, and cannot print one.
    if (number == NPY_DATETIME && unit == NPY_FR_GENERIC && value != NPY_DATETIME_NAT)
        return wrong();
    PyArray_Descr* dtype = PyArray_DescrNewFromType(number);
    if (dtype == nullptr) return nullptr;
    auto* meta = reinterpret_cast<PyArray_DatetimeDTypeMetaData*>(PyDataType_C_METADATA(dtype));
    meta->meta.base = static_cast<NPY_DATETIMEUNIT>(unit);
    meta->meta.num = static_cast<int>(multiple);
    PyObject* scalar = PyArray_Scalar(&value, dtype, nullptr);
    Py_DECREF(dtype);
    return scalar;
}

// ---- containers ---------------------------------------------------------------------------------

// The number of elements that follow. Each takes at least one byte, and no two containers share
// one. So all containers together have at most as many elements as the message has bytes.
bool Unpacker::get_elements(u64& n, unsigned each) noexcept {
    if (!get_count(n) || n > elements_left_ / each) return false;
    elements_left_ -= n * each;
    return true;
}

PyObject* Unpacker::read_tuple(u64 where, bool shared, int depth, bool in_key) noexcept {
    u64 n;
    if (!get_elements(n, 1)) return wrong();
    PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(n));
    if (tuple == nullptr) return nullptr;
    // A tuple that contains itself has no empty places: code that reads one would crash.
    for (u64 i = 0; shared && i < n; ++i)
        PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), Py_NewRef(Py_None));
    const std::size_t at = met_.size();
    if (shared && !note(where, tuple, true)) {
        Py_DECREF(tuple);
        return nullptr;
    }
    for (u64 i = 0; i < n; ++i) {
        PyObject* item = read(depth + 1, in_key);
        if (item == nullptr) {
            Py_DECREF(tuple);
            return nullptr;
        }
        if (shared) Py_DECREF(Py_None);
        PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), item);
    }
    if (shared) met_[at].open = false;
    return tuple;
}

PyObject* Unpacker::read_list(u64 where, bool shared, int depth) noexcept {
    u64 n;
    if (!get_elements(n, 1)) return wrong();
    // A list that contains itself grows: no code sees an empty place.
    PyObject* list = PyList_New(shared ? 0 : static_cast<Py_ssize_t>(n));
    if (list == nullptr) return nullptr;
    bool sound = !shared || note(where, list);
    for (u64 i = 0; sound && i < n; ++i) {
        PyObject* item = read(depth + 1, false);
        if (item == nullptr) {
            sound = false;
        } else if (shared) {
            sound = PyList_Append(list, item) == 0;
            Py_DECREF(item);
        } else {
            PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), item);
        }
    }
    if (!sound) Py_CLEAR(list);
    return list;
}

// An exception that a key raised. If no code of an object ran, the message is damaged.
PyObject* Unpacker::refuse_key() noexcept {
    if (PyErr_ExceptionMatches(PyExc_MemoryError)) return nullptr;
    if (flags_ != 0) {
        explain();
        return nullptr;
    }
    PyErr_Clear();
    return wrong();
}

bool Unpacker::fill_dict(PyObject* dict, u64 pairs, int depth) noexcept {
    for (u64 i = 0; i < pairs; ++i) {
        PyObject* key = read(depth + 1, true);
        PyObject* value = key == nullptr ? nullptr : read(depth + 1, false);
        const bool set = value != nullptr && PyDict_SetItem(dict, key, value) == 0;
        if (!set && value != nullptr) refuse_key();
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (!set) return false;
    }
    return true;
}

PyObject* Unpacker::read_dict(u64 where, bool shared, int depth) noexcept {
    u64 n;
    if (!get_elements(n, 2)) return wrong();
    PyObject* dict = new_dict(n);
    if (dict != nullptr && ((shared && !note(where, dict)) || !fill_dict(dict, n, depth)))
        Py_CLEAR(dict);
    return dict;
}

PyObject* Unpacker::read_set(Node node, u64 where, bool shared, int depth) noexcept {
    u64 n;
    if (!get_elements(n, 1)) return wrong();
    PyObject* set = node == Node::set ? PySet_New(nullptr) : PyFrozenSet_New(nullptr);
    if (set == nullptr) return nullptr;
    std::size_t at = 0;
    bool sound = true;
    if (shared) sound = node == Node::set ? note(where, set) : reserve(where, at);
    for (u64 i = 0; sound && i < n; ++i) {
        PyObject* item = read(depth + 1, true);
        sound = item != nullptr && PySet_Add(set, item) == 0;
        if (!sound && item != nullptr) refuse_key();
        Py_XDECREF(item);
    }
    if (!sound) {
        Py_CLEAR(set);
    } else if (shared && node == Node::frozen_set) {
        met_[at].object = Py_NewRef(set);
    }
    return set;
}

PyObject* Unpacker::read(int depth, bool in_key) noexcept {
    const auto where = static_cast<u64>(from_.take(0) - first_);
    u8 byte;
    if (!from_.get(byte)) return wrong();
    const bool shared = (byte & kShared) != 0;
    const auto node = static_cast<Node>(byte & static_cast<u8>(~kShared));
    PyObject* made;
    if (node >= Node::short_text) {
        if (shared) return wrong();
        const int rest = byte & (kShort - 1);
        return node >= Node::short_int ? PyLong_FromLong(rest)
                                       : read_latin1(static_cast<std::size_t>(rest), in_key);
    }
    switch (node) {
        case Node::none:
            return shared ? wrong() : Py_NewRef(Py_None);
        case Node::yes:
            return shared ? wrong() : Py_NewRef(Py_True);
        case Node::no:
            return shared ? wrong() : Py_NewRef(Py_False);
        case Node::int8: {
            std::int8_t value;
            return !shared && from_.get(value) ? PyLong_FromLong(value) : wrong();
        }
        case Node::int32: {
            std::int32_t value;
            return !shared && from_.get(value) ? PyLong_FromLong(value) : wrong();
        }
        case Node::int64: {
            std::int64_t value;
            return !shared && from_.get(value) ? PyLong_FromLongLong(value) : wrong();
        }
        case Node::big_int:
            return shared ? wrong() : read_big_int();
        case Node::real: {
            double value;
            return !shared && from_.get(value) ? PyFloat_FromDouble(value) : wrong();
        }
        case Node::complex: {
            Py_complex value;
            return !shared && from_.get(value.real) && from_.get(value.imag)
                       ? PyComplex_FromCComplex(value)
                       : wrong();
        }
        case Node::part:
            return shared ? wrong() : read_part(in_key);
        case Node::again:
            return shared ? wrong() : read_again(in_key);
        case Node::scalar:
            return shared ? wrong() : read_scalar();
        case Node::moment:
            return shared ? wrong() : read_moment();
        case Node::plain:
        case Node::named:
        case Node::member:
        case Node::slotted:
        case Node::frozen:
        case Node::called:
        case Node::called_by_name:
            return read_of_class(node, where, shared, depth);
        case Node::built:
            return read_built(where, shared, depth);
        case Node::latin1:
            made = read_text(1, in_key);
            break;
        case Node::ucs2:
            made = read_text(2, in_key);
            break;
        case Node::ucs4:
            made = read_text(4, in_key);
            break;
        case Node::bytes:
            made = read_bytes(false);
            break;
        case Node::byte_array:
            made = in_key ? wrong() : read_bytes(true);
            break;
        case Node::tuple:
            return depth >= kDeepest ? wrong() : read_tuple(where, shared, depth, in_key);
        case Node::list:
            return depth >= kDeepest || in_key ? wrong() : read_list(where, shared, depth);
        case Node::dict:
            return depth >= kDeepest || in_key ? wrong() : read_dict(where, shared, depth);
        case Node::set:
            return depth >= kDeepest || in_key ? wrong() : read_set(node, where, shared, depth);
        case Node::frozen_set:
            return depth >= kDeepest ? wrong() : read_set(node, where, shared, depth);
        default:
            return wrong();
    }
    if (made != nullptr && shared && !note(where, made)) Py_CLEAR(made);
    return made;
}

}  // namespace onecopy::py
