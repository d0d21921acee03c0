// Arrays, memoryviews, long bytes and long strings: a message of a few numbers, and a block with
// the data.
#include "bindings/born.hpp"
#include "bindings/codec.hpp"
#include "bindings/errors.hpp"
#include "bindings/wait_policy.hpp"
#include "segment/fill.hpp"

namespace onecopy::py {
namespace {

PyObject* wrong_array(const PoolPtr& pool) noexcept {
    return raise_corrupt(pool, "an array's shape or place");
}

}  // namespace

bool extent(int ndim, const npy_intp* shape, const npy_intp* strides, npy_intp itemsize,
            std::int64_t& low, std::int64_t& high) noexcept {
    low = 0;
    high = itemsize;
    for (int i = 0; i < ndim; ++i) {
        std::int64_t reach;
        if (shape[i] < 0) return false;
        if (shape[i] == 0) {
            low = high = 0;
            return true;
        }
        if (__builtin_mul_overflow(shape[i] - 1, strides[i], &reach)) return false;
        std::int64_t& side = reach < 0 ? low : high;
        if (__builtin_add_overflow(side, reach, &side)) return false;
    }
    return true;
}

bool total(int ndim, const npy_intp* shape, npy_intp itemsize, std::int64_t& out) noexcept {
    out = itemsize;
    bool zero = itemsize == 0;
    for (int i = 0; i < ndim; ++i) {
        if (shape[i] < 0) return false;
        if (shape[i] == 0) {
            zero = true;
        } else if (__builtin_mul_overflow(out, shape[i], &out)) {
            return false;
        }
    }
    if (zero) out = 0;
    return true;
}

bool is_canonical(Order order, int ndim, const npy_intp* shape, const npy_intp* strides,
                  npy_intp itemsize) noexcept {
    npy_intp expected = itemsize;
    for (int i = 0; i < ndim; ++i) {
        const int axis = order == Order::fortran ? i : ndim - 1 - i;
        if (strides[axis] != expected) return false;
        expected *= shape[axis];
    }
    return true;
}

namespace {

// numpy refused a shape that no array can have.
PyObject* wrong_shape(const PoolPtr& pool) noexcept {
    if (!PyErr_ExceptionMatches(PyExc_ValueError)) return nullptr;
    PyErr_Clear();
    return wrong_array(pool);
}

// Formats that memoryview.cast can make, without the optional '@' in front.
char plain_format(const Py_buffer& view) noexcept {
    const char* format = view.format == nullptr ? "B" : view.format;
    if (*format == '@') ++format;
    if (format[0] == '\0' || format[1] != '\0' ||
        std::strchr("cbB?hHiIlLqQnNfdP", format[0]) == nullptr)
        return '\0';
    return format[0];
}

}  // namespace

void copy_into_pool(Member& m, unsigned char* to, const void* from, u64 bytes) noexcept {
    const auto* source = static_cast<const unsigned char*>(from);
    if (bytes < kCopyOutside) {
        copy_in(to, source, bytes);
    } else {
        Outside outside;
        fill(m, to, source, bytes);
    }
}

void copy_out_of_pool(void* to, const void* from, u64 bytes) noexcept {
    if (bytes < kCopyOutside) {
        std::memcpy(to, from, bytes);
    } else {
        Outside outside;
        std::memcpy(to, from, bytes);
    }
}

// ---- the place of memory ------------------------------------------------------------------------

bool locate(const PoolPtr& pool, PyObject* object, const unsigned char* memory, u64 length,
            Place& out) noexcept {
    Member& m = pool->core();
    if (!m.contains(memory)) return false;
    if (LeaseObject* lease = lease_behind(object); lease != nullptr && lease->held.pool() == pool) {
        if (memory < lease->block || length > lease->block_length ||
            memory > lease->block + (lease->block_length - length))
            return false;
        out.held = lease->held.again();
        out.handle = lease->handle;
        out.offset = static_cast<u64>(memory - lease->block);
        out.shared = lease->shared;
        return true;
    }
    if (u32 index; find_born(m, memory, length, index)) {
        BlockInfo info;
        if (inspect(m, index, info) != Status::ok) return false;
        hold_again(m, index);
        out.held = Held(pool, index);
        out.handle = handle_of(m, index);
        out.offset = static_cast<u64>(memory - info.data);
        out.shared = false;
        return true;
    }
    // An object of another library (for example an Arrow buffer) over memory of a pool: search the
    // blocks that this process holds.
    // [pool.blocks_top]
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    for (u32 i = 1; i < top; ++i) {
        if (__atomic_load_n(&m.local[i], __ATOMIC_RELAXED) == 0) continue;
        BlockInfo info;
        if (inspect(m, i, info) != Status::ok || (info.flags & kFlagBody) != 0) continue;
        if (memory < info.data || length > info.length ||
            memory > info.data + (info.length - length))
            continue;
        const Handle handle = handle_of(m, i);
        if (hold(m, handle) != Status::ok) return false;
        out.held = Held(pool, i);
        out.handle = handle;
        out.offset = static_cast<u64>(memory - info.data);
        out.shared = (info.flags & kFlagShared) != 0;
        return true;
    }
    return false;
}

int goes_by_name(const PoolPtr& pool, PyArrayObject* array, const unsigned char* memory,
                 std::int64_t length) noexcept {
    if (pool->others_may_write) return 0;
    if (LeaseObject* lease = lease_behind(reinterpret_cast<PyObject*>(array)); lease != nullptr)
        return lease->held && lease->held.core().readonly ? 1 : 0;
    if (!hooks.in_file.value) return 0;
    PyObject* in_file = hooks.in_file.value.get();
    if (in_file == nullptr) return 0;
    const auto address = static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(memory));
    PyObject* answer =
        PyObject_CallFunction(in_file, "KL", address, static_cast<long long>(length));
    Py_DECREF(in_file);
    if (answer == nullptr) return -1;
    const int yes = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return yes;
}

// ---- ndarray ------------------------------------------------------------------------------------

Done Encoding::encode_array(PyArrayObject* array) noexcept {
    PyArray_Descr* dtype = PyArray_DESCR(array);
    const int ndim = PyArray_NDIM(array);
    const npy_intp itemsize = PyArray_ITEMSIZE(array);
    if (!can_share(dtype) || itemsize <= 0 || ndim > kMaxDims) return Done::no;
    const npy_intp* shape = PyArray_DIMS(array);
    const npy_intp* strides = PyArray_STRIDES(array);
    const auto rank = static_cast<std::size_t>(ndim);

    Writer to(message.bytes, message.bytes + kInlineBytes);
    to.put(Tag::array);
    if (!write_dtype(dtype, to)) return PyErr_Occurred() ? Done::failed : Done::no;
    if (to.room() < 2 + 8 + 2 * 8 * rank) return Done::no;

    const bool c_order = PyArray_IS_C_CONTIGUOUS(array);
    const bool f_order = !c_order && PyArray_IS_F_CONTIGUOUS(array);
    Order order = c_order ? Order::c : f_order ? Order::fortran : Order::strided;
    auto* first = static_cast<unsigned char*>(PyArray_DATA(array));
    u64 offset = 0;
    std::int64_t low = 0, high = 0;
    if (!extent(ndim, shape, strides, itemsize, low, high)) return Done::no;
    if (high == 0) {
        order = Order::c;  // no elements, no block
    } else if (Place place; locate(pool_, reinterpret_cast<PyObject*>(array), first + low,
                                   static_cast<u64>(high - low), place)) {
        if (!is_canonical(order, ndim, shape, strides, itemsize)) order = Order::strided;
        offset = place.offset + static_cast<u64>(-low);
        const bool shared = place.shared;
        go_by(std::move(place));
        keep(reinterpret_cast<PyObject*>(array), !shared);
    } else if (const int named =
                   plain_only ? 0 : goes_by_name(pool_, array, first + low, high - low);
               named != 0) {
        return named < 0 ? Done::failed : Done::no;
    } else {
        const auto bytes = static_cast<u64>(PyArray_NBYTES(array));
        unsigned char* data = claim(bytes);
        if (data == nullptr) return Done::failed;
        offset = prefix_;
        if (order != Order::strided) {
            copy_into_pool(pool_->core(), data, first, bytes);
        } else {
            order = Order::c;
            Py_INCREF(dtype);
            PyObject* copy = PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, shape, nullptr, data,
                                                  NPY_ARRAY_CARRAY, nullptr);
            if (copy == nullptr) return Done::failed;
            const int failed = PyArray_CopyInto(reinterpret_cast<PyArrayObject*>(copy), array);
            Py_DECREF(copy);
            if (failed != 0) return Done::failed;
            crash_point();
        }
    }
    to.put(static_cast<u8>(ndim));
    to.put(static_cast<u8>(static_cast<u8>(order) | (new_block ? kFresh : 0)));
    to.put(offset);
    to.put(shape, 8 * rank);
    if (order == Order::strided) to.put(strides, 8 * rank);
    message.length = static_cast<u32>(to.at() - message.bytes);
    return Done::yes;
}

namespace {

// A private copy of an array. If its elements are not contiguous, the copy has the order that numpy
// keeps. Takes the reference to the dtype.
PyObject* copy_of_array(PyArray_Descr* dtype, int ndim, const npy_intp* shape,
                        const npy_intp* strides, Order order, unsigned char* first,
                        u64 bytes) noexcept {
    if (order == Order::strided) {
        PyObject* view =
            PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, shape, strides, first, 0, nullptr);
        if (view == nullptr) return nullptr;
        PyObject* copy = PyArray_NewCopy(reinterpret_cast<PyArrayObject*>(view), NPY_KEEPORDER);
        Py_DECREF(view);
        return copy;
    }
    PyObject* copy =
        PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, shape, nullptr, nullptr,
                             order == Order::fortran ? NPY_ARRAY_F_CONTIGUOUS : 0, nullptr);
    if (copy != nullptr)
        copy_out_of_pool(PyArray_DATA(reinterpret_cast<PyArrayObject*>(copy)), first, bytes);
    return copy;
}

}  // namespace

namespace {

// `type`: of the array. Only memory that processes share may have another type than ndarray.
PyObject* decode_array_as(PyTypeObject* type, const PoolPtr& pool, Reader& from, Held block,
                          Copy how) noexcept {
    PyArray_Descr* dtype = read_dtype(pool, from);
    if (dtype == nullptr) return nullptr;
    u8 ndim, order_byte;
    u64 offset;
    npy_intp shape[kMaxDims], strides[kMaxDims];
    const npy_intp itemsize = PyDataType_ELSIZE(dtype);
    std::int64_t low = 0, high = 0;
    bool sound = from.get(ndim) && from.get(order_byte) && from.get(offset);
    // The mode of multiprocessing applies only to copies, which are contiguous.
    if (how == Copy::fresh && sound)
        how = (order_byte & kFresh) != 0 && (order_byte & ~kFresh) != 2 ? Copy::all : Copy::unsaid;
    how = as_said(how);
    const bool writable = !is_read_only(how);
    order_byte &= static_cast<u8>(~kFresh);
    sound = sound && ndim <= kMaxDims && order_byte <= 2 && offset <= INT64_MAX / 2;
    const auto order = static_cast<Order>(order_byte);
    if (sound) {
        const unsigned char* data = from.take(8 * std::size_t{ndim});
        sound = data != nullptr;
        if (sound) std::memcpy(shape, data, 8 * std::size_t{ndim});
    }
    if (sound && order == Order::strided) {
        const unsigned char* data = from.take(8 * std::size_t{ndim});
        sound = data != nullptr;
        if (sound) std::memcpy(strides, data, 8 * std::size_t{ndim});
        sound = sound && extent(ndim, shape, strides, itemsize, low, high);
    } else if (sound) {
        sound = total(ndim, shape, itemsize, high);
    }
    if (!sound) {
        Py_DECREF(dtype);
        return wrong_array(pool);
    }
    if (high == low) {
        if (type != &PyArray_Type) {
            Py_DECREF(dtype);
            return wrong_array(pool);
        }
        PyObject* empty =
            PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, shape, nullptr, nullptr, 0, nullptr);
        if (empty == nullptr) return wrong_shape(pool);
        if (!writable)
            PyArray_CLEARFLAGS(reinterpret_cast<PyArrayObject*>(empty), NPY_ARRAY_WRITEABLE);
        return empty;
    }
    if (!block) {
        Py_DECREF(dtype);
        return wrong_array(pool);
    }
    LeaseObject* lease = make_lease(std::move(block), false);
    if (lease == nullptr) {
        Py_DECREF(dtype);
        return nullptr;
    }
    const auto start = static_cast<std::int64_t>(offset);
    std::int64_t end;
    if (start + low < 0 || __builtin_add_overflow(start, high, &end) ||
        static_cast<u64>(end) > lease->block_length) {
        Py_DECREF(dtype);
        Py_DECREF(lease);
        return wrong_array(pool);
    }
    if (type != &PyArray_Type && !lease->shared) {
        Py_DECREF(dtype);
        Py_DECREF(lease);
        return wrong_array(pool);
    }
    unsigned char* first = lease->block + offset;
    auto* base = reinterpret_cast<PyObject*>(lease);
    bool may_write = !lease->readonly;
    if (how != Copy::none && !lease->shared) {
        const auto bytes = static_cast<u64>(high - low);
        std::int64_t elements = 0;
        // Elements that share memory are copied separately: one store would change several.
        const bool overlap = order == Order::strided && total(ndim, shape, itemsize, elements) &&
                             elements > high - low;
        PrivateObject* pages = nullptr;
        if (how != Copy::all && !overlap) {
            Held again = lease->held.again();
            pages = map_privately(again, static_cast<u64>(start + low), bytes, !writable);
            if (pages == nullptr && PyErr_Occurred()) {
                Py_DECREF(dtype);
                Py_DECREF(lease);
                return nullptr;
            }
        }
        if (pages == nullptr) {
            PyObject* copy = copy_of_array(dtype, ndim, shape, strides, order, first, bytes);
            Py_DECREF(lease);
            if (copy == nullptr) return wrong_shape(pool);
            if (!writable)
                PyArray_CLEARFLAGS(reinterpret_cast<PyArrayObject*>(copy), NPY_ARRAY_WRITEABLE);
            return copy;
        }
        Py_DECREF(lease);
        first = pages->pages.data() - low;
        base = reinterpret_cast<PyObject*>(pages);
        may_write = writable;
    }
    const int flags = (may_write ? NPY_ARRAY_WRITEABLE : 0) |
                      (order == Order::fortran ? NPY_ARRAY_F_CONTIGUOUS : 0);
    PyObject* array =
        PyArray_NewFromDescr(type, dtype, ndim, shape, order == Order::strided ? strides : nullptr,
                             first, flags, nullptr);
    if (array == nullptr) {
        Py_DECREF(base);
        return wrong_shape(pool);
    }
    // Takes the reference to the base, also when it fails.
    if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array), base) < 0) Py_CLEAR(array);
    return array;
}

}  // namespace

PyObject* decode_array(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept {
    return decode_array_as(&PyArray_Type, pool, from, std::move(block), how);
}

PyObject* decode_shared_array(const PoolPtr& pool, Reader& from, Held block) noexcept {
    if (hooks.shared_array == nullptr) return wrong_array(pool);
    return decode_array_as(hooks.shared_array, pool, from, std::move(block), Copy::none);
}

// ---- memoryview ---------------------------------------------------------------------------------

Done Encoding::encode_view(PyObject* object) noexcept {
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) != 0) return Done::failed;
    struct Release {
        Py_buffer& view;
        ~Release() { PyBuffer_Release(&view); }
    } release{view};
    const char format = plain_format(view);
    const bool many = view.ndim > 1;
    if (format == '\0' || view.ndim < 1 || view.ndim > 8 || (many && view.len == 0) ||
        !PyBuffer_IsContiguous(&view, 'C'))
        return Done::no;
    const auto* memory = static_cast<const unsigned char*>(view.buf);
    const auto bytes = static_cast<u64>(view.len);
    u64 offset = 0;
    if (bytes == 0) {
        // no block
    } else if (Place place; locate(pool_, object, memory, bytes, place)) {
        offset = place.offset;
        go_by(std::move(place));
        keep(object, false);
    } else {
        unsigned char* data = claim(bytes);
        if (data == nullptr) return Done::failed;
        copy_into_pool(pool_->core(), data, memory, bytes);
        offset = prefix_;
    }
    Writer to(message.bytes, message.bytes + kInlineBytes);
    to.put(Tag::view);
    to.put(format);
    to.put(static_cast<u8>(view.ndim));
    to.put(offset);
    to.put(bytes);
    if (many) to.put(view.shape, 8 * static_cast<std::size_t>(view.ndim));
    message.length = static_cast<u32>(to.at() - message.bytes);
    return Done::yes;
}

PyObject* decode_view(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept {
    char format;
    u8 ndim;
    u64 offset, bytes;
    if (!from.get(format) || !from.get(ndim) || !from.get(offset) || !from.get(bytes) || ndim < 1 ||
        ndim > 8)
        return wrong_array(pool);
    PyObject* memory;
    if (bytes == 0) {
        PyObject* nothing = PyBytes_FromStringAndSize(nullptr, 0);
        if (nothing == nullptr) return nullptr;
        memory = PyMemoryView_FromObject(nothing);
        Py_DECREF(nothing);
    } else {
        if (!block) return wrong_array(pool);
        LeaseObject* lease = make_lease(std::move(block), false);
        if (lease == nullptr) return nullptr;
        if (bytes > lease->block_length || offset > lease->block_length - bytes) {
            Py_DECREF(lease);
            return wrong_array(pool);
        }
        narrow(lease, offset, bytes);
        auto* exporter = reinterpret_cast<PyObject*>(lease);
        how = as_said(how == Copy::fresh ? Copy::unsaid : how);  // multiprocessing sends no views
        if (how != Copy::none && !lease->shared) {
            exporter = memory_of(lease, offset, bytes, how);
            Py_DECREF(lease);
            if (exporter == nullptr) return nullptr;
        }
        memory = PyMemoryView_FromObject(exporter);
        Py_DECREF(exporter);
    }
    if (memory == nullptr || (format == 'B' && ndim == 1)) return memory;
    const char spelled[2] = {format, '\0'};
    PyObject* result = nullptr;
    if (ndim == 1) {
        result = PyObject_CallMethod(memory, "cast", "s", spelled);
    } else if (PyObject* shape = PyTuple_New(ndim); shape != nullptr) {
        bool sound = true;
        for (u8 i = 0; sound && i < ndim; ++i) {
            std::int64_t count = 0;
            PyObject* item = from.get(count) ? PyLong_FromLongLong(count) : nullptr;
            sound = item != nullptr;
            if (sound) PyTuple_SET_ITEM(shape, i, item);
        }
        if (sound) result = PyObject_CallMethod(memory, "cast", "sO", spelled, shape);
        Py_DECREF(shape);
    }
    Py_DECREF(memory);
    if (result == nullptr) {
        PyErr_Clear();  // inconsistent numbers
        return wrong_array(pool);
    }
    return result;
}

// ---- long bytes and strings ---------------------------------------------------------------------

Done Encoding::encode_long(PyObject* object) noexcept {
    const char* data;
    Py_ssize_t n;
    PyObject* encoded = nullptr;
    const bool text = PyUnicode_CheckExact(object);
    if (!text) {
        data = PyBytes_AS_STRING(object);
        n = PyBytes_GET_SIZE(object);
    } else if (PyUnicode_IS_COMPACT_ASCII(object)) {
        data = static_cast<const char*>(PyUnicode_DATA(object));
        n = PyUnicode_GET_LENGTH(object);
    } else {
        // Not AsUTF8AndSize: the string would keep the copy
        encoded = PyUnicode_AsUTF8String(object);
        if (encoded == nullptr) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return Done::failed;
            PyErr_Clear();
            return Done::no;
        }
        data = PyBytes_AS_STRING(encoded);
        n = PyBytes_GET_SIZE(encoded);
    }
    const auto bytes = static_cast<u64>(n);
    unsigned char* to_data = claim(bytes);
    if (to_data != nullptr) {
        copy_into_pool(pool_->core(), to_data, data, bytes);
        Writer to(message.bytes, message.bytes + kInlineBytes);
        to.put(text ? Tag::long_text : Tag::long_bytes);
        to.put(u64{prefix_});
        to.put(bytes);
        message.length = static_cast<u32>(to.at() - message.bytes);
    }
    Py_XDECREF(encoded);
    return to_data == nullptr ? Done::failed : Done::yes;
}

PyObject* decode_long(const PoolPtr& pool, Tag tag, Reader& from, Held block) noexcept {
    u64 offset, bytes;
    BlockInfo info;
    if (!from.get(offset) || !from.get(bytes) || !block ||
        inspect(block.core(), block.index(), info) != Status::ok || bytes > info.length ||
        offset > info.length - bytes) {
        return raise_corrupt(pool, "a long string");
    }
    const auto* data = reinterpret_cast<const char*>(info.data + offset);
    const auto n = static_cast<Py_ssize_t>(bytes);
    if (tag == Tag::long_text) {
        // The decoder reads the bytes more than once. An untrusted process may change them in
        // between, so the decoder gets a copy.
        PyObject* copy = pool->others_may_write ? PyBytes_FromStringAndSize(data, n) : nullptr;
        if (copy == nullptr && pool->others_may_write) return nullptr;
        PyObject* text =
            PyUnicode_DecodeUTF8(copy == nullptr ? data : PyBytes_AS_STRING(copy), n, nullptr);
        Py_XDECREF(copy);
        if (text == nullptr && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear();
            return raise_corrupt(pool, "a long string");
        }
        return text;
    }
    PyObject* result = PyBytes_FromStringAndSize(nullptr, n);
    if (result == nullptr) return nullptr;
    copy_out_of_pool(PyBytes_AS_STRING(result), data, bytes);
    return result;
}

}  // namespace onecopy::py
