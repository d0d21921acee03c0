// The base of Value and Array: an object of ctypes, a lock, and access to the object under the
// lock without a Python frame. If the lock is one of ours, taking it is a call in C. Any other lock
// is called through its methods.
#include <Python.h>
#include <structmember.h>

#include <cstddef>

#include "bindings/guarded.hpp"
#include "bindings/methods.hpp"
#include "bindings/mutex.hpp"

namespace onecopy::py {
namespace {

PyTypeObject* guarded_type = nullptr;
PyTypeObject* attribute_type = nullptr;
PyObject* acquire_name = nullptr;
PyObject* release_name = nullptr;
PyObject* enter_name = nullptr;
PyObject* exit_name = nullptr;

struct Guarded {
    PyObject_HEAD PyObject* obj;
    PyObject* lock;
    MutexObject* mutex;  // the one of `lock`, which keeps it; nullptr: a lock of another kind
};

Guarded* guarded(PyObject* object) noexcept {
    return reinterpret_cast<Guarded*>(object);
}

bool initialized(PyObject* self) noexcept {
    if (relaxed(guarded(self)->lock) != nullptr) [[likely]]
        return true;
    PyErr_Format(PyExc_TypeError, "%.200s.__init__() was not called", Py_TYPE(self)->tp_name);
    return false;
}

// The object and its lock, for one call on an object that was initialized. Another thread may
// replace them meanwhile, and the lock that was taken must be released.
class Both {
  public:
    explicit Both(PyObject* self) noexcept {
        const Section section(self);
        lock = Py_NewRef(guarded(self)->lock);
        object = Py_NewRef(guarded(self)->obj);
        mutex = guarded(self)->mutex;
    }
    ~Both() {
        Py_DECREF(object);
        Py_DECREF(lock);
    }
    Both(const Both&) = delete;
    Both& operator=(const Both&) = delete;
    PyObject *object, *lock;
    MutexObject* mutex;
};

bool take(PyObject* lock, bool plain) noexcept {
    PyObject* answer = plain ? acquire_mutex(lock) : PyObject_CallMethodNoArgs(lock, acquire_name);
    Py_XDECREF(answer);
    return answer != nullptr;
}

bool give(PyObject* lock, MutexObject* mutex) noexcept {
    PyObject* answer =
        mutex != nullptr ? release_mutex(*mutex) : PyObject_CallMethodNoArgs(lock, release_name);
    Py_XDECREF(answer);
    return answer != nullptr;
}

// After an exception in between. That exception is passed on, unless releasing fails too: then it
// is the new one's context, as with `finally`.
void give_after_error(PyObject* lock, MutexObject* mutex) noexcept {
    SavedError first;
    if (give(lock, mutex)) {
        first.restore();
        return;
    }
    SavedError second;
    if (first.value() != second.value())
        PyException_SetContext(second.value(), Py_NewRef(first.value()));
    second.restore();
}

// `act(object)` gives a new reference, or nullptr with an exception; that is the result.
template <class Act>
PyObject* under_lock(PyObject* self, Act act) noexcept {
    if (!initialized(self)) return nullptr;
    const Both here(self);
    PyObject* answer = nullptr;
    if (take(here.lock, here.mutex != nullptr)) {
        answer = act(here.object);
        if (answer == nullptr) {
            give_after_error(here.lock, here.mutex);
        } else if (!give(here.lock, here.mutex)) {
            Py_CLEAR(answer);
        }
    }
    return answer;
}

// -------------------------------------------------------------------------------------- Guarded

int guarded_init(PyObject* self, PyObject* args, PyObject* keywords) noexcept {
    static const char* names[] = {"obj", "lock", nullptr};
    PyObject *object, *lock;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO:Guarded", const_cast<char**>(names),
                                     &object, &lock))
        return -1;
    MutexObject* mutex = plain_mutex(lock);
    PyObject *old_object, *old_lock;
    {
        const Section section(self);
        old_object = std::exchange(guarded(self)->obj, Py_NewRef(object));
        old_lock = std::exchange(guarded(self)->lock, Py_NewRef(lock));
        guarded(self)->mutex = mutex;
    }
    Py_XDECREF(old_object);
    Py_XDECREF(old_lock);
    return 0;
}

int guarded_traverse(PyObject* self, visitproc visit, void* arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(guarded(self)->obj);
    Py_VISIT(guarded(self)->lock);
    return 0;
}
int guarded_clear(PyObject* self) noexcept {
    guarded(self)->mutex = nullptr;
    Py_CLEAR(guarded(self)->lock);
    Py_CLEAR(guarded(self)->obj);
    return 0;
}
void guarded_dealloc(PyObject* self) noexcept {
    PyTypeObject* type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    guarded_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* get_obj(PyObject* self, PyObject*) noexcept {
    if (!initialized(self)) return nullptr;
    const Both here(self);
    return Py_NewRef(here.object);
}
PyObject* get_lock(PyObject* self, PyObject*) noexcept {
    if (!initialized(self)) return nullptr;
    const Both here(self);
    return Py_NewRef(here.lock);
}
PyObject* enter(PyObject* self, PyObject*) noexcept {
    if (!initialized(self)) return nullptr;
    const Both here(self);
    return here.mutex != nullptr ? acquire_mutex(here.lock)
                                 : PyObject_CallMethodNoArgs(here.lock, enter_name);
}
PyObject* leave(PyObject* self, PyObject* const* args, Py_ssize_t count) noexcept {
    if (!initialized(self)) return nullptr;
    const Both here(self);
    if (count != 3) {
        PyErr_Format(PyExc_TypeError, "__exit__() takes 3 arguments, not %zd", count);
        return nullptr;
    }
    if (here.mutex != nullptr) return release_mutex(*here.mutex);
    PyObject* all[] = {here.lock, args[0], args[1], args[2]};
    return PyObject_VectorcallMethod(exit_name, all, 4, nullptr);
}
PyObject* get_item(PyObject* self, PyObject* key) noexcept {
    return under_lock(self, [key](PyObject* object) { return PyObject_GetItem(object, key); });
}
PyObject* set_item(PyObject* self, PyObject* const* args, Py_ssize_t count) noexcept {
    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "__setitem__() takes 2 arguments, not %zd", count);
        return nullptr;
    }
    return under_lock(self, [args](PyObject* object) {
        return PyObject_SetItem(object, args[0], args[1]) == 0 ? Py_NewRef(Py_None) : nullptr;
    });
}

// `acquire` and `release` are the lock's own, bound to it.
PyObject* lock_method(PyObject* self, void* name) noexcept {
    if (!initialized(self)) return nullptr;
    const Both here(self);
    return PyObject_GetAttr(here.lock, *static_cast<PyObject**>(name));
}

PyMethodDef methods[] = {
    {"get_obj", get_obj, METH_NOARGS,
     "get_obj($self, /)\n--\n\nGive the object itself, whose access no lock guards."},
    {"get_lock", get_lock, METH_NOARGS, "get_lock($self, /)\n--\n\nGive the lock."},
    {"__enter__", enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", as_method(leave), METH_FASTCALL,
     "__exit__($self, kind, error, traceback, /)\n--\n\n"},
    {"_get_item", get_item, METH_O, "_get_item($self, key, /)\n--\n\n"},
    {"_set_item", as_method(set_item), METH_FASTCALL, "_set_item($self, key, value, /)\n--\n\n"},
    class_getitem,
    {nullptr, nullptr, 0, nullptr},
};
PyGetSetDef properties[] = {
    {"acquire", lock_method, nullptr, "Take the lock: its own method.", &acquire_name},
    {"release", lock_method, nullptr, "Give the lock back: its own method.", &release_name},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};
PyMemberDef members[] = {
    {"_obj", T_OBJECT_EX, offsetof(Guarded, obj), READONLY, nullptr},
    {"_lock", T_OBJECT_EX, offsetof(Guarded, lock), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};
PyType_Slot guarded_slots[] = {
    {Py_tp_init, reinterpret_cast<void*>(guarded_init)},
    {Py_tp_new, reinterpret_cast<void*>(PyType_GenericNew)},
    {Py_tp_traverse, reinterpret_cast<void*>(guarded_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(guarded_clear)},
    {Py_tp_dealloc, reinterpret_cast<void*>(guarded_dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_tp_members, members},
    {Py_tp_doc, const_cast<char*>("Guarded(obj, lock)\n--\n\n"
                                  "An object, and the lock under which it is read and written.")},
    {0, nullptr},
};
PyType_Spec guarded_spec = {
    "onecopy._native.Guarded",
    sizeof(Guarded),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    guarded_slots,
};

// ----------------------------------------------------------------------------- GuardedAttribute

struct Attribute {
    PyObject_HEAD PyObject* name;
};

PyObject* name_of(PyObject* self) noexcept {
    return reinterpret_cast<Attribute*>(self)->name;
}

PyObject* attribute_new(PyTypeObject* type, PyObject* args, PyObject* keywords) noexcept {
    static const char* names[] = {"name", nullptr};
    PyObject* name;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "U:GuardedAttribute",
                                     const_cast<char**>(names), &name))
        return nullptr;
    PyObject* self = type->tp_alloc(type, 0);
    if (self == nullptr) return nullptr;
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    reinterpret_cast<Attribute*>(self)->name = name;
    return self;
}
void attribute_dealloc(PyObject* self) noexcept {
    PyTypeObject* type = Py_TYPE(self);
    Py_XDECREF(name_of(self));
    type->tp_free(self);
    Py_DECREF(type);
}

bool belongs(PyObject* object) noexcept {
    if (PyObject_TypeCheck(object, guarded_type)) [[likely]]
        return true;
    PyErr_Format(PyExc_TypeError, "a guarded attribute is one of a Guarded, not of a %.200s",
                 Py_TYPE(object)->tp_name);
    return false;
}
PyObject* attribute_get(PyObject* self, PyObject* object, PyObject*) noexcept {
    if (object == nullptr || object == Py_None) return Py_NewRef(self);
    if (!belongs(object)) return nullptr;
    return under_lock(object, [self](PyObject* of) { return PyObject_GetAttr(of, name_of(self)); });
}
int attribute_set(PyObject* self, PyObject* object, PyObject* value) noexcept {
    if (!belongs(object)) return -1;
    if (value == nullptr) {
        PyErr_Format(PyExc_AttributeError, "%R cannot be deleted", name_of(self));
        return -1;
    }
    PyObject* answer = under_lock(object, [self, value](PyObject* of) {
        return PyObject_SetAttr(of, name_of(self), value) == 0 ? Py_NewRef(Py_None) : nullptr;
    });
    Py_XDECREF(answer);
    return answer == nullptr ? -1 : 0;
}

PyType_Slot attribute_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(attribute_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(attribute_dealloc)},
    {Py_tp_descr_get, reinterpret_cast<void*>(attribute_get)},
    {Py_tp_descr_set, reinterpret_cast<void*>(attribute_set)},
    {Py_tp_doc, const_cast<char*>("GuardedAttribute(name)\n--\n\n"
                                  "An attribute of a Guarded's object, under the lock.")},
    {0, nullptr},
};
// No GC flag: it refers to a string.
PyType_Spec attribute_spec = {"onecopy._native.GuardedAttribute", sizeof(Attribute), 0,
                              Py_TPFLAGS_DEFAULT, attribute_slots};

}  // namespace

bool init_guarded(PyObject* module) noexcept {
    acquire_name = PyUnicode_InternFromString("acquire");
    release_name = PyUnicode_InternFromString("release");
    enter_name = PyUnicode_InternFromString("__enter__");
    exit_name = PyUnicode_InternFromString("__exit__");
    if (acquire_name == nullptr || release_name == nullptr || enter_name == nullptr ||
        exit_name == nullptr)
        return false;
    guarded_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&guarded_spec));
    attribute_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&attribute_spec));
    return guarded_type != nullptr && attribute_type != nullptr &&
           PyModule_AddObjectRef(module, "Guarded", reinterpret_cast<PyObject*>(guarded_type)) ==
               0 &&
           PyModule_AddObjectRef(module, "GuardedAttribute",
                                 reinterpret_cast<PyObject*>(attribute_type)) == 0;
}

}  // namespace onecopy::py
