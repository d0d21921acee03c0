#include "bindings/member.hpp"
#include "bindings/instance.hpp"
#include "bindings/methods.hpp"

#include <optional>

#include "bindings/codec.hpp"
#include "bindings/ref.hpp"

namespace onecopy::py {

PyObject* make_hold(Held held, Handle handle) noexcept {
    PyObject* object = new_instance(nb::type<HoldObject>());
    if (object == nullptr) return nullptr;
    new (nb::inst_ptr<HoldObject>(object)) HoldObject{std::move(held), handle};
    nb::inst_mark_ready(object);
    return object;
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

namespace {

PyObject* put_object(const PoolPtr& pool, PyObject* object) noexcept {
    if (pool->core().readonly) return raise_readonly(pool->core().path);
    AtOnce memory;
    Held held = put(pool, memory, object);
    return held ? make_ref(std::move(held)) : nullptr;
}

// Whether there was unused memory. It is free now. -1 with an exception.
int release_spare(const PoolPtr& pool) noexcept {
    PyObject* module = PyImport_ImportModule("onecopy._core.memory_pressure");
    PyObject* member = module == nullptr ? nullptr : member_object(pool);
    if (member == nullptr) {
        Py_XDECREF(module);
        return -1;
    }
    PyObject* dropped = PyObject_CallMethod(module, "release_spare", "O", member);
    Py_DECREF(member);
    Py_DECREF(module);
    const int any = dropped == nullptr ? -1 : dropped == Py_True;
    Py_XDECREF(dropped);
    return any;
}

PyObject* empty(const PoolPtr& pool, PyObject* shape, PyObject* dtype_object, bool zero,
                bool shared) noexcept {
    if (pool->core().readonly) return raise_readonly(pool->core().path);
    constexpr int kMostDimensions = 64;  // numpy 2's limit; numpy 1 says its own below
    if (!PyTuple_Check(shape) || PyTuple_GET_SIZE(shape) > kMostDimensions) {
        PyErr_Format(PyExc_ValueError, "the shape of an array is a tuple of at most %d numbers",
                     kMostDimensions);
        return nullptr;
    }
    auto* dtype = reinterpret_cast<PyArray_Descr*>(dtype_object);
    if (!PyArray_DescrCheck(dtype_object) || !can_share(dtype)) {
        PyErr_SetString(PyExc_TypeError,
                        "an array in a pool has a numpy.dtype without Python objects");
        return nullptr;
    }
    npy_intp dims[kMostDimensions];
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
                         .flags = static_cast<u8>(shared ? kFlagShared : 0),
                         .zero_later = zero};
    Allocated block;
    Status s = AtOnce().allocate(pool, spec, block);
    if (s == Status::no_memory) {
        const int dropped = release_spare(pool);
        if (dropped < 0) return nullptr;
        if (dropped > 0) s = AtOnce().allocate(pool, spec, block);
    }
    if (s != Status::ok) return raise_status(s, "the pool", pool, spec.bytes);
    Held held(pool, block.index);
    if (zero) {
        std::optional<Outside> outside;
        if (spec.bytes >= kCopyOutside) outside.emplace();
        onecopy::zero(block, spec.bytes);
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

// A number from anywhere, as from a pickle. False with an exception set.
bool handle_from(PyObject* number, Handle& out) noexcept {
    out = PyLong_AsUnsignedLongLong(number);
    if (out != ~Handle{0} || !PyErr_Occurred()) return true;
    if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        if (PyObject* type = error_class(Error::stale))
            PyErr_Format(type, "%R was never the handle of anything", number);
    }
    return false;
}

// Holds the block of a handle that came from anywhere. Empty with an exception set.
Held hold_handle(const PoolPtr& pool, Handle handle, const char* what) noexcept {
    Status s = pool->core().corrupt() ? Status::corrupt : hold(pool->core(), handle);
    if (s == Status::corrupt && !pool->core().corrupt())
        s = Status::stale;  // a number that was never a handle of this pool
    if (s == Status::ok) return {pool, handle_index(handle)};
    raise_status(s, what, pool, 0);
    return {};
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
    if (!held) return nullptr;
    BlockInfo info;
    if (inspect(held.core(), held.index(), info) == Status::ok && (info.flags & kFlagBody) != 0)
        return raise(Error::stale, "the block of that handle is no array");
    return reinterpret_cast<PyObject*>(make_lease(std::move(held), false));
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

PyObject* fill_object(const PoolPtr& pool, PyObject* to, PyObject* from) noexcept {
    struct View : Py_buffer {
        bool held = false;
        bool get(PyObject* object, int flags) noexcept {
            return held = PyObject_GetBuffer(object, this, flags) == 0;
        }
        ~View() {
            if (held) PyBuffer_Release(this);
        }
    } target, source;
    if (!target.get(to, PyBUF_WRITABLE) || !source.get(from, PyBUF_SIMPLE)) return nullptr;
    if (target.len != source.len) {
        PyErr_Format(PyExc_ValueError, "%zd bytes do not fill an array of %zd bytes", source.len,
                     target.len);
        return nullptr;
    }
    if (target.len == 0) return Py_NewRef(Py_None);
    auto* data = static_cast<unsigned char*>(target.buf);
    Place place;
    if (!locate(pool, to, data, static_cast<u64>(target.len), place)) {
        PyErr_SetString(PyExc_ValueError, "what is to be filled does not lie in this pool");
        return nullptr;
    }
    copy_into_pool(pool->core(), data, source.buf, static_cast<u64>(target.len));
    return Py_NewRef(Py_None);
}

}  // namespace

void bind_member(nb::module_& m) {
    Class<HoldObject>(m, "Hold", nb::is_weak_referenceable(), "Keeps a block of a pool alive.")
        .def_prop_ro(
            "handle", [](HoldObject& h) noexcept { return h.handle; }, "The block's number.")
        .def_prop_ro("member",
                     [](HoldObject& h) noexcept {
                         auto&& held = look(h.held);
                         if (held) return result(member_object(held.pool()));
                         return result(raise(Error::stale, "the hold was released"));
                     })
        .def(
            "release", [](HoldObject& h) noexcept { take_out(h.held).release(); },
            "Release the block. Releasing twice does nothing.");

    Class<MemberObject>(m, "Member", nb::is_weak_referenceable(),
                        "The process's membership in a pool: one per pool and process.")
        .def_static(
            "create",
            [](nb::handle directory, nb::handle name, bool by_path, u64 capacity, u32 max_processes,
               u32 mode, bool persistent, bool memfd, bool prefault) {
                return result(create_member({.way = through(by_path),
                                             .directory = file_name(directory),
                                             .name = file_name(name),
                                             .capacity = capacity,
                                             .max_processes = max_processes,
                                             .mode = mode,
                                             .persistent = persistent,
                                             .memfd = memfd,
                                             .prefault = prefault}));
            },
            arg("directory"), arg("name"), arg("by_path"), arg("capacity"), arg("max_processes"),
            arg("mode"), arg("persistent"), arg("memfd"), arg("prefault"))
        .def_static(
            "open",
            [](nb::handle directory, nb::handle name, bool by_path, bool readonly,
               bool keep_stale) {
                return result(open_member(through(by_path), file_name(directory), file_name(name),
                                          readonly,
                                          keep_stale ? WhenStale::keep : WhenStale::remove));
            },
            arg("directory"), arg("name"), arg("by_path"), arg("readonly", false),
            arg("keep_stale", false))
        .def_prop_ro("id",
                     [](MemberObject& o) noexcept {
                         return result(PyBytes_FromStringAndSize(
                             reinterpret_cast<const char*>(o.pool->core().header().id), 16));
                     })
        .def_prop_ro("path",
                     [](MemberObject& o) noexcept {
                         const std::string& path = o.pool->core().name();
                         return result(PyUnicode_DecodeFSDefaultAndSize(
                             path.data(), static_cast<Py_ssize_t>(path.size())));
                     })
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
        .def_prop_ro(
            "in_memory",
            [](MemberObject& o) noexcept { return o.pool->core().file.identity().in_memory; })
        .def_prop_ro("others_may_write",
                     [](MemberObject& o) noexcept { return o.pool->others_may_write; })
        .def_prop_ro("readonly", [](MemberObject& o) noexcept { return o.pool->core().readonly; })
        .def_prop_ro(
            "file",
            [](MemberObject& o) {
                const os::FileIdentity& file = o.pool->core().file.identity();
                return nb::make_tuple(file.device, file.inode);
            },
            "Device and inode of the pool's memory.")
        .def_prop_ro("joined",
                     [](MemberObject& o) noexcept { return o.pool->core().joined.load(); })
        .def(
            "put",
            [](MemberObject& o, nb::handle obj) noexcept {
                return result(put_object(o.pool, obj.ptr()));
            },
            arg("obj"))
        .def(
            "empty",
            [](MemberObject& o, nb::handle shape, nb::handle dtype, bool zero,
               bool shared) noexcept {
                return result(empty(o.pool, shape.ptr(), dtype.ptr(), zero, shared));
            },
            arg("shape"), arg("dtype"), arg("zero"), arg("shared"))
        .def("stats", [](MemberObject& o) noexcept { return result(stats(o.pool->core())); })
        .def("validate", [](MemberObject& o) { return result(validate_pool(o.pool->core())); })
        .def("collect", [](MemberObject& o) noexcept { return result(collect(o.pool->core())); })
        .def("trim", [](MemberObject& o) noexcept { return result(trim_pool(o.pool->core())); })
        .def("holders", [](MemberObject& o) { return result(holders(o.pool->core())); })
        .def("things", [](MemberObject& o) { return result(things(o.pool->core())); })
        .def("flush", [](MemberObject& o) { return result(flush_member(o.pool->core())); })
        .def("unlink", [](MemberObject& o) { return result(unlink_member(o.pool->core())); })
        .def(
            "name_set",
            [](MemberObject& o, u32 kind, nb::handle name, nb::handle value,
               bool only_new) noexcept {
                return result(name_set(o.pool, kind, name.ptr(), value.ptr(), only_new));
            },
            arg("kind"), arg("name"), arg("value"), arg("only_new"))
        .def(
            "name_get",
            [](MemberObject& o, u32 kind, nb::handle name) noexcept {
                return result(name_get(o.pool, kind, name.ptr()));
            },
            arg("kind"), arg("name"))
        .def(
            "name_del",
            [](MemberObject& o, u32 kind, nb::handle name) noexcept {
                return result(name_del(o.pool, kind, name.ptr()));
            },
            arg("kind"), arg("name"))
        .def(
            "name_del_kinds",
            [](MemberObject& o, u32 kinds, nb::handle name) noexcept {
                return result(name_del_kinds(o.pool, kinds, name.ptr()));
            },
            arg("kinds"), arg("name"))
        .def(
            "name_del_unused",
            [](MemberObject& o, u32 kind, nb::handle name) noexcept {
                return result(name_del_unused(o.pool, kind, name.ptr()));
            },
            arg("kind"), arg("name"))
        .def(
            "name_list", [](MemberObject& o, u32 kind) { return result(name_list(o.pool, kind)); },
            arg("kind"))
        .def(
            "name_count",
            [](MemberObject& o, u32 kind) noexcept {
                Member& member = o.pool->core();
                if (member.excluded != Status::ok)
                    return result(raise_closed(member, "the pool's directory"));
                return result(
                    PyLong_FromUnsignedLong(directory::count(member, static_cast<NameKind>(kind))));
            },
            arg("kind"))
        .def(
            "hold",
            [](MemberObject& o, nb::handle number) noexcept {
                Handle handle;
                return result(handle_from(number.ptr(), handle) ? hold_object(o.pool, handle)
                                                                : nullptr);
            },
            arg("handle"))
        .def(
            "ref",
            [](MemberObject& o, nb::handle number) noexcept {
                Handle handle;
                return result(handle_from(number.ptr(), handle) ? ref_object(o.pool, handle)
                                                                : nullptr);
            },
            arg("handle"))
        .def(
            "lease",
            [](MemberObject& o, nb::handle number) noexcept {
                Handle handle;
                return result(handle_from(number.ptr(), handle) ? lease_object(o.pool, handle)
                                                                : nullptr);
            },
            arg("handle"))
        .def(
            "where",
            [](MemberObject& o, nb::handle obj) noexcept {
                return result(where(o.pool, obj.ptr()));
            },
            arg("obj"))
        .def(
            "fill",
            [](MemberObject& o, nb::handle array, nb::handle data) noexcept {
                return result(fill_object(o.pool, array.ptr(), data.ptr()));
            },
            arg("array"), arg("data"),
            "Write the bytes of a contiguous buffer into new memory of this pool, of as many "
            "bytes. Other "
            "threads run meanwhile; the two must not overlap.");
}

}  // namespace onecopy::py
