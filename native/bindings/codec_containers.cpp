// The walk over an object that is being packed. It runs no Python code, keeps the GIL, and turns
// the garbage collector off. So no object changes while it is written. Without the GIL, it walks
// over copies of what other threads may change (Stills).
#include "bindings/codec_packed.hpp"
#include "bindings/codec_scalar_types.hpp"

#include <numpy/arrayscalars.h>

namespace onecopy::py {
bool Bytes::grow(std::size_t n) noexcept {
    const std::size_t used = size();
    std::size_t room = 2 * static_cast<std::size_t>(end_ - begin_);
    if (room < used + n) room = used + n;
    auto* more = static_cast<unsigned char*>(begin_ == small_ ? PyMem_Malloc(room)
                                                              : PyMem_Realloc(begin_, room));
    if (more == nullptr) {
        PyErr_NoMemory();
        return false;
    }
    if (begin_ == small_) std::memcpy(more, small_, used);
    begin_ = more;
    at_ = more + used;
    end_ = more + room;
    return true;
}

// ---- the memo -----------------------------------------------------------------------------------

std::size_t Memo::slot_of(PyObject* object) const noexcept {
    auto mixed = static_cast<u64>(reinterpret_cast<std::uintptr_t>(object)) >> 4;
    mixed *= 0x9e3779b97f4a7c15;
    std::size_t at = static_cast<std::size_t>(mixed >> 20) & mask_;
    while (slots_[at] != 0 && seen_[slots_[at] - 1].object != object)
        at = (at + 1) & mask_;
    return at;
}

bool Memo::arrange() noexcept {
    const std::size_t count = slots_ == nullptr ? 8 * kLinear : 2 * (mask_ + 1);
    std::size_t size = 64;
    while (size < count)
        size *= 2;
    auto* slots = static_cast<u32*>(PyMem_Calloc(size, sizeof(u32)));
    if (slots == nullptr) {
        PyErr_NoMemory();
        return false;
    }
    PyMem_Free(slots_);
    slots_ = slots;
    mask_ = size - 1;
    for (std::size_t i = 0; i < seen_.size(); ++i)
        slots_[slot_of(seen_[i].object)] = static_cast<u32>(i + 1);
    return true;
}

u64 Memo::meet(PyObject* object, u64 where) noexcept {
    if (slots_ == nullptr) {
        for (const Seen& seen : seen_) {
            if (seen.object == object) return seen.where;
        }
        if (seen_.size() == kLinear && !arrange()) return kFailed;
    }
    if (slots_ == nullptr) return seen_.add({object, where}) ? kNew : kFailed;
    if (2 * seen_.size() > mask_ && !arrange()) return kFailed;
    const std::size_t at = slot_of(object);
    if (slots_[at] != 0) return seen_[slots_[at] - 1].where;
    if (seen_.size() >= 0xfffffffe || !seen_.add({object, where})) {
        if (!PyErr_Occurred()) PyErr_NoMemory();
        return kFailed;
    }
    slots_[at] = static_cast<u32>(seen_.size());
    return kNew;
}

// ---- keys ---------------------------------------------------------------------------------------

namespace {

template <class Act>  // Act: bool(PyObject*)
bool each_of_set(PyObject* object, Act act) noexcept {
    const auto* set = reinterpret_cast<const PySetObject*>(object);
    for (Py_ssize_t i = 0; i <= set->mask; ++i) {
        const setentry& entry = set->table[i];
        // A removed entry has the hash -1, which no key has.
        if (entry.key != nullptr && entry.hash != -1 && !act(entry.key)) return false;
    }
    return true;
}

bool is_bounded(PyObject* object, int& left, int depth) noexcept {
    if (--left < 0 || depth > 64) return false;
    if (PyTuple_CheckExact(object)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i) {
            if (!is_bounded(PyTuple_GET_ITEM(object, i), left, depth + 1)) return false;
        }
    } else if (PyFrozenSet_CheckExact(object)) {
        return each_of_set(object,
                           [&](PyObject* item) { return is_bounded(item, left, depth + 1); });
    }
    return true;
}

}  // namespace

bool is_bounded_key(PyObject* object) noexcept {
    int left = 4096;
    return is_bounded(object, left, 0);
}

// ---- values -------------------------------------------------------------------------------------

bool Packer::write_int(PyObject* object) noexcept {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow != 0) return write_big_int(object);
    if (!nodes_.room(9)) return false;
    if (value >= 0 && value < kShort) {
        nodes_.byte(static_cast<u8>(static_cast<u8>(Node::short_int) + value));
    } else if (value >= INT8_MIN && value <= INT8_MAX) {
        nodes_.node(Node::int8);
        nodes_.value(static_cast<std::int8_t>(value));
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
        nodes_.node(Node::int32);
        nodes_.value(static_cast<std::int32_t>(value));
    } else {
        nodes_.node(Node::int64);
        nodes_.value(static_cast<std::int64_t>(value));
    }
    return true;
}

bool Packer::write_big_int(PyObject* object) noexcept {
    PyObject* bits = PyObject_CallMethod(object, "bit_length", nullptr);
    const std::size_t n = bits == nullptr ? 0 : PyLong_AsSize_t(bits) / 8 + 1;
    Py_XDECREF(bits);
    if (PyErr_Occurred()) return false;
    if (!nodes_.room(1 + kCountBytes + n)) return false;
    nodes_.node(Node::big_int);
    nodes_.count(n);
    Writer to = nodes_.writer();
#if PY_VERSION_HEX >= 0x030d0000
    if (_PyLong_AsByteArray(reinterpret_cast<PyLongObject*>(object), to.at(), n, 1, 1, 1) != 0)
        return false;
#else
    if (_PyLong_AsByteArray(reinterpret_cast<PyLongObject*>(object), to.at(), n, 1, 1) != 0)
        return false;
#endif
    nodes_.advance_to(to.at() + n);
    return true;
}

bool Packer::write_run(Node node, const char* from, Py_ssize_t n) noexcept {
    if (!nodes_.room(1 + kCountBytes + static_cast<std::size_t>(n))) return false;
    nodes_.node(node);
    nodes_.count(static_cast<u64>(n));
    nodes_.run(from, static_cast<std::size_t>(n));
    return true;
}

bool Packer::write_text(PyObject* object) noexcept {
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(object) != 0) return false;
#endif
    const Py_ssize_t n = PyUnicode_GET_LENGTH(object);
    const auto width = static_cast<Py_ssize_t>(PyUnicode_KIND(object));
    if (width == 1 && n < kShort) {
        if (!nodes_.room(1 + kShort)) return false;
        nodes_.byte(static_cast<u8>(static_cast<u8>(Node::short_text) + n));
        nodes_.run(PyUnicode_DATA(object), static_cast<std::size_t>(n));
        return true;
    }
    if (n * width > kValueBytes && !is_met_once(object)) {
        const u64 met = memo_.meet(object, nodes_.size());
        if (met == Memo::kFailed) return false;
        if (met != Memo::kNew) return write_again(object, met, false);
    }
    if (!nodes_.room(1 + kCountBytes + static_cast<std::size_t>(n * width))) return false;
    nodes_.node(width == 1 ? Node::latin1 : width == 2 ? Node::ucs2 : Node::ucs4);
    nodes_.count(static_cast<u64>(n));
    nodes_.run(PyUnicode_DATA(object), static_cast<std::size_t>(n * width));
    return true;
}

bool Packer::write_bytes(PyObject* object) noexcept {
    const Py_ssize_t n = PyBytes_GET_SIZE(object);
    if (n > kValueBytes && !is_met_once(object)) {
        const u64 met = memo_.meet(object, nodes_.size());
        if (met == Memo::kFailed) return false;
        if (met != Memo::kNew) return write_again(object, met, false);
    }
    return write_run(Node::bytes, PyBytes_AS_STRING(object), n);
}

Done Packer::write_scalar(PyObject* object) noexcept {
    PyTypeObject* type = Py_TYPE(object);
    if (const int number = number_of_scalar(type); number >= 0) {
        if (!nodes_.room(2 + kLongestScalar)) return Done::failed;
        nodes_.node(Node::scalar);
        nodes_.byte(static_cast<u8>(number));
        Writer to = nodes_.writer();
        std::memset(to.at(), 0, kLongestScalar);
        PyArray_ScalarAsCtype(object, to.at());
        nodes_.advance_to(to.at() + size_of_scalar(number));
        return Done::yes;
    }
    if (type != &PyDatetimeArrType_Type && type != &PyTimedeltaArrType_Type) return Done::no;
    // Both have the same members.
    const auto* moment = reinterpret_cast<const PyDatetimeScalarObject*>(object);
    if (!nodes_.room(15)) return Done::failed;
    nodes_.node(Node::moment);
    nodes_.byte(type == &PyDatetimeArrType_Type ? NPY_DATETIME : NPY_TIMEDELTA);
    nodes_.byte(static_cast<u8>(moment->obmeta.base));
    nodes_.value(static_cast<u32>(moment->obmeta.num));
    nodes_.value(static_cast<std::int64_t>(moment->obval));
    return Done::yes;
}

// ---- containers ---------------------------------------------------------------------------------

bool Packer::write_again(PyObject* object, u64 where, bool in_key) noexcept {
    if ((where & kPartOfMemo) != 0) return write_part(where & ~kPartOfMemo);
    if (in_key && !is_bounded_key(object)) return go_whole();
    if (!nodes_.room(1 + kCountBytes)) return false;
    nodes_.node(Node::again);
    nodes_.count(where);
    nodes_.data()[where] |= kShared;
    return true;
}

bool Packer::write_part(u64 index) noexcept {
    if (!nodes_.room(1 + kCountBytes)) return false;
    nodes_.node(Node::part);
    nodes_.count(index);
    return true;
}

bool Packer::add_part(PyObject* object) noexcept {
    const std::size_t index = objects_.size();
    if (!objects_.add({object})) return false;
    Py_INCREF(object);
    return write_part(index);
}

bool Packer::write_dict(PyObject* object, int depth) noexcept {
    PyObject* dict = stills_.of(object);
    if (dict == nullptr || !nodes_.room(1 + kCountBytes)) return false;
    nodes_.node(Node::dict);
    nodes_.count(static_cast<u64>(PyDict_GET_SIZE(dict)));
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (!write(key, depth + 1, true) || !write(value, depth + 1, false)) return false;
    }
    return true;
}

bool Packer::write_set(Node node, PyObject* object, int depth) noexcept {
    PyObject* set = node == Node::set ? stills_.of(object) : object;
    if (set == nullptr || !nodes_.room(1 + kCountBytes)) return false;
    nodes_.node(node);
    nodes_.count(static_cast<u64>(PySet_GET_SIZE(set)));
    return each_of_set(set, [&](PyObject* item) { return write(item, depth + 1, true); });
}

bool Packer::write(PyObject* object, int depth, bool in_key) noexcept {
    PyTypeObject* type = Py_TYPE(object);
    if (type == &PyUnicode_Type) return write_text(object);
    if (type == &PyLong_Type) return write_int(object);
    if (type == &PyFloat_Type) {
        if (!nodes_.room(9)) return false;
        nodes_.node(Node::real);
        nodes_.value(PyFloat_AS_DOUBLE(object));
        return true;
    }
    if (object == Py_None || type == &PyBool_Type) {
        if (!nodes_.room(1)) return false;
        nodes_.node(object == Py_None ? Node::none : object == Py_True ? Node::yes : Node::no);
        return true;
    }
    if (type == &PyBytes_Type) return write_bytes(object);
    if (type == &PyComplex_Type) {
        if (!nodes_.room(17)) return false;
        const Py_complex value = PyComplex_AsCComplex(object);
        nodes_.node(Node::complex);
        nodes_.value(value.real);
        nodes_.value(value.imag);
        return true;
    }
    const bool is_container = type == &PyDict_Type || type == &PyList_Type ||
                              type == &PyTuple_Type || type == &PySet_Type ||
                              type == &PyFrozenSet_Type;
    const bool is_array = type == &PyArray_Type || type == hooks.shared_array;
    if (!is_container && type != &PyByteArray_Type && !is_array) {
        const Done done = write_scalar(object);
        if (done != Done::no) return done == Done::yes;
    }
    if (is_container && depth >= kDeepest) return go_whole();
    if (type == &PyTuple_Type && PyTuple_GET_SIZE(object) == 0) {
        return write_run(Node::tuple, nullptr, 0);
    }
    const bool is_node = is_container || type == &PyByteArray_Type;
    if (!is_node && !is_array) {
        const Done done = write_of_class(object, depth);
        if (done != Done::no) return done == Done::yes;
    }
    if (!is_met_once(object)) {
        const u64 met =
            memo_.meet(object, is_node ? u64{nodes_.size()} : kPartOfMemo | u64{objects_.size()});
        if (met == Memo::kFailed) return false;
        if (met != Memo::kNew) return write_again(object, met, in_key);
    }
    if (type == &PyDict_Type) return write_dict(object, depth);
    if (type == &PyList_Type || type == &PyTuple_Type) {
        if constexpr (Stills::kCopies) {
            object = stills_.of(object);  // a tuple
            if (object == nullptr) return false;
        }
        const Py_ssize_t n = Py_SIZE(object);
        if (!nodes_.room(1 + kCountBytes)) return false;
        nodes_.node(type == &PyList_Type ? Node::list : Node::tuple);
        nodes_.count(static_cast<u64>(n));
        PyObject** items = type == &PyList_Type && !Stills::kCopies
                               ? reinterpret_cast<PyListObject*>(object)->ob_item
                               : reinterpret_cast<PyTupleObject*>(object)->ob_item;
        const bool key = in_key && type == &PyTuple_Type;
        for (Py_ssize_t i = 0; i < n; ++i) {
            if (!write(items[i], depth + 1, key)) return false;
        }
        return true;
    }
    if (type == &PySet_Type) return write_set(Node::set, object, depth);
    if (type == &PyFrozenSet_Type) return write_set(Node::frozen_set, object, depth);
    if (type == &PyByteArray_Type) {
        const Section section(object);
        return write_run(Node::byte_array, PyByteArray_AS_STRING(object),
                         PyByteArray_GET_SIZE(object));
    }
    return add_part(object);
}

// ---- the complete object ------------------------------------------------------------------------

Packer::~Packer() {
    for (const Part& part : objects_)
        Py_DECREF(part.object);
    Py_XDECREF(rest_);
    Py_XDECREF(pickle_);
    Py_XDECREF(buffers_);
}

Done pack(const PoolPtr& pool, Encoding& encoding, PyObject* object) noexcept {
    constexpr int kMostNew = 32;     // classes that a message may bring; the others are pickled
    constexpr int kMostRounds = 16;  // of taking apart: what is found later is pickled
    Apart apart;
    int asked = 0, rounds = 0;
    while (true) {
        PyTypeObject* unknown;
        {
            Packer packer(pool, encoding, apart, asked < kMostNew);
            const Done done = packer.pack(object);
            unknown = packer.unknown();
            if (done != Done::failed || (unknown == nullptr && !apart.wants())) return done;
            if (PyErr_Occurred()) return done;
            Py_XINCREF(unknown);
        }
        if (unknown != nullptr) {
            const Done made = make_plan(unknown);
            Py_DECREF(unknown);
            if (made == Done::failed) return made;
            asked = made == Done::no ? kMostNew : asked + 1;
        }
        if (!apart.settle()) return Done::failed;
        if (++rounds >= kMostRounds + kMostNew) apart.close();
    }
}

Done Packer::pack(PyObject* object) noexcept {
    {
        const WithoutCollector none;
        if (!write(object, 0, false)) return whole_ ? Done::no : Done::failed;
    }
    if (apart_.wants()) return Done::failed;
    if (static_cast<Node>(nodes_.data()[0]) == Node::part) {
        // An object without a form of its own, outside of a container, is a pickle.
        const Done done = PyArray_CheckExact(object) ? Done::no : add_object(object);
        if (done != Done::yes) return done;
        settled_ = 1;
    }
    if (!settle_parts()) return whole_ ? Done::no : Done::failed;
    const bool in_slot = children_.size() + copies_.size() <= 1 && buffers_ == nullptr &&
                         3 + body_bytes() <= kInlineBytes;
    return (in_slot ? lay_inline() : lay_in_block()) ? Done::yes : Done::failed;
}

}  // namespace onecopy::py
