#include <string_view>

#include "bindings/member.hpp"

namespace onecopy::py {

namespace {

// A name as the directory wants it. False with an exception set.
bool name_of(PyObject* object, u32 kind, bool store, std::string_view& out) noexcept {
    if (kind < 1 || kind > kNameKinds) {
        PyErr_Format(PyExc_ValueError, "kind: 1 (object) to %u", kNameKinds);
        return false;
    }
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "a name is a string, not %.200s", Py_TYPE(object)->tp_name);
        return false;
    }
    Py_ssize_t n = 0;
    const char* text = PyUnicode_AsUTF8AndSize(object, &n);
    if (text == nullptr) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return false;
        PyErr_Clear();
        if (store) {
            PyErr_Format(PyExc_ValueError, "the name %R cannot be written as UTF-8", object);
        } else {
            PyErr_SetObject(PyExc_KeyError, object);  // so nothing has that name
        }
        return false;
    }
    out = {text, static_cast<std::size_t>(n)};
    return true;
}

PyObject* raise_name(Status s, PyObject* name, const PoolPtr& pool) noexcept {
    if (s == Status::no_entry) {
        PyErr_SetObject(PyExc_KeyError, name);
        return nullptr;
    }
    if (s == Status::bad_argument) {
        PyErr_Format(PyExc_ValueError, "a name has 1 to %u bytes in UTF-8", kNameBytes);
        return nullptr;
    }
    if (s == Status::table_full)
        return raise(Error::root,
                     "no room for the name %R: the pool has %u, as many as it can have. Names stay "
                     "until they are taken away: Pool.delete, or del pool[name]",
                     name, pool->core().geo().max_names);
    return raise_status(s, "the pool's directory", pool, sizeof(NameEntry));
}

}  // namespace

PyObject* name_set(const PoolPtr& pool, u32 kind, PyObject* name, PyObject* value,
                   bool only_new) noexcept {
    if (pool->core().readonly) return raise_readonly(pool->core().path);
    std::string_view text;
    Handle handle = 0, found = 0;
    if (!name_of(name, kind, true, text)) return nullptr;
    const Held held = held_by(pool, value, handle);
    if (!held) return nullptr;
    Status s;
    {
        GilWaitPolicy p;
        s = directory::set(pool->core(), static_cast<NameKind>(kind), text, handle, only_new, p,
                           found);
    }
    if (s == Status::ok) return Py_NewRef(Py_None);
    if (s == Status::exists) return make_hold(Held(pool, handle_index(found)), found);
    return raise_name(s, name, pool);
}

PyObject* name_get(const PoolPtr& pool, u32 kind, PyObject* name) noexcept {
    std::string_view text;
    Handle found = 0;
    if (!name_of(name, kind, false, text)) return nullptr;
    Status s;
    {
        GilWaitPolicy p;
        s = directory::find(pool->core(), static_cast<NameKind>(kind), text, p, found);
    }
    return s == Status::ok ? make_hold(Held(pool, handle_index(found)), found)
                           : raise_name(s, name, pool);
}

PyObject* name_del(const PoolPtr& pool, u32 kind, PyObject* name) noexcept {
    if (pool->core().readonly) return raise_readonly(pool->core().path);
    std::string_view text;
    if (!name_of(name, kind, false, text)) return nullptr;
    Status s;
    {
        GilWaitPolicy p;
        s = directory::erase(pool->core(), static_cast<NameKind>(kind), text, p);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_name(s, name, pool);
}

PyObject* name_del_kinds(const PoolPtr& pool, u32 which, PyObject* name) noexcept {
    if (pool->core().readonly) return raise_readonly(pool->core().path);
    std::string_view text;
    if (!name_of(name, 1, false, text)) return nullptr;
    directory::KindSet erased = 0;
    Status s;
    {
        GilWaitPolicy p;
        s = directory::erase(pool->core(), which, text, p, erased);
    }
    if (s != Status::ok && s != Status::no_entry) return raise_name(s, name, pool);
    return PyLong_FromUnsignedLong(erased);
}

PyObject* name_del_unused(const PoolPtr& pool, u32 kind, PyObject* name) noexcept {
    if (pool->core().readonly) return raise_readonly(pool->core().path);
    std::string_view text;
    if (name != Py_None && !name_of(name, kind, false, text)) return nullptr;
    u32 erased = 0;
    Status s = Status::no_entry;
    if (name == Py_None || !text.empty()) {
        GilWaitPolicy p;
        s = directory::erase_unused(pool->core(), static_cast<NameKind>(kind), text, p, erased);
    }
    if (s != Status::ok && s != Status::no_entry) return raise_name(s, name, pool);
    return PyLong_FromUnsignedLong(erased);
}

PyObject* name_list(const PoolPtr& pool, u32 kind) {
    std::vector<directory::Item> items;
    Status s;
    {
        GilWaitPolicy p;
        s = directory::list(pool->core(), p, items);
    }
    if (s != Status::ok) return raise_status(s, "the pool's directory", pool, 0);
    std::vector<std::string> names;
    for (directory::Item& item : items) {
        if (static_cast<u32>(item.kind) == kind) names.push_back(std::move(item.name));
    }
    return strings(names);
}

}  // namespace onecopy::py
