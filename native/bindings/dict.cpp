// The class DictBase; see `onecopy.Dict`.
#include "containers/dict.hpp"

#include <cstring>

#include "bindings/containers.hpp"
#include "bindings/keys.hpp"

namespace onecopy::py {
namespace {

constexpr const char* kWhat = "the dict";

using DictObject = ContainerObject<Dict>;

bool usable(const DictObject& o) noexcept {
    return o.usable(kWhat);
}

PyObject* raise_dict(DictObject& o, Status s, PyObject* key = nullptr) noexcept {
    if (s == Status::no_entry && key != nullptr) {
        // A tuple as the only argument would be taken for all arguments.
        PyObject* arguments = PyTuple_Pack(1, key);
        if (arguments != nullptr) PyErr_SetObject(PyExc_KeyError, arguments);
        Py_XDECREF(arguments);
        return nullptr;
    }
    return raise_status(s, kWhat, o.pool, 4096);
}

PyObject* get(DictObject& o, PyObject* object, PyObject* otherwise) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Key key;
    if (!key.encode(object))
        return otherwise != nullptr && key.is_absent(object) ? Py_NewRef(otherwise) : nullptr;
    Handle handle = 0;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.get(key.get(), p, handle); });
    if (s == Status::ok) return open_envelope(Held(o.pool, handle_index(handle)));
    if (s == Status::no_entry && otherwise != nullptr) return Py_NewRef(otherwise);
    return raise_dict(o, s, object);
}

PyObject* contains(DictObject& o, PyObject* object) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Key key;
    if (!key.encode(object)) return key.is_absent(object) ? Py_NewRef(Py_False) : nullptr;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.contains(key.get(), p); });
    if (s == Status::ok || s == Status::no_entry) return PyBool_FromLong(s == Status::ok);
    return raise_dict(o, s);
}

PyObject* set(DictObject& o, PyObject* object, PyObject* value) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Key key;
    if (!key.encode(object)) return nullptr;
    AtOnce memory;
    const Held held = put(o.pool, memory, value);
    if (!held || !usable(o)) return nullptr;  // pickling runs Python code
    const Handle handle = handle_of(o.core(), held.index());
    Handle found = 0;
    const Status s =
        run(o, [&](WaitPolicy& p) { return o.sync.set(key.get(), handle, false, p, found); });
    return s == Status::ok ? Py_NewRef(Py_None) : raise_dict(o, s);
}

PyObject* set_default(DictObject& o, PyObject* object, PyObject* value) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Key key;
    if (!key.encode(object)) return nullptr;
    Handle found = 0;
    Status s = run(o, [&](WaitPolicy& p) { return o.sync.get(key.get(), p, found); });
    if (s == Status::ok) return open_envelope(Held(o.pool, handle_index(found)));
    if (s != Status::no_entry) return raise_dict(o, s);
    AtOnce memory;
    const Held held = put(o.pool, memory, value);
    if (!held || !usable(o)) return nullptr;
    const Handle handle = handle_of(o.core(), held.index());
    s = run(o, [&](WaitPolicy& p) { return o.sync.set(key.get(), handle, true, p, found); });
    if (s == Status::ok) return open_envelope(held);  // the form that all callers get from now on
    if (s == Status::exists) return open_envelope(Held(o.pool, handle_index(found)));
    return raise_dict(o, s);
}

PyObject* erase(DictObject& o, PyObject* object) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Key key;
    if (!key.encode(object)) return nullptr;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.erase(key.get(), p); });
    return s == Status::ok ? Py_NewRef(Py_None) : raise_dict(o, s, object);
}

// `otherwise` may be null: KeyError.
PyObject* take(DictObject& o, PyObject* object, PyObject* otherwise) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Key key;
    if (!key.encode(object))
        return otherwise != nullptr && key.is_absent(object) ? Py_NewRef(otherwise) : nullptr;
    // The object is built before the entry is taken out: one that cannot be built stays where it
    // is.
    for (int tries = 0;; ++tries) {
        Alone alone(o);
        if (!usable(o) || (tries >= kTriesTogether && !alone.take())) return nullptr;
        Handle handle = 0;
        Status s = run(o, [&](WaitPolicy& p) { return o.sync.get(key.get(), p, handle); });
        if (s == Status::no_entry && otherwise != nullptr) return Py_NewRef(otherwise);
        if (s != Status::ok) return raise_dict(o, s, object);
        const Held held(o.pool, handle_index(handle));
        PyObject* value = open_envelope(held);
        if (value == nullptr) return nullptr;
        if (usable(o)) {
            s = run(o, [&](WaitPolicy& p) { return o.sync.erase_if(key.get(), handle, false, p); });
            if (s == Status::ok) return value;
            if (s != Status::stale) raise_dict(o, s);
        }
        Py_DECREF(value);
        if (PyErr_Occurred()) return nullptr;
    }
}

PyObject* length(DictObject& o) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    u64 n = 0;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.size(p, n); });
    return s == Status::ok ? PyLong_FromUnsignedLongLong(n) : raise_dict(o, s);
}

PyObject* corrupt_or(DictObject& o, PyObject* object) noexcept {
    if (object == nullptr) {
        // Bytes that were never a key are damage.
        PyObject* corrupted = error_class(Error::corrupted);
        if (corrupted != nullptr && PyErr_ExceptionMatches(corrupted)) o.core().mark_corrupt();
    }
    return object;
}

PyObject* list_of_keys(DictObject& o, const DictItems& items) noexcept {
    PyObject* list = PyList_New(static_cast<Py_ssize_t>(items.lengths.size()));
    const auto* at = reinterpret_cast<const unsigned char*>(items.keys.data());
    for (std::size_t i = 0; list != nullptr && i < items.lengths.size(); ++i) {
        PyObject* key = corrupt_or(o, decode_key(at, items.lengths[i]));
        at += items.lengths[i] & ~kTwoForms;
        if (key == nullptr) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), key);
        }
    }
    return list;
}

PyObject* keys(DictObject& o) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    DictItems items;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.items(true, false, p, items); });
    return s == Status::ok ? list_of_keys(o, items) : raise_dict(o, s);
}

PyObject* refs(DictObject& o) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    DictItems items;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.items(false, true, p, items); });
    Taken held(o.pool);
    held.handles.swap(items.values);
    return s == Status::ok ? list_of_refs(held) : raise_dict(o, s);
}

PyObject* keys_and_refs(DictObject& o) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    DictItems items;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.items(true, true, p, items); });
    Taken held(o.pool);
    held.handles.swap(items.values);
    if (s != Status::ok) return raise_dict(o, s);
    PyObject* all = list_of_keys(o, items);
    PyObject* values = all == nullptr ? nullptr : list_of_refs(held);
    if (values == nullptr) {
        Py_XDECREF(all);
        return nullptr;
    }
    return Py_BuildValue("(NN)", all, values);
}

// Whether one of the values is equal to this one. It reads in pieces, each as it was at one
// instant. If the place between two pieces is lost, it reads all of it at one instant.
PyObject* has_value(DictObject& o, PyObject* value) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    DictCursor at;
    for (u32 piece = kPiece; !at.at_end;) {
        Taken items(o.pool);
        const Status s =
            run(o, [&](WaitPolicy& p) { return o.sync.values(at, piece, p, items.handles); });
        if (s == Status::stale) {
            at = {};
            piece = kNil;
            continue;
        }
        if (s != Status::ok) return raise_dict(o, s);
        for (std::size_t i = 0; i < items.size(); ++i) {
            const int equal = is_equal(items.take(i), value);
            if (equal < 0 || !usable(o)) return nullptr;
            if (equal > 0) return Py_NewRef(Py_True);
        }
    }
    return Py_NewRef(Py_False);
}

// The key that `Dict::last` has copied. False: it is damaged.
bool only_key(const DictItems& items, DictKey& out) noexcept {
    const u32 length = items.lengths[0] & ~kTwoForms;
    out = {reinterpret_cast<const unsigned char*>(items.keys.data()), length, length};
    if ((items.lengths[0] & kTwoForms) == 0) return true;
    if (length < sizeof(u32)) return false;
    std::memcpy(&out.canonical, out.bytes + length - sizeof(u32), sizeof(u32));
    return out.canonical < length - sizeof(u32);
}

PyObject* take_last(DictObject& o) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    for (int tries = 0;; ++tries) {
        Alone alone(o);
        if (!usable(o) || (tries >= kTriesTogether && !alone.take())) return nullptr;
        DictItems items;
        Status s = run(o, [&](WaitPolicy& p) { return o.sync.last(p, items); });
        Taken held(o.pool);
        held.handles.swap(items.values);
        if (s == Status::no_entry) {
            PyErr_SetString(PyExc_KeyError, "popitem(): dictionary is empty");
            return nullptr;
        }
        if (s != Status::ok) return raise_dict(o, s);
        DictKey where;
        if (!only_key(items, where)) return raise_dict(o, Status::corrupt);
        const Handle handle = held.handles[0];
        const Held value_held = held.take(0);
        PyObject* key = corrupt_or(o, decode_key(where.bytes, items.lengths[0]));
        PyObject* value = key == nullptr ? nullptr : open_envelope(value_held);
        PyObject* pair = value == nullptr ? nullptr : PyTuple_Pack(2, key, value);
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (pair == nullptr) return nullptr;
        if (usable(o)) {
            s = run(o, [&](WaitPolicy& p) { return o.sync.erase_if(where, handle, true, p); });
            if (s == Status::ok) return pair;
            if (s != Status::stale) raise_dict(o, s);
        }
        Py_DECREF(pair);
        if (PyErr_Occurred()) return nullptr;
    }
}

}  // namespace

void bind_dict(nb::module_& m) {
    channel_kinds().push_back(&channel_of<DictObject>);
    Class<DictObject> type(m, "DictBase", nb::is_weak_referenceable(),
                           "A dict in a pool; see `onecopy.Dict`.");
    type.def(
            "__init__",
            [](DictObject* self, nb::handle hold, nb::handle member, nb::handle on_death) {
                construct_container(self, hold, member, on_death, kWhat);
            },
            arg("hold"), arg("member"), arg("on_death"))
        .def("__len__", [](DictObject& o) noexcept { return result(length(o)); })
        .def(
            "__contains__",
            [](DictObject& o, nb::handle key) noexcept { return result(contains(o, key.ptr())); },
            arg("key"))
        .def(
            "__getitem__",
            [](DictObject& o, nb::handle key) noexcept {
                return result(get(o, key.ptr(), nullptr));
            },
            arg("key"))
        .def(
            "__setitem__",
            [](DictObject& o, nb::handle key, nb::handle value) noexcept {
                return result(set(o, key.ptr(), value.ptr()));
            },
            arg("key"), arg("value"))
        .def(
            "__delitem__",
            [](DictObject& o, nb::handle key) noexcept { return result(erase(o, key.ptr())); },
            arg("key"))
        .def(
            "get",
            [](DictObject& o, nb::handle key, nb::handle otherwise) noexcept {
                return result(get(o, key.ptr(), otherwise.ptr()));
            },
            arg("key"), arg("default", nb::none()), "Give the value of a key, or the default.")
        .def(
            "setdefault",
            [](DictObject& o, nb::handle key, nb::handle otherwise) noexcept {
                return result(set_default(o, key.ptr(), otherwise.ptr()));
            },
            arg("key"), arg("default", nb::none()),
            "Give the value of a key; if there is none, set it to the default. One process wins.")
        .def(
            "popitem", [](DictObject& o) noexcept { return result(take_last(o)); },
            "Take out the entry that was added last. Raises KeyError.")
        .def(
            "_take",
            [](DictObject& o, nb::handle key) noexcept {
                return result(take(o, key.ptr(), nullptr));
            },
            arg("key"))
        .def(
            "_take_or",
            [](DictObject& o, nb::handle key, nb::handle otherwise) noexcept {
                return result(take(o, key.ptr(), otherwise.ptr()));
            },
            arg("key"), arg("otherwise"))
        .def(
            "_has_value",
            [](DictObject& o, nb::handle value) noexcept {
                return result(has_value(o, value.ptr()));
            },
            arg("value"))
        .def("_keys", [](DictObject& o) noexcept { return result(keys(o)); })
        .def("_refs", [](DictObject& o) noexcept { return result(refs(o)); })
        .def("_items", [](DictObject& o) noexcept { return result(keys_and_refs(o)); });
    type.subscriptable();
    bind_container<DictObject>(type, kWhat);
}

}  // namespace onecopy::py
