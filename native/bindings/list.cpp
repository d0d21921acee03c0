// The class ListBase; see `onecopy.List`.
#include "containers/list.hpp"

#include <algorithm>

#include "bindings/containers.hpp"

namespace onecopy::py {
namespace {

constexpr const char* kWhat = "the list";

using ListObject = ContainerObject<List>;

bool usable(const ListObject& o) noexcept {
    return o.usable(kWhat);
}

PyObject* raise_list(ListObject& o, Status s) noexcept {
    return raise_status(s, kWhat, o.pool, 4096);
}
PyObject* none_or(ListObject& o, Status s) noexcept {
    return s == Status::ok ? Py_NewRef(Py_None) : raise_list(o, s);
}
PyObject* out_of_range(const char* text) noexcept {
    PyErr_SetString(PyExc_IndexError, text);
    return nullptr;
}

// Objects on their way in.
struct Items {
    std::vector<Held> held;
    std::vector<Handle> handles;

    bool add(const PoolPtr& pool, PyObject* object) noexcept {
        AtOnce memory;
        Held one = put(pool, memory, object);
        if (!one) return false;
        try {
            handles.push_back(handle_of(pool->core(), one.index()));
            held.push_back(std::move(one));
            return true;
        } catch (const std::bad_alloc&) {
            PyErr_NoMemory();
            return false;
        }
    }
    // All of an iterable, or none: an exception is set then.
    bool add_all(ListObject& o, PyObject* iterable) noexcept {
        PyObject* iterator = PyObject_GetIter(iterable);
        if (iterator == nullptr) return false;
        bool done = true;
        while (done) {
            PyObject* object = PyIter_Next(iterator);
            if (object == nullptr) break;
            done = add(o.pool, object);
            Py_DECREF(object);
            // Iterating and pickling run Python code.
            done = done && usable(o);
        }
        Py_DECREF(iterator);
        if (!done || PyErr_Occurred()) return false;
        if (handles.size() < 0xffffffffu) return true;
        PyErr_SetString(PyExc_MemoryError, "a shared list has less than 2**30 items");
        return false;
    }
    u32 size() const noexcept { return static_cast<u32>(handles.size()); }
};

PyObject* append(ListObject& o, PyObject* object) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    AtOnce memory;
    const Held item = put(o.pool, memory, object);
    if (!item || !usable(o)) return nullptr;  // pickling runs Python code
    const Handle handle = handle_of(o.core(), item.index());
    return none_or(o, run(o, [&](WaitPolicy& p) { return o.sync.extend(&handle, 1, p); }));
}

PyObject* extend(ListObject& o, PyObject* iterable) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Items items;
    if (!items.add_all(o, iterable)) return nullptr;
    if (!usable(o)) return nullptr;
    if (items.size() == 0) return Py_NewRef(Py_None);
    return none_or(o, run(o, [&](WaitPolicy& p) {
                       return o.sync.extend(items.handles.data(), items.size(), p);
                   }));
}

PyObject* length(ListObject& o) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    u64 n = 0;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.size(p, n); });
    return s == Status::ok ? PyLong_FromUnsignedLongLong(n) : raise_list(o, s);
}

// An index, as list has it. False with an exception set.
bool index_of(PyObject* object, Py_ssize_t& out, const char* what,
              PyObject* too_large = PyExc_IndexError) noexcept {
    if (!PyIndex_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s, not %.200s", what, Py_TYPE(object)->tp_name);
        return false;
    }
    out = PyNumber_AsSsize_t(object, too_large);
    return out != -1 || !PyErr_Occurred();
}
constexpr const char* kIndices = "list indices must be integers or slices";

bool slice_of(PyObject* object, Slice& out) noexcept {
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(object, &start, &stop, &step) != 0) return false;
    out = {start, stop, step};
    return true;
}

// `otherwise`: the answer if there is no item; null: IndexError. An error of the object itself is
// passed on: unpickling may raise any.
PyObject* get_at(ListObject& o, std::int64_t index, PyObject* otherwise = nullptr) noexcept {
    Handle handle = 0;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.get(index, p, handle); });
    if (s == Status::no_entry)
        return otherwise != nullptr ? Py_NewRef(otherwise)
                                    : out_of_range("list index out of range");
    if (s != Status::ok) return raise_list(o, s);
    return open_envelope(Held(o.pool, handle_index(handle)));
}

// Held, in order. False with an exception set.
bool snapshot(ListObject& o, Slice slice, Taken& out) noexcept {
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.get(slice, p, out.handles); });
    if (s != Status::ok) raise_list(o, s);
    return s == Status::ok;
}

PyObject* get_item(ListObject& o, PyObject* key) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    if (PySlice_Check(key)) {
        Slice slice;
        Taken items(o.pool);
        // An object that is asked for its number may run Python code, and that may close the list.
        if (!slice_of(key, slice) || !usable(o) || !snapshot(o, slice, items)) return nullptr;
        return list_of_objects(items);
    }
    Py_ssize_t index;
    if (!index_of(key, index, kIndices) || !usable(o)) return nullptr;
    return get_at(o, index);
}

PyObject* refs(ListObject& o) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Taken items(o.pool);
    if (!snapshot(o, {0, PY_SSIZE_T_MAX, 1}, items)) return nullptr;
    return list_of_refs(items);
}

PyObject* set_slice(ListObject& o, PyObject* key, PyObject* value) noexcept {
    Slice slice;
    if (!slice_of(key, slice) || !usable(o)) return nullptr;
    PyObject* sequence =
        PySequence_Fast(value, slice.step == 1 ? "can only assign an iterable"
                                               : "must assign iterable to extended slice");
    if (sequence == nullptr) return nullptr;
    Items items;
    const bool done = usable(o) && items.add_all(o, sequence);
    Py_DECREF(sequence);
    if (!done || !usable(o)) return nullptr;
    u64 selected = 0;
    const Status s = run(o, [&](WaitPolicy& p) {
        return o.sync.assign(slice, items.handles.data(), items.size(), p, selected);
    });
    if (s != Status::bad_argument) return none_or(o, s);
    PyErr_Format(PyExc_ValueError,
                 "attempt to assign sequence of size %u to extended slice of size %llu",
                 items.size(), static_cast<unsigned long long>(selected));
    return nullptr;
}

PyObject* set_item(ListObject& o, PyObject* key, PyObject* value) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    if (PySlice_Check(key)) return set_slice(o, key, value);
    Py_ssize_t index;
    if (!index_of(key, index, kIndices) || !usable(o)) return nullptr;
    AtOnce memory;
    const Held item = put(o.pool, memory, value);
    if (!item || !usable(o)) return nullptr;
    const Handle handle = handle_of(o.core(), item.index());
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.set(index, handle, p); });
    if (s == Status::no_entry) return out_of_range("list assignment index out of range");
    return none_or(o, s);
}

PyObject* delete_item(ListObject& o, PyObject* key) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    if (PySlice_Check(key)) {
        Slice slice;
        if (!slice_of(key, slice) || !usable(o)) return nullptr;
        return none_or(o, run(o, [&](WaitPolicy& p) { return o.sync.erase(slice, p); }));
    }
    Py_ssize_t index;
    if (!index_of(key, index, kIndices) || !usable(o)) return nullptr;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.erase_at(index, p); });
    if (s == Status::no_entry) return out_of_range("list assignment index out of range");
    return none_or(o, s);
}

PyObject* insert(ListObject& o, PyObject* key, PyObject* object) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Py_ssize_t index;
    if (!index_of(key, index, "the place to insert at is an integer", PyExc_OverflowError) ||
        !usable(o))
        return nullptr;
    AtOnce memory;
    const Held item = put(o.pool, memory, object);
    if (!item || !usable(o)) return nullptr;
    const Handle handle = handle_of(o.core(), item.index());
    u64 selected = 0;
    return none_or(o, run(o, [&](WaitPolicy& p) {
                       return o.sync.assign({index, index, 1}, &handle, 1, p, selected);
                   }));
}

PyObject* pop(ListObject& o, PyObject* key) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Py_ssize_t index = -1;
    if (key != nullptr &&
        !index_of(key, index, "the index to pop is an integer", PyExc_OverflowError))
        return nullptr;
    // The object is built before the item is taken out: one that cannot be built stays where it is.
    for (int tries = 0;; ++tries) {
        Alone alone(o);
        if (!usable(o) || (tries >= kTriesTogether && !alone.take())) return nullptr;
        Handle handle = 0;
        u64 count = 0;
        Status s = run(o, [&](WaitPolicy& p) { return o.sync.get(index, p, handle); });
        if (s == Status::no_entry) {
            s = run(o, [&](WaitPolicy& p) { return o.sync.size(p, count); });
            if (s == Status::ok)
                return out_of_range(count == 0 ? "pop from empty list" : "pop index out of range");
        }
        if (s != Status::ok) return raise_list(o, s);
        const Held item(o.pool, handle_index(handle));
        PyObject* object = open_envelope(item);
        if (object == nullptr) return nullptr;
        if (usable(o)) {
            s = run(o, [&](WaitPolicy& p) { return o.sync.erase_if(index, handle, p); });
            if (s == Status::ok) return object;
            if (s != Status::stale) raise_list(o, s);
        }
        Py_DECREF(object);
        if (PyErr_Occurred()) return nullptr;
    }
}

PyObject* repeat(ListObject& o, PyObject* number) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Py_ssize_t times;
    if (!index_of(number, times, "a list is multiplied by an integer", PyExc_OverflowError) ||
        !usable(o))
        return nullptr;
    const u64 n = times < 0 ? 0 : static_cast<u64>(times);
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.repeat(n, p); });
    if (s != Status::table_full) return none_or(o, s);
    PyErr_SetString(PyExc_MemoryError,
                    "the list is not repeated: its values are not copied for that, and there can "
                    "be less than 2**20 references to one value, and 2**30 items. "
                    "list.extend(list.copy()) copies them");
    return nullptr;
}

// ---- looking for a value ------------------------------------------------------------------------

struct Search {
    explicit Search(PyObject* looked_for) noexcept : value(looked_for) {}
    PyObject* value;
    Slice where{0, PY_SSIZE_T_MAX, 1};
    bool all = false;  // or the first only
    // Answers.
    u64 count = 0;
    u64 at = 0;
    Handle handle = 0;
    Held item;
};

// Goes through once, in pieces: each is as it was at one instant, and no item moved between them;
// `moved` if one did. False with an exception set.
bool look_through(ListObject& o, Search& search, Slice where, u64 piece, bool& moved) noexcept {
    Handle order = 0, now = 0;
    moved = false;
    search.count = 0;
    for (std::int64_t at = where.start; at < where.stop;) {
        const auto size = std::min<std::int64_t>(where.stop - at, static_cast<std::int64_t>(piece));
        Taken items(o.pool);
        const Status s = run(o, [&](WaitPolicy& p) {
            return o.sync.get({at, at + size, 1}, p, items.handles, &now);
        });
        if (s != Status::ok) return raise_list(o, s) != nullptr;
        if (at == where.start) order = now;
        moved = now != order;
        if (moved) return true;
        for (std::size_t i = 0; i < items.size(); ++i) {
            const Handle handle = items.handles[i];
            Held item = items.take(i);
            const int equal = is_equal(item, search.value);
            if (equal < 0 || !usable(o)) return false;
            if (equal == 0) continue;
            ++search.count;
            if (search.all) continue;
            search.at = static_cast<u64>(at) + i;
            search.handle = handle;
            search.item = std::move(item);
            return true;
        }
        if (static_cast<std::int64_t>(items.size()) < size) return true;  // it has become shorter
        at += size;
    }
    return true;
}

bool look_for(ListObject& o, Search& search) noexcept {
    u64 count = 0;
    const Status s = run(o, [&](WaitPolicy& p) { return o.sync.size(p, count); });
    if (s != Status::ok) return raise_list(o, s) != nullptr;
    Slice where = search.where;
    where.adjust(count);
    bool moved = false;
    for (int tries = 0; tries < 2; ++tries)
        if (!look_through(o, search, where, kPiece, moved) || !moved) return !PyErr_Occurred();
    return look_through(o, search, where, count, moved);  // all of it at one instant
}

PyObject* contains(ListObject& o, PyObject* value) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Search search(value);
    return look_for(o, search) ? PyBool_FromLong(search.count != 0) : nullptr;
}

PyObject* count(ListObject& o, PyObject* value) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Search search(value);
    search.all = true;
    return look_for(o, search) ? PyLong_FromUnsignedLongLong(search.count) : nullptr;
}

PyObject* index(ListObject& o, PyObject* value, PyObject* bounds) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    Search search(value);
    if (!slice_of(bounds, search.where) || !usable(o) || !look_for(o, search)) return nullptr;
    if (search.count != 0) return PyLong_FromUnsignedLongLong(search.at);
    PyErr_Format(PyExc_ValueError, "%R is not in list", value);
    return nullptr;
}

PyObject* remove(ListObject& o, PyObject* value) noexcept {
    if (!usable(o)) return nullptr;
    Using call(o);
    for (int tries = 0;; ++tries) {
        Alone alone(o);
        if (tries >= kTriesTogether && !alone.take()) return nullptr;
        Search search(value);
        if (!look_for(o, search)) return nullptr;
        if (search.count == 0) {
            PyErr_SetString(PyExc_ValueError, "list.remove(x): x not in list");
            return nullptr;
        }
        const Status s = run(o, [&](WaitPolicy& p) {
            return o.sync.erase_if(static_cast<std::int64_t>(search.at), search.handle, p);
        });
        if (s != Status::stale) return none_or(o, s);
        if (!usable(o)) return nullptr;
    }
}

// ---- sorting ------------------------------------------------------------------------------------

Handle handle_behind(const ListObject& o, PyObject* ref) noexcept {
    if (is_ref(ref)) {
        auto&& held = look(ref_of(ref).held);
        if (held && held.pool() == o.pool) return ref_of(ref).handle;
    }
    PyErr_SetString(PyExc_TypeError, "that is no reference that the list has given");
    return 0;
}

// True. False: the list is not what `before` says, or no longer.
PyObject* reorder(ListObject& o, PyObject* before, PyObject* order) {
    if (!usable(o)) return nullptr;
    Using call(o);
    const Py_ssize_t n = PyList_GET_SIZE(before);
    std::vector<Handle> handles(static_cast<std::size_t>(n));
    std::vector<u32> from(static_cast<std::size_t>(n));
    if (PyList_GET_SIZE(order) != n) {
        PyErr_SetString(PyExc_ValueError, "as many places as references");
        return nullptr;
    }
    for (Py_ssize_t i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const Item ref = item_of(before, i), number = item_of(order, i);
        if (ref.get() == nullptr || number.get() == nullptr) {
            PyErr_SetString(PyExc_RuntimeError, "a list changed while it was read");
            return nullptr;
        }
        handles[at] = handle_behind(o, ref.get());
        if (handles[at] == 0) return nullptr;
        const Py_ssize_t place = PyLong_AsSsize_t(number.get());
        if (place < 0 || place >= n) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a place outside the list");
            return nullptr;
        }
        from[at] = static_cast<u32>(place);
    }
    std::vector<bool> seen(from.size());
    for (u32 place : from) {
        if (seen[place]) {
            PyErr_SetString(PyExc_ValueError, "a place twice");
            return nullptr;
        }
        seen[place] = true;
    }
    const Status s = run(o, [&](WaitPolicy& p) {
        return o.sync.reorder(handles.data(), from.data(), static_cast<u32>(from.size()), p);
    });
    if (s == Status::ok || s == Status::stale) return PyBool_FromLong(s == Status::ok);
    return raise_list(o, s);
}

}  // namespace

void bind_list(nb::module_& m) {
    channel_kinds().push_back(&channel_of<ListObject>);
    Class<ListObject> type(m, "ListBase", nb::is_weak_referenceable(),
                           "A list in a pool; see `onecopy.List`.");
    type.def(
            "__init__",
            [](ListObject* self, nb::handle hold, nb::handle member, nb::handle on_death) {
                construct_container(self, hold, member, on_death, kWhat);
            },
            arg("hold"), arg("member"), arg("on_death"))
        .def(
            "append",
            [](ListObject& o, nb::handle obj) noexcept { return result(append(o, obj.ptr())); },
            arg("obj"), "Add an object at the end.")
        .def(
            "extend",
            [](ListObject& o, AnIterable all) noexcept { return result(extend(o, all.ptr())); },
            arg("iterable"), "Add objects at the end: all of them at once, or none.")
        .def("__len__", [](ListObject& o) noexcept { return result(length(o)); })
        .def(
            "__getitem__",
            [](ListObject& o, nb::handle key) noexcept { return result(get_item(o, key.ptr())); },
            arg("key"))
        .def(
            "__setitem__",
            [](ListObject& o, nb::handle key, nb::handle value) noexcept {
                return result(set_item(o, key.ptr(), value.ptr()));
            },
            arg("key"), arg("value"))
        .def(
            "__delitem__",
            [](ListObject& o, nb::handle key) noexcept {
                return result(delete_item(o, key.ptr()));
            },
            arg("key"))
        .def(
            "insert",
            [](ListObject& o, AnIndex index, nb::handle obj) noexcept {
                return result(insert(o, index.ptr(), obj.ptr()));
            },
            arg("index"), arg("obj"), "Put an object before the one at that index.")
        .def(
            "pop",
            [](ListObject& o, AnIndex index) noexcept { return result(pop(o, index.ptr())); },
            arg("index", -1), "Take an object out, the last one by default. Raises IndexError.")
        .def(
            "reverse",
            [](ListObject& o) noexcept {
                if (!usable(o)) return result(nullptr);
                Using call(o);
                return result(none_or(o, run(o, [&](WaitPolicy& p) { return o.sync.reverse(p); })));
            },
            "Turn the order round.")
        .def(
            "__contains__",
            [](ListObject& o, nb::handle value) noexcept {
                return result(contains(o, value.ptr()));
            },
            arg("value"))
        .def(
            "count",
            [](ListObject& o, nb::handle value) noexcept { return result(count(o, value.ptr())); },
            arg("value"), "Count the items that are equal to a value.")
        .def(
            "_index",
            [](ListObject& o, nb::handle value, ASlice bounds) noexcept {
                return result(index(o, value.ptr(), bounds.ptr()));
            },
            arg("value"), arg("bounds"))
        .def(
            "remove",
            [](ListObject& o, nb::handle value) noexcept { return result(remove(o, value.ptr())); },
            arg("value"), "Take the first item out that is equal to a value. Raises ValueError.")
        .def(
            "_at",
            [](ListObject& o, Py_ssize_t index, nb::handle otherwise) noexcept {
                if (!usable(o)) return result(nullptr);
                Using call(o);
                return result(get_at(o, index, otherwise.ptr()));
            },
            arg("index"), arg("otherwise"), "Give an item, or `otherwise` if there is none.")
        .def(
            "_repeat",
            [](ListObject& o, nb::handle times) noexcept { return result(repeat(o, times.ptr())); },
            arg("times"))
        .def(
            "_refs", [](ListObject& o) noexcept { return result(refs(o)); },
            "What is in it at one instant.")
        .def(
            "_reorder",
            [](ListObject& o, AList before, AList order) noexcept {
                try {
                    return result(reorder(o, before.ptr(), order.ptr()));
                } catch (const std::bad_alloc&) {
                    return result(PyErr_NoMemory());
                }
            },
            arg("before"), arg("order"),
            "Put what was at order[i] at i, if the list is still what `_refs` gave.");
    type.subscriptable();
    bind_container<ListObject>(type, kWhat);
}

}  // namespace onecopy::py
