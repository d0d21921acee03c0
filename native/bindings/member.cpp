#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/codec.hpp"
#include "bindings/objects.hpp"
#include "bindings/ref.hpp"
#include "recovery/recovery.hpp"

namespace onecopy::py {
namespace {

// ---- making and opening -------------------------------------------------------------------------

PyObject* create(CreateSpec spec) {
    std::shared_ptr<Member> member;
    Failure why;
    Status s;
    {
        Outside outside;
        s = create_pool(spec, member, why);
    }
    if (s != Status::ok) return raise_for_pool(s, why, spec.directory + "/" + spec.name);
    return member_object(pool_of(std::move(member)));
}

PyObject* open(const std::string& directory, const std::string& name) {
    std::shared_ptr<Member> member;
    Failure why;
    Status s;
    {
        Outside outside;
        s = open_pool(directory, name, member, why);
    }
    if (s != Status::ok) return raise_for_pool(s, why, directory + "/" + name);
    return member_object(pool_of(std::move(member)));
}

PyObject* unlink(Member& m) {
    Status s;
    {
        Outside outside;
        s = unlink_pool(m);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_for_pool(s, {}, m.path);
}

// ---- objects and arrays -------------------------------------------------------------------------

PyObject* put_object(const PoolPtr& pool, PyObject* object) noexcept {
    AtOnce memory;
    Held held = put(pool, memory, object);
    return held ? make_ref(std::move(held)) : nullptr;
}

PyObject* empty(const PoolPtr& pool, PyObject* shape, PyObject* dtype_object, bool zero,
                bool shared) noexcept {
    if (!PyTuple_Check(shape) || PyTuple_GET_SIZE(shape) > 32) {
        PyErr_SetString(PyExc_ValueError, "the shape of an array is a tuple of at most 32 numbers");
        return nullptr;
    }
    auto* dtype = reinterpret_cast<PyArray_Descr*>(dtype_object);
    if (!PyArray_DescrCheck(dtype_object) || !can_share(dtype)) {
        PyErr_SetString(PyExc_TypeError,
                        "an array in a pool has a numpy.dtype without Python objects");
        return nullptr;
    }
    npy_intp dims[32];
    const int ndim = static_cast<int>(PyTuple_GET_SIZE(shape));
    std::int64_t bytes = PyDataType_ELSIZE(dtype);
    bool fits = true, none = bytes == 0;
    for (int i = 0; i < ndim; ++i) {
        dims[i] = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i));
        if (dims[i] < 0) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "negative dimensions are not allowed");
            return nullptr;
        }
        if (dims[i] == 0) {
            none = true;
        } else {
            fits = fits && !__builtin_mul_overflow(bytes, dims[i], &bytes);
        }
    }
    if (none) {
        Py_INCREF(dtype);
        return PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, dims, nullptr, nullptr, 0, nullptr);
    }
    if (!fits) bytes = INT64_MAX;
    const BlockSpec spec{.bytes = static_cast<u64>(bytes),
                         .flags = static_cast<u8>(shared ? kFlagShared : 0)};
    Allocated block;
    if (const Status s = AtOnce().allocate(pool, spec, block); s != Status::ok)
        return raise_status(s, "the pool", pool, spec.bytes);
    Held held(pool, block.index);
    if (zero) {
        if (spec.bytes < kCopyOutside) {
            std::memset(block.data, 0, spec.bytes);
        } else {
            Outside outside;
            std::memset(block.data, 0, spec.bytes);
        }
        crash_point();
    }
    LeaseObject* lease = make_lease(std::move(held), true);
    if (lease == nullptr) return nullptr;
    Py_INCREF(dtype);
    PyObject* array = PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, dims, nullptr, lease->data,
                                           NPY_ARRAY_WRITEABLE, nullptr);
    if (array == nullptr) {
        Py_DECREF(lease);
        return nullptr;
    }
    if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array),
                              reinterpret_cast<PyObject*>(lease)) < 0)
        Py_CLEAR(array);
    return array;
}

// Holds the block of a handle that came from somewhere else; empty with an exception set.
Held hold_handle(const PoolPtr& pool, Handle handle, const char* what) noexcept {
    Status s = hold(pool->core(), handle);
    if (s == Status::corrupt && !pool->core().corrupt())
        s = Status::stale;  // a number that was never a handle of this pool
    if (s == Status::ok) return {pool, handle_index(handle)};
    raise_status(s, what);
    return {};
}

PyObject* make_hold(Held held, Handle handle) noexcept {
    PyObject* object = nb::inst_alloc(nb::type<HoldObject>()).release().ptr();
    if (object == nullptr) return nullptr;
    new (nb::inst_ptr<HoldObject>(object)) HoldObject{std::move(held), handle};
    nb::inst_mark_ready(object);
    return object;
}

PyObject* hold_object(const PoolPtr& pool, Handle handle) noexcept {
    Held held = hold_handle(pool, handle, "the block");
    return held ? make_hold(std::move(held), handle) : nullptr;
}

PyObject* ref_object(const PoolPtr& pool, Handle handle) noexcept {
    Held held = hold_handle(pool, handle, "the object that the reference points at");
    if (!held) return nullptr;
    if (!is_envelope(held))
        return raise(Error::stale, "the block of that handle is no object that was put");
    return make_ref(std::move(held));
}

PyObject* lease_object(const PoolPtr& pool, Handle handle) noexcept {
    Held held = hold_handle(pool, handle, "the array");
    return held ? reinterpret_cast<PyObject*>(make_lease(std::move(held), false)) : nullptr;
}

PyObject* where(const PoolPtr& pool, PyObject* object) noexcept {
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) != 0) return nullptr;
    Place place;
    const bool inside = locate(pool, object, static_cast<const unsigned char*>(view.buf),
                               view.len > 0 ? 1 : 0, place);
    PyBuffer_Release(&view);
    return inside ? PyLong_FromUnsignedLongLong(place.handle) : Py_NewRef(Py_None);
}

// ---- names --------------------------------------------------------------------------------------

// A name as the directory wants it. False with an exception set.
bool name_of(PyObject* object, u32 kind, bool store, std::string_view& out) noexcept {
    if (kind < 1 || kind > 5) {
        PyErr_SetString(PyExc_ValueError, "kind: 1 (object) to 5 (array)");
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
        return raise(Error::root, "the pool has as many names as it can have");
    return raise_status(s, "the pool's directory", pool, sizeof(NameEntry));
}

PyObject* name_set(const PoolPtr& pool, u32 kind, PyObject* name, PyObject* value,
                   bool only_new) noexcept {
    std::string_view text;
    Handle handle = 0, found = 0;
    if (!name_of(name, kind, true, text)) return nullptr;
    const Held held = held_by(pool, value, handle);
    if (!held) return nullptr;
    Status s;
    {
        GilPatience p;
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
        GilPatience p;
        s = directory::find(pool->core(), static_cast<NameKind>(kind), text, p, found);
    }
    return s == Status::ok ? make_hold(Held(pool, handle_index(found)), found)
                           : raise_name(s, name, pool);
}

PyObject* name_del(const PoolPtr& pool, u32 kind, PyObject* name) noexcept {
    std::string_view text;
    if (!name_of(name, kind, false, text)) return nullptr;
    Status s;
    {
        GilPatience p;
        s = directory::erase(pool->core(), static_cast<NameKind>(kind), text, p);
    }
    return s == Status::ok ? Py_NewRef(Py_None) : raise_name(s, name, pool);
}

PyObject* strings(const std::vector<std::string>& all) noexcept {
    PyObject* list = PyList_New(0);
    for (const std::string& each : all) {
        if (list == nullptr) break;
        PyObject* text =
            PyUnicode_DecodeUTF8(each.data(), static_cast<Py_ssize_t>(each.size()), "replace");
        if (text == nullptr || PyList_Append(list, text) != 0) Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

PyObject* name_list(const PoolPtr& pool, u32 kind) {
    std::vector<directory::Item> items;
    Status s;
    {
        GilPatience p;
        s = directory::list(pool->core(), p, items);
    }
    if (s != Status::ok) return raise_status(s, "the pool's directory");
    std::vector<std::string> names;
    for (directory::Item& item : items) {
        if (static_cast<u32>(item.kind) == kind) names.push_back(std::move(item.name));
    }
    return strings(names);
}

// ---- looking ------------------------------------------------------------------------------------

bool has_left(const Member& m) noexcept {
    return !m.joined.load();
}

// The kernel's answer: whether somebody holds the slot's byte. Our own slot's is ours, which the
// kernel does not tell us.
bool is_alive(const Member& m, u32 slot) noexcept {
    return slot == m.slot || (m.fd >= 0 && os::byte_is_locked(m.fd, kSlotByte + slot));
}

u32 rows_used(const Member& m) noexcept {
    return std::min(m.header().rows_used.load_acquire(), m.geo().max_processes);
}
bool is_taken(const Member& m, u32 slot) noexcept {
    return m.row(slot).state.load_acquire() != static_cast<u32>(RowState::free);
}

PyObject* stats(Member& m) noexcept {
    HeapStats heap;
    unsigned long long processes = 0;
    {
        Outside outside;
        heap = heap_stats(m);
        for (u32 i = 0; i < rows_used(m); ++i)
            processes += is_taken(m, i) && is_alive(m, i) ? 1 : 0;
    }
    auto number = [](u64 n) { return static_cast<unsigned long long>(n); };
    return Py_BuildValue("{sKsKsKsKsKsKsKsKsI}", "capacity", number(heap.capacity), "used",
                         number(heap.used), "body_bytes", number(heap.body_bytes), "committed",
                         number(heap.committed), "heap_top", number(heap.heap_top), "blocks",
                         number(heap.blocks), "bodies", number(heap.bodies), "processes", processes,
                         "max_processes", m.geo().max_processes);
}

struct Holder {
    u32 slot = 0;
    u32 pid = 0;
    bool alive = false;
    u64 start_ticks = 0, born_ns = 0, blocks = 0, bytes = 0;
};

std::vector<Holder> look_at_holders(Member& m) {
    std::vector<Holder> all(rows_used(m));
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    for (u32 i = 1; i < top; ++i) {
        Block& b = m.block(i);
        const BlockWord w{b.word.load_acquire()};
        if (w.state() != BlockState::live || (w.flags() & kFlagBody) != 0) continue;
        const u64 size = b.size.load_relaxed() - b.slack.load_relaxed();  // as `used` counts
        for (u32 word = 0; word < kHolderWords; ++word) {
            for (u64 bits = b.holder_word(word).load_relaxed(); bits != 0; bits &= bits - 1) {
                const u32 slot = word * 64 + static_cast<u32>(std::countr_zero(bits));
                if (slot >= all.size()) continue;
                ++all[slot].blocks;
                all[slot].bytes += size;
            }
        }
    }
    for (u32 i = 0; i < all.size(); ++i) {
        const Row& row = m.row(i);
        all[i].slot = i;
        all[i].pid = row.pid.load_relaxed();
        all[i].start_ticks = row.start_ticks.load_relaxed();
        all[i].born_ns = row.born_ns.load_relaxed();
        all[i].alive = is_alive(m, i);
    }
    std::erase_if(all, [&](const Holder& h) { return !is_taken(m, h.slot); });
    std::stable_sort(all.begin(), all.end(),
                     [](const Holder& a, const Holder& b) { return a.bytes > b.bytes; });
    return all;
}

PyObject* holders(Member& m) {
    std::vector<Holder> all;
    {
        Outside outside;
        all = look_at_holders(m);
    }
    PyObject* list = PyList_New(0);
    auto number = [](u64 n) { return static_cast<unsigned long long>(n); };
    for (const Holder& h : all) {
        if (list == nullptr) break;
        PyObject* one =
            Py_BuildValue("{sIsIsKsOsKsKsK}", "slot", h.slot, "pid", h.pid, "start_ticks",
                          number(h.start_ticks), "alive", h.alive ? Py_True : Py_False, "blocks",
                          number(h.blocks), "bytes", number(h.bytes), "born_ns", number(h.born_ns));
        if (one == nullptr || PyList_Append(list, one) != 0) Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

// ---- repairing ----------------------------------------------------------------------------------

PyObject* validate_pool(Member& m) {
    if (has_left(m)) return raise_status(Status::closed, "the pool");
    std::vector<std::string> wrong;
    {
        Outside outside;
        wrong = validate(m);
    }
    return strings(wrong);
}

PyObject* collect(Member& m) noexcept {
    if (has_left(m)) return raise_status(Status::closed, "the pool");
    u32 before, after;
    {
        Outside outside;
        before = m.header().live_blocks.load_relaxed();
        collect_dead(m);
        after = m.header().live_blocks.load_relaxed();
    }
    return PyLong_FromUnsignedLong(before > after ? before - after
                                                  : 0);  // others may have allocated meanwhile
}

PyObject* trim_pool(Member& m) noexcept {
    if (has_left(m)) return raise_status(Status::closed, "the pool");
    u64 bytes;
    {
        Outside outside;
        bytes = trim(m);
    }
    return PyLong_FromUnsignedLongLong(bytes);
}

std::string file_name(nb::handle object) {
    PyObject* bytes = nullptr;
    if (PyUnicode_FSConverter(object.ptr(), &bytes) == 0) throw nb::python_error();
    std::string name(PyBytes_AS_STRING(bytes), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes)));
    Py_DECREF(bytes);
    return name;
}

PyObject* sweep(const std::string& directory, const std::string& name, bool remove) {
    Orphan found;
    {
        Outside outside;
        found = sweep_pool(directory, name, remove);
    }
    const char* text = "failed";
    switch (found) {
        case Orphan::in_use:
            text = "in_use";
            break;
        case Orphan::removed:
            text = remove ? "removed" : "orphan";
            break;
        case Orphan::kept_persistent:
            text = "persistent";
            break;
        case Orphan::not_a_pool:
            text = "not_a_pool";
            break;
        case Orphan::failed:
            break;
    }
    return PyUnicode_FromString(text);
}

PyObject* check_pool_directory(const std::string& path, bool make) {
    Failure why;
    Status s;
    {
        Outside outside;
        s = check_directory(path, make, why);
    }
    if (s == Status::ok) return Py_NewRef(Py_None);
    if (s == Status::no_entry || s == Status::system_error) {
        errno = why.error != 0 ? why.error : ENOENT;
        PyObject* name =
            PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size()));
        if (name != nullptr) PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
        Py_XDECREF(name);
        return nullptr;
    }
    return raise_for_pool(s, why, path);
}

}  // namespace

void bind_member(nb::module_& m) {
    nb::class_<HoldObject>(m, "Hold", nb::is_weak_referenceable(), "Keeps a block of a pool alive.")
        .def_prop_ro(
            "handle", [](HoldObject& h) noexcept { return h.handle; }, "The block's number.")
        .def_prop_ro(
            "member", [](HoldObject& h) noexcept { return result(member_object(h.held.pool())); },
            nb::sig("def member(self) -> Member"))
        .def(
            "release", [](HoldObject& h) noexcept { h.held.release(); },
            "Let go of the block. Releasing twice does nothing.");

    nb::class_<MemberObject>(m, "Member", nb::is_weak_referenceable(),
                             "The process's membership in a pool: one per pool and process.")
        .def_static(
            "create",
            [](nb::handle directory, nb::handle name, u64 capacity, u32 max_processes, u32 mode,
               bool persistent, bool memfd, bool prefault) {
                return result(create({.directory = file_name(directory),
                                      .name = file_name(name),
                                      .capacity = capacity,
                                      .max_processes = max_processes,
                                      .mode = mode,
                                      .persistent = persistent,
                                      .memfd = memfd,
                                      .prefault = prefault}));
            },
            nb::arg("directory"), nb::arg("name"), nb::arg("capacity"), nb::arg("max_processes"),
            nb::arg("mode"), nb::arg("persistent"), nb::arg("memfd"), nb::arg("prefault"),
            nb::sig("def create(directory: str, name: str, capacity: int, max_processes: int, "
                    "mode: int, persistent: bool, memfd: bool, "
                    "prefault: bool) -> Member"))
        .def_static(
            "open",
            [](nb::handle directory, nb::handle name) {
                return result(open(file_name(directory), file_name(name)));
            },
            nb::arg("directory"), nb::arg("name"),
            nb::sig("def open(directory: str, name: str) -> Member"))
        .def_prop_ro(
            "id",
            [](MemberObject& o) noexcept {
                return result(PyBytes_FromStringAndSize(
                    reinterpret_cast<const char*>(o.pool->core().header().id), 16));
            },
            nb::sig("def id(self) -> bytes"))
        .def_prop_ro(
            "path",
            [](MemberObject& o) noexcept {
                const std::string& path = o.pool->core().path;
                return result(PyUnicode_DecodeFSDefaultAndSize(
                    path.data(), static_cast<Py_ssize_t>(path.size())));
            },
            nb::sig("def path(self) -> str"))
        .def_prop_ro("capacity",
                     [](MemberObject& o) noexcept { return o.pool->core().geo().capacity; })
        .def_prop_ro("max_processes",
                     [](MemberObject& o) noexcept { return o.pool->core().geo().max_processes; })
        .def_prop_ro("slot", [](MemberObject& o) noexcept { return o.pool->core().slot; })
        .def_prop_ro("persistent",
                     [](MemberObject& o) noexcept {
                         return (o.pool->core().header().flags & kPersistent) != 0;
                     })
        .def_prop_ro(
            "memfd",
            [](MemberObject& o) noexcept { return (o.pool->core().header().flags & kMemfd) != 0; })
        .def_prop_ro("others_may_write",
                     [](MemberObject& o) noexcept { return o.pool->others_may_write; })
        .def_prop_ro("joined",
                     [](MemberObject& o) noexcept { return o.pool->core().joined.load(); })
        .def(
            "put",
            [](MemberObject& o, nb::handle obj) noexcept {
                return result(put_object(o.pool, obj.ptr()));
            },
            nb::arg("obj").none(), nb::sig("def put(self, obj: object) -> Ref"))
        .def(
            "empty",
            [](MemberObject& o, nb::handle shape, nb::handle dtype, bool zero,
               bool shared) noexcept {
                return result(empty(o.pool, shape.ptr(), dtype.ptr(), zero, shared));
            },
            nb::arg("shape"), nb::arg("dtype"), nb::arg("zero"), nb::arg("shared"),
            nb::sig("def empty(self, shape: tuple[int, ...], dtype: numpy.dtype[typing.Any], zero: "
                    "bool, shared: bool) "
                    "-> numpy.typing.NDArray[typing.Any]"))
        .def(
            "stats", [](MemberObject& o) noexcept { return result(stats(o.pool->core())); },
            nb::sig("def stats(self) -> dict[str, int]"))
        .def(
            "validate", [](MemberObject& o) { return result(validate_pool(o.pool->core())); },
            nb::sig("def validate(self) -> list[str]"))
        .def(
            "collect", [](MemberObject& o) noexcept { return result(collect(o.pool->core())); },
            nb::sig("def collect(self) -> int"))
        .def(
            "trim", [](MemberObject& o) noexcept { return result(trim_pool(o.pool->core())); },
            nb::sig("def trim(self) -> int"))
        .def(
            "holders", [](MemberObject& o) { return result(holders(o.pool->core())); },
            nb::sig("def holders(self) -> list[dict[str, typing.Any]]"))
        .def(
            "unlink", [](MemberObject& o) { return result(unlink(o.pool->core())); },
            nb::sig("def unlink(self) -> None"))
        .def(
            "name_set",
            [](MemberObject& o, u32 kind, nb::handle name, nb::handle value,
               bool only_new) noexcept {
                return result(name_set(o.pool, kind, name.ptr(), value.ptr(), only_new));
            },
            nb::arg("kind"), nb::arg("name"), nb::arg("value"), nb::arg("only_new"),
            nb::sig("def name_set(self, kind: int, name: str, value: object, only_new: bool) -> "
                    "Hold | None"))
        .def(
            "name_get",
            [](MemberObject& o, u32 kind, nb::handle name) noexcept {
                return result(name_get(o.pool, kind, name.ptr()));
            },
            nb::arg("kind"), nb::arg("name"),
            nb::sig("def name_get(self, kind: int, name: str) -> Hold"))
        .def(
            "name_del",
            [](MemberObject& o, u32 kind, nb::handle name) noexcept {
                return result(name_del(o.pool, kind, name.ptr()));
            },
            nb::arg("kind"), nb::arg("name"),
            nb::sig("def name_del(self, kind: int, name: str) -> None"))
        .def(
            "name_list", [](MemberObject& o, u32 kind) { return result(name_list(o.pool, kind)); },
            nb::arg("kind"), nb::sig("def name_list(self, kind: int) -> list[str]"))
        .def(
            "name_count",
            [](MemberObject& o, u32 kind) noexcept {
                return directory::count(o.pool->core(), static_cast<NameKind>(kind));
            },
            nb::arg("kind"))
        .def(
            "hold",
            [](MemberObject& o, Handle handle) noexcept {
                return result(hold_object(o.pool, handle));
            },
            nb::arg("handle"), nb::sig("def hold(self, handle: int) -> Hold"))
        .def(
            "ref",
            [](MemberObject& o, Handle handle) noexcept {
                return result(ref_object(o.pool, handle));
            },
            nb::arg("handle"), nb::sig("def ref(self, handle: int) -> Ref"))
        .def(
            "lease",
            [](MemberObject& o, Handle handle) noexcept {
                return result(lease_object(o.pool, handle));
            },
            nb::arg("handle"), nb::sig("def lease(self, handle: int) -> Lease"))
        .def(
            "where",
            [](MemberObject& o, nb::handle obj) noexcept {
                return result(where(o.pool, obj.ptr()));
            },
            nb::arg("obj"), nb::sig("def where(self, obj: object) -> int | None"));

    m.def(
        "check_directory",
        [](nb::handle path, bool make) {
            return result(check_pool_directory(file_name(path), make));
        },
        nb::arg("path"), nb::arg("create"),
        nb::sig("def check_directory(path: str, create: bool) -> None"));
    m.def(
        "sweep_pool",
        [](nb::handle directory, nb::handle name, bool remove) {
            return result(sweep(file_name(directory), file_name(name), remove));
        },
        nb::arg("directory"), nb::arg("name"), nb::arg("remove"),
        nb::sig("def sweep_pool(directory: str, name: str, remove: bool) -> str"));
}

}  // namespace onecopy::py
