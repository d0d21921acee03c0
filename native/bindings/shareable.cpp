// The Python class of a shareable list: converts values of Python to bytes of items and back.
#include "shareable/shareable.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "bindings/methods.hpp"
#include "bindings/segments.hpp"

namespace onecopy::py {
namespace {

constexpr std::size_t kSmall = 512;  // bytes of an item that need no memory of their own
constexpr const char* kWhat = "the shareable list";

struct ListObject {
    nb::object mapping;  // keeps the object alive, not the memory: closing releases that
    MappingObject* memory = nullptr;
    ShareableList list;
};

// Around every access: a call may release the GIL, and another thread may close the segment.
class InUse {
  public:
    explicit InUse(PyObject* object) noexcept {
        if (!nb::inst_ready(object)) {
            PyErr_SetString(PyExc_RuntimeError, "ShareableList.__init__ was not called");
            return;
        }
        self_ = nb::inst_ptr<ListObject>(object);
        ++self_->memory->users;
        if (self_->memory->closed) [[unlikely]] {
            std::exchange(self_, nullptr)->memory->done();
            PyErr_SetString(PyExc_ValueError,
                            "the list's shared memory was closed in this process");
        }
    }
    ~InUse() {
        if (self_ != nullptr) self_->memory->done();
    }
    InUse(const InUse&) = delete;
    InUse& operator=(const InUse&) = delete;
    explicit operator bool() const noexcept { return self_ != nullptr; }
    const ShareableList& operator*() const noexcept { return self_->list; }
    const ShareableList* operator->() const noexcept { return &self_->list; }

  private:
    ListObject* self_ = nullptr;
};

PyObject* raise_spoilt() noexcept {
    return raise(Error::corrupted,
                 "%s: what stands in its shared memory makes no sense. Something outside onecopy "
                 "has written into it; make a new list.",
                 kWhat);
}

PyObject* raise_item(Status s, const ShareableList& list, u64 i) noexcept {
    switch (s) {
        case Status::corrupt:
            return raise_spoilt();
        case Status::timed_out:
            PyErr_Format(PyExc_TimeoutError,
                         "item %llu of %s is being written by process %u of another container or "
                         "PID namespace, which cannot be "
                         "seen from here and has not finished for 5 s; if it is dead, a process "
                         "over there has to set the item",
                         static_cast<unsigned long long>(i), kWhat,
                         ShareableList::holder(list.claim_of(i)));
            return nullptr;
        default:
            return raise_status(s, kWhat);
    }
}

// ---- from bytes to values -----------------------------------------------------------------------

PyObject* value_of(ShareableList::Item item, const void* bytes) noexcept {
    switch (item.kind) {
        case ItemKind::integer: {
            long long v;
            std::memcpy(&v, bytes, sizeof v);
            if (item.length == sizeof v) return PyLong_FromLongLong(v);
            break;
        }
        case ItemKind::real: {
            double v;
            std::memcpy(&v, bytes, sizeof v);
            if (item.length == sizeof v) return PyFloat_FromDouble(v);
            break;
        }
        case ItemKind::boolean:
            if (item.length == 1)
                return PyBool_FromLong(*static_cast<const unsigned char*>(bytes) != 0);
            break;
        case ItemKind::text: {
            PyObject* text = PyUnicode_DecodeUTF8(static_cast<const char*>(bytes),
                                                  static_cast<Py_ssize_t>(item.length), nullptr);
            if (text != nullptr || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) return text;
            PyErr_Clear();
            break;
        }
        case ItemKind::bytes:
            return PyBytes_FromStringAndSize(static_cast<const char*>(bytes),
                                             static_cast<Py_ssize_t>(item.length));
        case ItemKind::null:
            Py_RETURN_NONE;
        case ItemKind::none_yet:
            break;
    }
    return raise_spoilt();
}

PyObject* get(const ShareableList& list, u64 i) noexcept {
    alignas(8) unsigned char small[kSmall];
    const u64 room = list.room(i);
    if (room == 0) return raise_spoilt();
    void* to = small;
    if (room > sizeof small && (to = PyMem_Malloc(room)) == nullptr) return PyErr_NoMemory();
    ShareableList::Item item;
    Status s;
    {
        GilWaitPolicy p;
        s = list.read(i, to, std::max<u64>(room, sizeof small), item, p);
    }
    PyObject* value = s == Status::ok ? value_of(item, to) : raise_item(s, list, i);
    if (to != small) PyMem_Free(to);
    return value;
}

// ---- from values to bytes -----------------------------------------------------------------------

// A value's bytes, in the value itself where it has them.
struct Encoded {
    ItemKind kind = ItemKind::none_yet;
    const void* from = number;
    u64 length = 8;
    u64 characters = 0;  // of text and bytes: the standard library computes the room from it
    alignas(8) unsigned char number[8] = {};

    u64 room() const noexcept { return ShareableList::room_for(characters, length); }
};

PyObject* raise_imported(const char* module, const char* name, PyObject* text) noexcept {
    PyObject* type = nullptr;
    if (text != nullptr) {
        PyObject* where = PyImport_ImportModule(module);
        type = where == nullptr ? nullptr : PyObject_GetAttrString(where, name);
        Py_XDECREF(where);
    }
    if (type != nullptr) PyErr_SetObject(type, text);
    Py_XDECREF(type);
    Py_XDECREF(text);
    return nullptr;
}

bool encode(PyObject* value, Encoded& out) noexcept {
    if (PyLong_CheckExact(value)) {
        out.kind = ItemKind::integer;
        int overflow = 0;
        const long long v = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow != 0) {
            return raise_imported("struct", "error",
                                  PyUnicode_FromString("an int in a shareable list has 64 bits: "
                                                       "-2**63 <= number <= 2**63 - 1"));
        }
        std::memcpy(out.number, &v, sizeof v);
    } else if (PyFloat_CheckExact(value)) {
        out.kind = ItemKind::real;
        const double v = PyFloat_AS_DOUBLE(value);
        std::memcpy(out.number, &v, sizeof v);
    } else if (PyUnicode_Check(value)) {
        Py_ssize_t length = 0;
        out.kind = ItemKind::text;
        out.from = PyUnicode_AsUTF8AndSize(value, &length);
        out.length = static_cast<u64>(length);
        if (out.from == nullptr) return false;
        out.characters = static_cast<u64>(PyUnicode_GET_LENGTH(value));
    } else if (PyBytes_Check(value)) {
        out.kind = ItemKind::bytes;
        out.from = PyBytes_AS_STRING(value);
        out.length = out.characters = static_cast<u64>(PyBytes_GET_SIZE(value));
    } else if (PyBool_Check(value)) {
        out.kind = ItemKind::boolean;
        out.number[0] = value == Py_True;
        out.length = 1;
    } else if (value == Py_None) {
        out.kind = ItemKind::null;
        out.length = 0;
    } else {
        return raise_imported(
            "onecopy.multiprocessing.shared_memory", "UnsupportedItem",
            PyUnicode_FromFormat("an item of a shareable list is an int, float, bool, str, bytes "
                                 "or None, not %.200s",
                                 Py_TYPE(value)->tp_name));
    }
    return true;
}

bool set(const ShareableList& list, u64 i, PyObject* value) noexcept {
    Encoded bytes;
    if (!encode(value, bytes)) return false;
    Status s;
    {
        GilWaitPolicy p;
        s = list.write(i, bytes.kind, bytes.from, bytes.length, p);
    }
    if (s == Status::ok) [[likely]]
        return true;
    if (s == Status::too_large) {
        PyErr_Format(PyExc_ValueError,
                     "bytes/str item exceeds available storage: it has %llu bytes, and item %llu "
                     "was made with room for %llu",
                     static_cast<unsigned long long>(bytes.length),
                     static_cast<unsigned long long>(i),
                     static_cast<unsigned long long>(list.room(i)));
    } else {
        raise_item(s, list, i);
    }
    return false;
}

// ---- slots --------------------------------------------------------------------------------------

// Negative positions count from the end. False with an exception set.
bool position_of(const ShareableList& list, Py_ssize_t at, const char* text, u64& out) noexcept {
    const auto size = static_cast<Py_ssize_t>(list.size());
    if (at < 0) at += size;
    if (at < 0 || at >= size) {
        PyErr_Format(PyExc_IndexError, "%s: the list has %zd items", text, size);
        return false;
    }
    out = static_cast<u64>(at);
    return true;
}
bool position_of(const ShareableList& list, PyObject* at, const char* text, u64& out) noexcept {
    if (!PyIndex_Check(at)) {
        PyErr_Format(PyExc_TypeError, "a position in a shareable list is an integer, not %.200s",
                     Py_TYPE(at)->tp_name);
        return false;
    }
    const Py_ssize_t n = PyNumber_AsSsize_t(at, PyExc_IndexError);
    return !(n == -1 && PyErr_Occurred()) && position_of(list, n, text, out);
}

constexpr const char* kGet = "index out of range";
constexpr const char* kSet = "assignment index out of range";

Py_ssize_t length(PyObject* self) noexcept {
    InUse list(self);
    return list ? static_cast<Py_ssize_t>(list->size()) : -1;
}

PyObject* item(PyObject* self, Py_ssize_t at) noexcept {
    InUse list(self);
    u64 i;
    return list && position_of(*list, at, kGet, i) ? get(*list, i) : nullptr;
}

PyObject* subscript(PyObject* self, PyObject* at) noexcept {
    InUse list(self);
    u64 i;
    return list && position_of(*list, at, kGet, i) ? get(*list, i) : nullptr;
}

int assign(PyObject* self, PyObject* at, PyObject* value) noexcept {
    if (value == nullptr) {
        PyErr_SetString(PyExc_TypeError,
                        "a shareable list has a fixed length: no item can be deleted");
        return -1;
    }
    InUse list(self);
    u64 i;
    return list && position_of(*list, at, kSet, i) && set(*list, i, value) ? 0 : -1;
}

PyType_Slot slots[] = {
    {Py_sq_length, reinterpret_cast<void*>(&length)},
    {Py_mp_length, reinterpret_cast<void*>(&length)},
    {Py_sq_item, reinterpret_cast<void*>(&item)},
    {Py_mp_subscript, reinterpret_cast<void*>(&subscript)},
    {Py_mp_ass_subscript, reinterpret_cast<void*>(&assign)},
    {0, nullptr},
};

// ---- methods ------------------------------------------------------------------------------------

// 1: equal, 0: not equal, -1: an exception is set.
int equals(const ShareableList& list, u64 i, PyObject* value) noexcept {
    PyObject* there = get(list, i);
    if (there == nullptr) return -1;
    const int equal = PyObject_RichCompareBool(value, there, Py_EQ);
    Py_DECREF(there);
    return equal;
}

PyObject* count(PyObject* self, PyObject* value) noexcept {
    InUse list(self);
    if (!list) return nullptr;
    Py_ssize_t found = 0;
    for (u64 i = 0; i < list->size(); ++i) {
        const int equal = equals(*list, i, value);
        if (equal < 0) return nullptr;
        found += equal;
    }
    return PyLong_FromSsize_t(found);
}

PyObject* index(PyObject* self, PyObject* value) noexcept {
    InUse list(self);
    if (!list) return nullptr;
    for (u64 i = 0; i < list->size(); ++i) {
        const int equal = equals(*list, i, value);
        if (equal < 0) return nullptr;
        if (equal > 0) return PyLong_FromUnsignedLongLong(i);
    }
    PyErr_Format(PyExc_ValueError, "%R not in this container", value);
    return nullptr;
}

// As `struct` writes it: numbers of less than 8 bytes are padded to 8.
bool append_format(const ShareableList& list, u64 i, std::string& out) {
    ShareableList::Item item;
    const u64 room = list.room(i);
    if (room == 0 || list.look(i, item) != Status::ok) return raise_spoilt() != nullptr;
    switch (item.kind) {
        case ItemKind::integer:
            out += 'q';
            break;
        case ItemKind::real:
            out += 'd';
            break;
        case ItemKind::boolean:
            out += "xxxxxxx?";
            break;
        case ItemKind::null:
            out += "xxxxxx?x";
            break;
        default:
            out += std::to_string(room) + 's';
    }
    return true;
}

PyObject* to_python(const std::string& text) noexcept {
    return PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}

PyObject* format(PyObject* self) {
    InUse list(self);
    if (!list) return nullptr;
    std::string text;
    for (u64 i = 0; i < list->size(); ++i) {
        if (!append_format(*list, i, text)) return nullptr;
    }
    return to_python(text);
}

PyObject* packing_format(PyObject* self, PyObject* at) {
    InUse list(self);
    u64 i;
    std::string text;
    if (!list || !position_of(*list, at, "Requested position out of range", i)) return nullptr;
    return append_format(*list, i, text) ? to_python(text) : nullptr;
}

// ---- making one ---------------------------------------------------------------------------------

// Bytes that a list of these items needs. 0 with an exception set.
u64 needed(PyObject* items) noexcept {
    const Py_ssize_t n = PyList_GET_SIZE(items);
    u64 data = 0;
    for (Py_ssize_t i = 0; i < n; ++i) {
        Encoded bytes;
        if (!encode(PyList_GET_ITEM(items, i), bytes)) return 0;
        if (bytes.length > ShareableList::kMostRoom || bytes.room() >= ShareableList::kMostRoom) {
            PyErr_Format(PyExc_ValueError,
                         "item %zd has %llu bytes; an item of a shareable list has less than %llu. "
                         "Put it into a SharedMemory of its own.",
                         i, static_cast<unsigned long long>(bytes.length),
                         static_cast<unsigned long long>(ShareableList::kMostRoom));
            return 0;
        }
        data += 2 * bytes.room();
    }
    const u64 all = ShareableList::bytes_for(static_cast<u64>(n), data);
    if (all == 0) PyErr_SetString(PyExc_ValueError, "more than a shareable list can hold");
    return all;
}

// `memory`: at least `needed` zeroed bytes, which no other process can reach yet.
bool fill(MappingObject& memory, PyObject* items) noexcept {
    const auto n = static_cast<u64>(PyList_GET_SIZE(items));
    Py_ssize_t next = 0;
    bool encoded = true;
    const bool fits = ShareableList::format(memory.base, memory.length, n, [&]() noexcept -> u64 {
        Encoded bytes;
        encoded = encoded && encode(PyList_GET_ITEM(items, next++), bytes);
        return encoded ? bytes.room() : 0;
    });
    if (!fits) {
        if (encoded) PyErr_SetString(PyExc_ValueError, "the items do not fit the memory");
        return false;
    }
    ShareableList::finish(memory.base);
    ShareableList list;
    if (ShareableList::open(memory.base, memory.length, list) != Status::ok)
        return raise_spoilt() != nullptr;
    for (u64 i = 0; i < n; ++i) {
        if (!set(list, i, PyList_GET_ITEM(items, static_cast<Py_ssize_t>(i)))) return false;
    }
    return true;
}

void require_list(nb::handle items) {
    if (PyList_CheckExact(items.ptr())) return;
    PyErr_SetString(PyExc_TypeError, "a list of items");
    throw nb::python_error();
}

void construct(ListObject* self, nb::handle mapping) {
    auto& memory = nb::cast<MappingObject&>(mapping);
    const MappingUse use(memory);
    if (memory.closed) {
        PyErr_SetString(PyExc_ValueError, "the shared memory was closed in this process");
        throw nb::python_error();
    }
    ShareableList list;
    switch (ShareableList::open(memory.base, memory.length, list)) {
        case Status::ok:
            break;
        case Status::bad_argument:
            raise(Error::root,
                  "there is no list of onecopy's in this shared memory. One made by "
                  "multiprocessing.shared_memory.ShareableList is laid out otherwise, and can be "
                  "read by that class only.");
            throw nb::python_error();
        case Status::bad_version:
            raise(Error::version,
                  "%s was made by a build of onecopy with another memory layout. Use the same "
                  "version in all processes.",
                  kWhat);
            throw nb::python_error();
        default:
            raise_spoilt();
            throw nb::python_error();
    }
    new (self) ListObject{nb::borrow(mapping), &memory, list};
}

}  // namespace

void bind_shareable(nb::module_& m) {
    Class<ListObject>(m, "ShareableListBase", nb::is_weak_referenceable(), nb::type_slots(slots),
                      "A list in shared memory; see "
                      "`onecopy.multiprocessing.shared_memory.ShareableList`.")
        .def("__init__", of<&construct>, arg("mapping"))
        .def_static(
            "_needed",
            [](nb::handle items) {
                require_list(items);
                const u64 bytes = needed(items.ptr());
                if (bytes == 0) throw nb::python_error();
                return bytes;
            },
            arg("items"))
        .def_static(
            "_fill",
            [](nb::handle mapping, nb::handle items) {
                require_list(items);
                auto& memory = nb::cast<MappingObject&>(mapping);
                const MappingUse use(memory);
                return none_or_error(fill(memory, items.ptr()));
            },
            arg("mapping"), arg("items"))
        .def(
            "count",
            [](nb::handle self, nb::handle value) {
                return result(count(self.ptr(), value.ptr()));
            },
            arg("value"), "How many items are equal to a value.")
        .def(
            "index",
            [](nb::handle self, nb::handle value) {
                return result(index(self.ptr(), value.ptr()));
            },
            arg("value"),
            "The position of the first item that is equal to a value; ValueError: there is none.")
        .def_prop_ro(
            "format", [](nb::handle self) { return result(format(self.ptr())); },
            "What `struct` would call the items, as in the standard library.")
        .def(
            "_get_packing_format",
            [](nb::handle self, nb::handle at) {
                return result(packing_format(self.ptr(), at.ptr()));
            },
            arg("position"));
}

}  // namespace onecopy::py
