#include "bindings/lease.hpp"

#include <new>

#include "bindings/born.hpp"
#include "bindings/errors.hpp"

namespace onecopy::py {
namespace {

PyTypeObject* lease_type = nullptr;

// With every array that is handed over, leases are made and dropped: a few are kept for reuse.
// Without the GIL none: threads would have to agree.
#ifdef Py_GIL_DISABLED
LeaseObject* take_spare() noexcept {
    return nullptr;
}
bool keep_spare(LeaseObject*) noexcept {
    return false;
}
#else
constexpr int kSpareLeases = 64;
LeaseObject* spare[kSpareLeases];
int spares = 0;
LeaseObject* take_spare() noexcept {
    return spares > 0 ? spare[--spares] : nullptr;
}
bool keep_spare(LeaseObject* lease) noexcept {
    if (spares == kSpareLeases) return false;
    spare[spares++] = lease;
    return true;
}
#endif

LeaseObject* self_of(PyObject* object) noexcept {
    return reinterpret_cast<LeaseObject*>(object);
}

void lease_dealloc(PyObject* object) noexcept {
    LeaseObject* self = self_of(object);
    PyTypeObject* type = Py_TYPE(object);
    self->held.~Held();
    if (!keep_spare(self)) PyObject_Free(self);
    Py_DECREF(type);  // instances of heap types own a reference to their type
}

int lease_getbuffer(PyObject* object, Py_buffer* view, int flags) noexcept {
    LeaseObject* self = self_of(object);
    return PyBuffer_FillInfo(view, object, self->data, static_cast<Py_ssize_t>(self->length),
                             self->readonly ? 1 : 0, flags);
}

Py_ssize_t lease_length(PyObject* object) noexcept {
    return static_cast<Py_ssize_t>(self_of(object)->length);
}
PyObject* lease_member(PyObject* object, void*) noexcept {
    return member_object(self_of(object)->held.pool());
}
PyObject* lease_handle(PyObject* object, void*) noexcept {
    return PyLong_FromUnsignedLongLong(self_of(object)->handle);
}
PyObject* lease_readonly(PyObject* object, void*) noexcept {
    return PyBool_FromLong(self_of(object)->readonly ? 1 : 0);
}
PyObject* lease_nbytes(PyObject* object, void*) noexcept {
    return PyLong_FromUnsignedLongLong(self_of(object)->length);
}

// It is the `base` of every array from a pool: users look here when they may not write.
PyObject* lease_repr(PyObject* object) noexcept {
    const LeaseObject* self = self_of(object);
    const auto bytes = static_cast<unsigned long long>(self->length);
    if (!self->readonly)
        return PyUnicode_FromFormat("<onecopy memory, block %u, %llu bytes, writable>",
                                    handle_index(self->handle), bytes);
    return PyUnicode_FromFormat(
        "<onecopy memory, block %u, %llu bytes, read-only: others may read it too. "
        "onecopy.writable_copy(array) gives a private copy to write>",
        handle_index(self->handle), bytes);
}

PyGetSetDef properties[] = {
    {"member", lease_member, nullptr,
     "The process's membership in the pool that the memory belongs to.", nullptr},
    {"handle", lease_handle, nullptr, "The block's handle.", nullptr},
    {"readonly", lease_readonly, nullptr, "Whether the memory may only be read through this lease.",
     nullptr},
    {"nbytes", lease_nbytes, nullptr, "Bytes that the lease exports.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(lease_dealloc)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(lease_getbuffer)},
    {Py_sq_length, reinterpret_cast<void*>(lease_length)},
    {Py_tp_getset, properties},
    {Py_tp_repr, reinterpret_cast<void*>(lease_repr)},
    {Py_tp_doc, const_cast<char*>(
                    "Memory of a pool, kept alive for as long as this object lives. Supports the "
                    "buffer protocol.\n\nIt is the `base` of an array that was got from a "
                    "pool. Such an array is read-only, because other processes may read the "
                    "same memory: `onecopy.writable_copy` makes a private copy to write.")},
    {0, nullptr},
};

// No GC flag: a lease refers to no Python objects, so it is part of no cycle.
PyType_Spec spec = {
    "onecopy._native.Lease",
    sizeof(LeaseObject),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

}  // namespace

bool init_lease(PyObject* module) noexcept {
    lease_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
    return lease_type != nullptr &&
           PyModule_AddObjectRef(module, "Lease", reinterpret_cast<PyObject*>(lease_type)) == 0;
}

bool is_lease(PyObject* object) noexcept {
    return Py_TYPE(object) == lease_type;
}

LeaseObject* make_lease(Held held, bool writable) noexcept {
    BlockInfo info;
    if (inspect(held.core(), held.index(), info) != Status::ok || (info.flags & kFlagBody) != 0) {
        raise_corrupt(held.pool(), "a block");
        return nullptr;
    }
    LeaseObject* self = take_spare();
    if (self == nullptr) {
        self = static_cast<LeaseObject*>(PyObject_Malloc(sizeof(LeaseObject)));
        if (self == nullptr) {
            PyErr_NoMemory();
            return nullptr;
        }
    }
    PyObject_Init(reinterpret_cast<PyObject*>(self), lease_type);
    self->handle = handle_of(held.core(), held.index());
    new (&self->held) Held(std::move(held));
    self->block = self->data = info.data;
    self->block_length = self->length = info.length;
    self->shared = (info.flags & kFlagShared) != 0;
    // No other process would see stores into a private mapping.
    new (&self->readonly) Shared<bool>(self->held.core().readonly || (!writable && !self->shared));
    return self;
}

void narrow(LeaseObject* lease, u64 offset, u64 length) noexcept {
    lease->data = lease->block + offset;
    lease->length = length;
}

LeaseObject* lease_behind(PyObject* object) noexcept {
    while (object != nullptr) {
        if (Py_TYPE(object) == lease_type) return self_of(object);
        if (PyArray_Check(object)) {
            object = PyArray_BASE(reinterpret_cast<PyArrayObject*>(object));
        } else if (PyMemoryView_Check(object)) {
            object = PyMemoryView_GET_BASE(object);
        } else {
            return nullptr;
        }
    }
    return nullptr;
}

void seal(PyObject* array) noexcept {
    LeaseObject* lease = lease_behind(array);
    if (lease != nullptr) {
        if (lease->shared) return;
        lease->readonly = true;  // or `array.flags.writeable = True` would be allowed again
    }
    while (array != nullptr && PyArray_Check(array)) {
        auto* a = reinterpret_cast<PyArrayObject*>(array);
        PyArray_CLEARFLAGS(a, NPY_ARRAY_WRITEABLE);
        array = PyArray_BASE(a);
        if (array == nullptr) give_to_lease(a);
    }
}

}  // namespace onecopy::py
