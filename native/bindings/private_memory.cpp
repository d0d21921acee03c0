#include "bindings/private_memory.hpp"

#include <new>

#include "bindings/codec.hpp"
#include "bindings/errors.hpp"
#include "bindings/objects.hpp"
#include "os/written_pages.hpp"

namespace onecopy::py {

namespace {

PyTypeObject* private_type = nullptr;
enum class Guard : u8 { automatic, off, on };
Shared<Guard> guard = Guard::automatic;
Shared<bool> has_torch = false;

PrivateObject* self_of(PyObject* object) noexcept {
    return reinterpret_cast<PrivateObject*>(object);
}

void dealloc(PyObject* object) noexcept {
    PrivateObject* self = self_of(object);
    PyTypeObject* type = Py_TYPE(object);
    self->pages.~PrivatePages();  // before the block may get another owner
    self->held.~Held();
    PyObject_Free(self);
    Py_DECREF(type);
}

int get_buffer(PyObject* object, Py_buffer* view, int flags) noexcept {
    PrivateObject* self = self_of(object);
    return PyBuffer_FillInfo(view, object, self->pages.data(),
                             static_cast<Py_ssize_t>(self->length), self->readonly ? 1 : 0, flags);
}

Py_ssize_t length(PyObject* object) noexcept {
    return static_cast<Py_ssize_t>(self_of(object)->length);
}
PyObject* describe(PyObject* object) noexcept {
    const PrivateObject* self = self_of(object);
    return PyUnicode_FromFormat("<private memory of this process, %llu bytes%s>",
                                static_cast<unsigned long long>(self->length),
                                self->readonly ? ", read-only" : "");
}
PyObject* is_readonly(PyObject* object, void*) noexcept {
    return PyBool_FromLong(self_of(object)->readonly ? 1 : 0);
}
PyObject* nbytes(PyObject* object, void*) noexcept {
    return PyLong_FromUnsignedLongLong(self_of(object)->length);
}

PyGetSetDef properties[] = {
    {"readonly", is_readonly, nullptr, "Whether the memory may only be read.", nullptr},
    {"nbytes", nbytes, nullptr, "Bytes that it exports.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(describe)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
    {Py_sq_length, reinterpret_cast<void*>(length)},
    {Py_tp_getset, properties},
    {Py_tp_doc,
     const_cast<char*>("Pages of a pool that this process has mapped for itself alone: a store "
                       "copies its page, and nobody else sees it. Supports the buffer protocol.")},
    {0, nullptr},
};

// No GC flag: it refers to no Python objects.
PyType_Spec spec = {
    "onecopy._native.PrivateMemory",
    sizeof(PrivateObject),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

PyObject* copy_of(const unsigned char* from, u64 bytes, bool readonly) noexcept {
    const auto n = static_cast<Py_ssize_t>(bytes);
    PyObject* copy = readonly ? PyBytes_FromStringAndSize(nullptr, n)
                              : PyByteArray_FromStringAndSize(nullptr, n);
    if (copy != nullptr)
        copy_out_of_pool(readonly ? PyBytes_AS_STRING(copy) : PyByteArray_AS_STRING(copy), from,
                         bytes);
    return copy;
}

PyObject* to_private(PyObject* object) noexcept {
    if (Py_TYPE(object) ==
        private_type) {  // of a message that is being rebuilt: it has no other user
        self_of(object)->readonly = false;
        return Py_NewRef(object);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) != 0) return nullptr;
    const auto* data = static_cast<const unsigned char*>(view.buf);
    const auto bytes = static_cast<u64>(view.len);
    LeaseObject* lease = lease_behind(object);
    const bool inside = lease != nullptr && data >= lease->block && bytes <= lease->block_length &&
                        static_cast<u64>(data - lease->block) <= lease->block_length - bytes;
    PyObject* result = inside ? memory_of(lease, static_cast<u64>(data - lease->block), bytes,
                                          lease->shared ? Copy::all : Copy::on_write)
                              : copy_of(data, bytes, false);
    PyBuffer_Release(&view);
    return result;
}

PyObject* was_written(PyObject* object) noexcept {
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) != 0) return nullptr;
    const os::Written found =
        os::is_written_privately(view.buf, static_cast<std::size_t>(view.len));
    PyBuffer_Release(&view);
    return PyBool_FromLong(found != os::Written::no);
}

}  // namespace

bool init_private_memory(PyObject* module) noexcept {
    private_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
    return private_type != nullptr &&
           PyModule_AddObjectRef(module, "PrivateMemory",
                                 reinterpret_cast<PyObject*>(private_type)) == 0;
}

void bind_private_memory(nb::module_& m) {
    m.def(
        "to_private", [](nb::handle buffer) noexcept { return result(to_private(buffer.ptr())); },
        nb::arg("buffer"), nb::sig("def to_private(buffer: object) -> object"),
        "Writable memory of this process alone that begins with the same bytes: pages of the pool "
        "that are copied when they are written, or a copy.");
    m.def(
        "was_written", [](nb::handle buffer) noexcept { return result(was_written(buffer.ptr())); },
        nb::arg("buffer"), nb::sig("def was_written(buffer: ReadableBuffer) -> bool"),
        "Whether a private page under these bytes was written. True also if the system does not "
        "tell.");
    m.def(
        "guard_writes",
        [](nb::handle on) noexcept -> nb::object {
            const Guard before = guard;
            guard = on.is_none() ? Guard::automatic : on.ptr() == Py_True ? Guard::on : Guard::off;
            if (before == Guard::automatic) return nb::none();
            return nb::bool_(before == Guard::on);
        },
        nb::arg("on").none(), nb::sig("def guard_writes(on: bool | None) -> bool | None"),
        "Whether what writes to read-only memory that was received, against the rules, writes for "
        "this process alone. None: once torch is loaded. Returns what it was before.");
    m.def(
        "guards_writes", []() noexcept { return as_said(Copy::unsaid) == Copy::guarded; },
        "Whether it does so now.");
    m.def(
        "check_copy",
        [](nb::handle copy) {
            Copy how;
            if (!copy_from(copy.ptr(), how)) throw nb::python_error();
        },
        nb::arg("copy").none(), nb::sig("def check_copy(copy: object) -> None"),
        "Raise ValueError for what `copy=` cannot be.");
    m.def(
        "is_private", []() noexcept { return Rebuilding::privately(); },
        "Whether what is being rebuilt in this thread is to be private, and writable.");
    m.def(
        "private_mappings", []() noexcept { return PrivatePages::count(); },
        "How many private mappings this process has.");
}

bool copy_from(PyObject* object, Copy& out) noexcept {
    if (object == Py_None) [[likely]] {
        out = Copy::unsaid;
        return true;
    }
    if (PyBool_Check(object)) {
        out = object == Py_True ? Copy::all : Copy::none;
        return true;
    }
    if (PyUnicode_Check(object) && PyUnicode_CompareWithASCIIString(object, "on_write") == 0) {
        out = Copy::on_write;
        return true;
    }
    PyErr_Format(PyExc_ValueError,
                 "copy=%R: it is None or False (arrays are read-only, and read where they lie), "
                 "\"on_write\" (writable, private, copied page by page when they are written) or "
                 "True (writable, private, copied at once)",
                 object);
    return false;
}

Copy as_said(Copy how) noexcept {
    if (how != Copy::unsaid) return how;
    if (guard != Guard::automatic) [[unlikely]]
        return guard == Guard::on ? Copy::guarded : Copy::none;
    // The size changes with each module that is imported. Looking the module up costs as much as a
    // lock.
    static Shared<Py_ssize_t> looked_at = -1;
    const Py_ssize_t modules = PyDict_GET_SIZE(PyImport_GetModuleDict());
    if (!has_torch && modules != looked_at) [[unlikely]] {
        looked_at = modules;
        static Kept kept;
        PyObject* name = interned(kept, "torch");
        const int found = name == nullptr ? 0 : PyDict_Contains(PyImport_GetModuleDict(), name);
        if (found < 0) PyErr_Clear();
        if (found > 0) has_torch = true;
    }
    return has_torch ? Copy::guarded : Copy::none;
}

PrivateObject* map_privately(Held& block, u64 offset, u64 bytes, bool readonly) noexcept {
    Member& m = block.core();
    BlockInfo info;
    if (bytes < kMapFrom || inspect(m, block.index(), info) != Status::ok) return nullptr;
    auto* self = static_cast<PrivateObject*>(PyObject_Malloc(sizeof(PrivateObject)));
    if (self == nullptr) {
        PyErr_NoMemory();
        return nullptr;
    }
    new (&self->pages) PrivatePages;
    if (self->pages.map(m, m.offset_of(info.data) + offset, bytes) != Status::ok) {
        PyObject_Free(self);
        return nullptr;
    }
    PyObject_Init(reinterpret_cast<PyObject*>(self), private_type);
    new (&self->held) Held(std::move(block));
    self->length = bytes;
    new (&self->readonly) Shared<bool>(readonly);
    return self;
}

PyObject* memory_of(LeaseObject* lease, u64 offset, u64 bytes, Copy how) noexcept {
    if (how == Copy::on_write || how == Copy::guarded) {
        Held block = lease->held.again();
        PrivateObject* mapped = map_privately(block, offset, bytes, how == Copy::guarded);
        if (mapped != nullptr) return reinterpret_cast<PyObject*>(mapped);
        if (PyErr_Occurred()) return nullptr;
    }
    return copy_of(lease->block + offset, bytes, how == Copy::guarded);
}

}  // namespace onecopy::py
