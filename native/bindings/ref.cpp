#include "bindings/ref.hpp"

#include "bindings/codec.hpp"
#include "bindings/instance.hpp"
#include "bindings/methods.hpp"

namespace onecopy::py {
namespace {

PyTypeObject* ref_type = nullptr;

bool usable(const Held& held) noexcept {
    if (!held) {
        raise(Error::stale, "the reference was released; it refers to nothing");
        return false;
    }
    if (held.core().excluded == Status::ok) [[likely]]
        return true;
    raise_closed(held.core(), "the reference");
    return false;
}

nb::object get(RefObject& ref, nb::handle copy) noexcept {
    Copy how;
    if (!copy_from(copy.ptr(), how)) return result(nullptr);
    auto&& seen = look(ref.held);
    if (!usable(seen)) return result(nullptr);
    // Unpickling runs Python code, which may release the reference.
    const Held held = own(static_cast<decltype(seen)>(seen));
    return result(open_envelope(held, how));
}

nb::object take(RefObject& ref) noexcept {
    if (!usable(look(ref.held))) return result(nullptr);
    const Held held = take_out(ref.held);  // which leaves it released
#ifdef Py_GIL_DISABLED
    if (!usable(held)) return result(nullptr);  // another thread was faster
#endif
    return result(open_envelope(held, Copy::fresh));
}

nb::object reduce(RefObject& ref) noexcept {
    auto&& held = look(ref.held);
    if (!usable(held)) return result(nullptr);
    if (hooks.pool_handle == nullptr) {
        PyErr_SetString(PyExc_RuntimeError, "onecopy._native is not set up; import onecopy");
        return result(nullptr);
    }
    static Kept kept;
    PyObject* rebuild = kept.get();
    if (rebuild == nullptr) {
        PyObject* module = PyImport_ImportModule("onecopy.ref");
        if (module == nullptr) return result(nullptr);
        rebuild = kept.keep(PyObject_GetAttrString(module, "rebuild"));
        Py_DECREF(module);
        if (rebuild == nullptr) return result(nullptr);
    }
    PyObject* member = member_object(held.pool());
    PyObject* pool = member == nullptr ? nullptr : PyObject_CallOneArg(hooks.pool_handle, member);
    Py_XDECREF(member);
    if (pool == nullptr) return result(nullptr);
    return result(
        Py_BuildValue("O(NK)", rebuild, pool, static_cast<unsigned long long>(ref.handle)));
}

const char* form_of(Tag tag) noexcept {
    switch (tag) {
        case Tag::array:
            return "array";
        case Tag::long_text:
            return "str";
        case Tag::long_bytes:
            return "bytes";
        case Tag::packed:
        case Tag::packed_block:
            return "packed";
        default:
            return "other";
    }
}

nb::object look_at(RefObject& ref) noexcept {
    Glance seen{};
    auto&& held = look(ref.held);
    if (!usable(held) || !glance(held, seen)) return result(nullptr);
    return result(Py_BuildValue("sKO", form_of(seen.tag),
                                static_cast<unsigned long long>(seen.bytes),
                                seen.pickled ? Py_True : Py_False));
}

PyObject* as_html(nb::handle self) noexcept {
    PyObject* module = PyImport_ImportModule("onecopy.ref");
    PyObject* text =
        module == nullptr ? nullptr : PyObject_CallMethod(module, "as_html", "O", self.ptr());
    Py_XDECREF(module);
    return text;
}

// numpy calls this: `np.asarray(ref)`. All of it is about numpy, so it is in Python.
PyObject* as_array(nb::handle self, nb::handle dtype, nb::handle copy) noexcept {
    PyObject* module = PyImport_ImportModule("onecopy.ref");
    PyObject* array = module == nullptr ? nullptr
                                        : PyObject_CallMethod(module, "as_array", "OOO", self.ptr(),
                                                              dtype.ptr(), copy.ptr());
    Py_XDECREF(module);
    return array;
}

nb::object describe(RefObject& ref) noexcept {
    auto&& held = look(ref.held);
    if (!held) return result(PyUnicode_FromString("<onecopy.Ref, released>"));
    if (held.core().excluded != Status::ok)
        return result(PyUnicode_FromFormat("<onecopy.Ref to block %u, out of reach>",
                                           handle_index(ref.handle)));
    return result(PyUnicode_FromFormat("<onecopy.Ref to block %u, %llu bytes>",
                                       handle_index(ref.handle),
                                       static_cast<unsigned long long>(envelope_bytes(held))));
}

}  // namespace

bool is_ref(PyObject* object) noexcept {
    return Py_TYPE(object) == ref_type;
}
RefObject& ref_of(PyObject* object) noexcept {
    return *nb::inst_ptr<RefObject>(object);
}

PyObject* make_ref(Held held) noexcept {
    const Handle handle = handle_of(held.core(), held.index());
    PyObject* object = new_instance(reinterpret_cast<PyObject*>(ref_type));
    if (object == nullptr) return nullptr;
    new (nb::inst_ptr<RefObject>(object)) RefObject{std::move(held), handle};
    nb::inst_mark_ready(object);
    return object;
}

void bind_ref(nb::module_& m) {
    Class<RefObject> type(
        m, "Ref", nb::is_weak_referenceable(), nb::is_final(),
        // With a signature: calling the class is refused, whatever is passed.
        "Ref()\n--\n\n"
        "A reference to an object in a pool; keeps the object alive. Made by `Pool.put`.\n\n"
        "Examples\n--------\n"
        ">>> pool = oc.Pool(\"studio\", size=\"64MiB\")\n"
        ">>> ref = pool.put(np.zeros((480, 640), np.uint8))\n"
        ">>> ref.get().shape, ref.nbytes, ref.released\n"
        "((480, 640), 307200, False)\n"
        ">>> ref.get(copy=\"on_write\").flags.writeable\n"
        "True\n"
        ">>> pool.queue(\"refs\").put(ref)  # the reference is sent, not the array\n"
        ">>> ref.release()  # the one on the queue keeps the array\n"
        ">>> pool.queue(\"refs\").get().get().shape\n"
        "(480, 640)\n");
    type.subscriptable()
        .made_by("Pool.put")
        .def(
            "get", of<&get>, arg("copy", nb::none()),
            "Build the object from the pool. Its arrays and buffers are read where they lie, "
            "read-only. With copy=\"on_write\" they are writable and private, and a page is copied "
            "when it is written; with copy=True all of them are copied at once. "
            "`onecopy.writable_copy` copies one of them.")
        .def("_take", of<&take>,
             "As `get`, and release. Arrays that were copied for the object come out as private "
             "copies.")
        .def(
            // The pool too, as Channel::release does.
            "release", [](RefObject& r) noexcept { const Held last = take_out(r.held); },
            "Release the object. Releasing twice does nothing.")
        .def_prop_ro(
            "released", [](RefObject& r) noexcept { return !look(r.held); },
            "Whether the reference was released.")
        .def_prop_ro(
            "nbytes",
            [](RefObject& r) noexcept {
                auto&& held = look(r.held);
                return usable(held) ? result(PyLong_FromUnsignedLongLong(envelope_bytes(held)))
                                    : result(nullptr);
            },
            "Bytes in the pool that the reference keeps, with what they are stored with.")
        .def_prop_ro(
            "handle", [](RefObject& r) noexcept { return r.handle; },
            "The number of the object in its pool.")
        .def_prop_ro(
            "member",
            [](RefObject& r) noexcept {
                auto&& held = look(r.held);
                return usable(held) ? result(member_object(held.pool())) : result(nullptr);
            },
            "The process's membership in the pool.")
        .def("__array__", of<&as_array>, arg("dtype", nb::none()), arg("copy", nb::none()),
             "Give the array that it refers to, without a copy, for `numpy.asarray(ref)`.")
        .def("_glance", of<&look_at>,
             "What the pool says of the object, without building it: its form, the bytes that are "
             "read to build it, and whether that runs a pickle.")
        .def("_repr_html_", of<&as_html>,
             "Give a table for notebooks: type, shape, dtype, size, pool, and a picture.")
        .def("__reduce__", of<&reduce>)
        .def("__repr__", of<&describe>);
    ref_type = reinterpret_cast<PyTypeObject*>(type.ptr());
}

}  // namespace onecopy::py
