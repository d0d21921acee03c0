#include "frames/frames.hpp"

#include <memory>

#include "bindings/codec.hpp"
#include "bindings/methods.hpp"
#include "bindings/waited.hpp"

namespace onecopy::py {
namespace {

// What a frame is: dtype, u8 ndim, i64 shape[ndim].
constexpr u32 kMetaBytes = kFrameMetaBytes;
constexpr int kMaxDims = 15;

struct FramesObject : Channel {
    Frames frames;
    PyArray_Descr* dtype = nullptr;
    int ndim = 0;
    npy_intp shape[kMaxDims] = {};
    u64 bytes = 0;

    FramesObject() = default;
    FramesObject(FramesObject&& other) noexcept
        : Channel(std::move(other)),
          frames(other.frames),
          dtype(std::exchange(other.dtype, nullptr)),
          ndim(other.ndim),
          bytes(other.bytes) {
        std::copy(std::begin(other.shape), std::end(other.shape), shape);
    }
    ~FramesObject() { Py_XDECREF(dtype); }
};

bool usable(const FramesObject& f) noexcept {
    return f.usable("the set of frames");
}

bool count_bytes(FramesObject& f) noexcept {
    f.bytes = static_cast<u64>(PyDataType_ELSIZE(f.dtype));
    for (int i = 0; i < f.ndim; ++i) {
        if (f.shape[i] < 1 ||
            __builtin_mul_overflow(f.bytes, static_cast<u64>(f.shape[i]), &f.bytes))
            return false;
    }
    return f.bytes != 0 && f.bytes <= u64{1} << 46;
}

// From what Python passes. False with an exception set.
bool take_arguments(FramesObject& f, PyObject* shape, PyObject* dtype) noexcept {
    if (!PyTuple_Check(shape) || PyTuple_GET_SIZE(shape) > kMaxDims) {
        PyErr_Format(PyExc_ValueError, "the shape of a frame is a tuple of at most %d numbers",
                     kMaxDims);
        return false;
    }
    if (!PyArray_DescrCheck(dtype) || !can_share(reinterpret_cast<PyArray_Descr*>(dtype))) {
        PyErr_SetString(PyExc_TypeError,
                        "the dtype of a frame is a numpy.dtype without Python objects");
        return false;
    }
    f.dtype = reinterpret_cast<PyArray_Descr*>(Py_NewRef(dtype));
    f.ndim = static_cast<int>(PyTuple_GET_SIZE(shape));
    for (int i = 0; i < f.ndim; ++i) {
        f.shape[i] = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i));
        if (f.shape[i] == -1 && PyErr_Occurred()) return false;
    }
    if (!count_bytes(f)) {
        PyErr_SetString(PyExc_ValueError, "a frame has at least one byte, and less than 64 TiB");
        return false;
    }
    return true;
}

// From what the creator wrote. False with an exception set.
bool read_meta(FramesObject& f) noexcept {
    unsigned char meta[kMetaBytes];
    const u32 length = f.frames.meta_length();
    if (length > kMetaBytes) {
        raise_corrupt(f.pool, "the frames");
        return false;
    }
    std::memcpy(meta, f.frames.meta(), length);
    Reader from(meta, length);
    f.dtype = read_dtype(f.pool, from);
    if (f.dtype == nullptr) return false;
    u8 ndim = 0;
    bool sound = from.get(ndim) && ndim <= kMaxDims && from.left() >= 8 * std::size_t{ndim};
    f.ndim = sound ? ndim : 0;
    for (int i = 0; i < f.ndim; ++i)
        from.get(f.shape[i]);
    sound = sound && count_bytes(f) && f.bytes <= f.frames.frame_bytes();
    if (!sound) raise_corrupt(f.pool, "the frames");
    return sound;
}

// "no frame of frames 'cam0' is free: 4 of 4 are out, held by process 77 (3), this process (1)"
std::string none_free_text(FramesObject& f, const Deadline& deadline) {
    const u32 count = f.frames.count();
    std::string text =
        "no frame of " + title("the frames", nb::find(f)) +
        (deadline.from == 0 ? " is free" : " became free" + waited(deadline, " within ")) + ": " +
        std::to_string(count - f.frames.available()) + " of " + std::to_string(count) +
        " frames are out";
    const char* before = ", held by ";
    for (const FrameHolder& holder : f.frames.holders()) {
        text += before;
        before = ", ";
        if (holder.slot == kNoSlot) {
            text += "a queue, a stream, a container or a name";
        } else if (holder.slot == f.core().slot) {
            text += "this process";
        } else {
            text += "process " + std::to_string(holder.pid) + (holder.alive ? "" : ", dead");
        }
        text += " (" + std::to_string(holder.frames) + ")";
    }
    return text + ". A frame becomes free when its last array is deleted";
}

PyObject* acquire(FramesObject& f, const Deadline& deadline) noexcept {
    if (!usable(f)) return nullptr;
    Using call(f);
    Handle handle = 0;
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = f.frames.acquire(p, handle);
    }
    if (s == Status::timed_out || s == Status::would_block)
        return raise_in_vain(Error::empty, [&] { return none_free_text(f, deadline); });
    if (s != Status::ok) return raise_status(s, "the frames");
    LeaseObject* lease = make_lease(Held(f.pool, handle_index(handle)), true);
    if (lease == nullptr) return nullptr;
    if (f.bytes > lease->block_length) {
        Py_DECREF(lease);
        return raise_corrupt(f.pool, "a frame");
    }
    narrow(lease, 0, f.bytes);
    Py_INCREF(f.dtype);
    PyObject* array = PyArray_NewFromDescr(&PyArray_Type, f.dtype, f.ndim, f.shape, nullptr,
                                           lease->data, NPY_ARRAY_WRITEABLE, nullptr);
    if (array == nullptr) {
        Py_DECREF(lease);
        return nullptr;
    }
    if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array),
                              reinterpret_cast<PyObject*>(lease)) < 0)
        Py_CLEAR(array);
    return array;
}

PyObject* shape_of(const FramesObject& f) noexcept {
    PyObject* shape = PyTuple_New(f.ndim);
    for (int i = 0; shape != nullptr && i < f.ndim; ++i) {
        PyObject* count = PyLong_FromSsize_t(f.shape[i]);
        if (count != nullptr) {
            PyTuple_SET_ITEM(shape, i, count);
        } else {
            Py_CLEAR(shape);
        }
    }
    return shape;
}

void construct(FramesObject* self, nb::handle hold, nb::handle member, nb::handle shape,
               nb::handle dtype, u32 count) {
    auto fresh = std::make_unique<FramesObject>();
    bool create = false;
    check(open_channel(*fresh, hold.ptr(), member.ptr(), create));
    Status s = Status::ok;
    if (create) {
        check(take_arguments(*fresh, shape.ptr(), dtype.ptr()));
        unsigned char meta[kMetaBytes];
        Writer to(meta, meta + kMetaBytes);
        const auto rank = static_cast<std::size_t>(fresh->ndim);
        if (!write_dtype(fresh->dtype, to) || to.room() < 1 + 8 * rank) {
            if (!PyErr_Occurred())
                PyErr_Format(PyExc_ValueError,
                             "shape and dtype of a frame take more than %u bytes to write down",
                             kMetaBytes);
            throw nb::python_error();
        }
        to.put(static_cast<u8>(rank));
        to.put(fresh->shape, 8 * rank);
        GilWaitPolicy p;
        s = Frames::create(fresh->core(), count, fresh->bytes, meta,
                           static_cast<u32>(to.at() - meta), p, fresh->handle);
    }
    if (s == Status::ok) {
        if (create) fresh->held = Held(fresh->pool, handle_index(fresh->handle));
        s = Frames::open(fresh->core(), fresh->handle, fresh->frames);
        if (s == Status::bad_argument) {
            raise(Error::stale, "the block of that handle is no set of frames");
            throw nb::python_error();
        }
    }
    if (s != Status::ok) {
        raise_status(s, "the frames", fresh->pool, round_up(fresh->bytes, kUnit) * count);
        throw nb::python_error();
    }
    if (!create) check(read_meta(*fresh));
    new (self) FramesObject(std::move(*fresh));
}

PyObject* wait_ready(FramesObject& f, std::int64_t deadline) noexcept {
    if (!usable(f)) return nullptr;
    Using call(f);
    Status s;
    {
        GilWaitPolicy p(deadline);
        s = f.frames.wait_ready(p);
    }
    if (s == Status::ok) return Py_NewRef(Py_True);
    if (s == Status::timed_out || s == Status::would_block) return Py_NewRef(Py_False);
    return raise_status(s, "the frames");
}

PyObject* number(u64 n) noexcept {
    return PyLong_FromUnsignedLongLong(n);
}

}  // namespace

void bind_frames(nb::module_& m) {
    channel_kinds().push_back(&channel_of<FramesObject>);
    Class<FramesObject>(m, "FramesBase", nb::is_weak_referenceable(),
                        "Frames in a pool; see `onecopy.Frames`.")
        .subscriptable()
        .def("__init__", of<&construct>, arg("hold"), arg("member"), arg("shape"), arg("dtype"),
             arg("count"))
        .def(
            "acquire",
            [](FramesObject& f, Timeout timeout) noexcept {
                Deadline deadline;
                return result(deadline_of(timeout.ptr(), deadline) ? acquire(f, deadline)
                                                                   : nullptr);
            },
            arg("timeout", nb::none()),
            "A free frame, writable, with what was in it before. Raises queue.Empty.")
        .def(
            "_wait_ready",
            [](FramesObject& f, Timeout timeout) noexcept {
                Deadline deadline;
                return result(deadline_of(timeout.ptr(), deadline) ? wait_ready(f, deadline)
                                                                   : nullptr);
            },
            arg("timeout", nb::none()), "Wait until a frame is free, and take none.")
        .def(
            "detach", [](FramesObject& f) noexcept { f.detach(); },
            "Release the frames in this process; other processes keep them.")
        .def_prop_ro(
            "count",
            [](FramesObject& f) noexcept {
                return result(usable(f) ? number(f.frames.count()) : nullptr);
            },
            "How many frames there are.")
        .def_prop_ro(
            "available",
            [](FramesObject& f) noexcept {
                return result(usable(f) ? number(f.frames.available()) : nullptr);
            },
            "How many of them are free.")
        .def_prop_ro(
            "shape", [](FramesObject& f) noexcept { return result(shape_of(f)); }, "Of each frame.")
        .def_prop_ro(
            "dtype",
            [](FramesObject& f) noexcept {
                return result(Py_NewRef(reinterpret_cast<PyObject*>(f.dtype)));
            },
            "Of each frame.")
        .def_prop_ro(
            "handle", [](FramesObject& f) noexcept { return f.handle; },
            "The number of the frames in their pool.")
        .def_prop_ro(
            "member",
            [](FramesObject& f) noexcept {
                return result(usable(f) ? member_object(f.pool) : nullptr);
            },
            "The process's membership in the pool.");
}

}  // namespace onecopy::py
