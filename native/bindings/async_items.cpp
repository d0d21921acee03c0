#include "bindings/async_items.hpp"

namespace onecopy::py {
namespace {

// Items that are taken one after the other before other tasks run. `_aio/waiting.py` has the same
// number for other calls.
constexpr u32 kInARow = 64;

struct ItemsObject {
    PyObject_HEAD PyObject* channel;
    TakeNow take;
    PyObject* later;
    Shared<u32> taken;
};

// What `__anext__` gives: it is awaited once, or dropped. Nothing is taken before it is awaited, so
// nothing is lost with it.
struct NextObject {
    PyObject_HEAD ItemsObject* items;  // null: it was awaited
    PyObject* coroutine;               // which waits in its place, or null
};

PyTypeObject *items_type, *next_type;

ItemsObject* items_of(PyObject* object) noexcept {
    return reinterpret_cast<ItemsObject*>(object);
}
NextObject* next_of(PyObject* object) noexcept {
    return reinterpret_cast<NextObject*>(object);
}

// ---- the iterator -------------------------------------------------------------------------------

int items_traverse(PyObject* object, visitproc visit, void* arg) noexcept {
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(items_of(object)->channel);
    Py_VISIT(items_of(object)->later);
    return 0;
}

int items_clear(PyObject* object) noexcept {
    Py_CLEAR(items_of(object)->channel);
    Py_CLEAR(items_of(object)->later);
    return 0;
}

template <int (*clear)(PyObject*) noexcept>
void dealloc(PyObject* object) noexcept {
    PyTypeObject* type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

PyObject* itself(PyObject* object) noexcept {
    return Py_NewRef(object);
}

PyObject* items_anext(PyObject* object) noexcept {
    NextObject* next = PyObject_GC_New(NextObject, next_type);
    if (next == nullptr) return nullptr;
    next->items = items_of(Py_NewRef(object));
    next->coroutine = nullptr;
    PyObject_GC_Track(next);
    return reinterpret_cast<PyObject*>(next);
}

PyType_Slot items_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(&dealloc<items_clear>)},
    {Py_tp_traverse, reinterpret_cast<void*>(&items_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(&items_clear)},
    {Py_am_aiter, reinterpret_cast<void*>(&itself)},
    {Py_am_anext, reinterpret_cast<void*>(&items_anext)},
    {Py_tp_doc, const_cast<char*>("The items of a queue or a subscription, for `async for`.")},
    {0, nullptr},
};

PyType_Spec items_spec = {
    "onecopy._native.AsyncItems",
    sizeof(ItemsObject),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
        Py_TPFLAGS_IMMUTABLETYPE,
    items_slots,
};

// ---- the awaitable of one item ------------------------------------------------------------------

int next_traverse(PyObject* object, visitproc visit, void* arg) noexcept {
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(next_of(object)->items);
    Py_VISIT(next_of(object)->coroutine);
    return 0;
}

int next_clear(PyObject* object) noexcept {
    Py_CLEAR(next_of(object)->items);
    Py_CLEAR(next_of(object)->coroutine);
    return 0;
}

// The item, if there is one; else `next` has a coroutine afterwards, or an exception is set.
PyObject* begin(NextObject& next, PyObject* value) noexcept {
    if (next.items == nullptr) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited __anext__()");
        return nullptr;
    }
    if (value != Py_None) {
        PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started __anext__()");
        return nullptr;
    }
    ItemsObject* items = std::exchange(next.items, nullptr);
    const bool pause = ++items->taken % kInARow == 0;
    PyObject* item = pause ? nullptr : items->take(items->channel);
    if (item == nullptr && !PyErr_Occurred())
        next.coroutine = PyObject_CallOneArg(items->later, pause ? Py_True : Py_False);
    Py_DECREF(items);
    return item;
}

PySendResult next_send(PyObject* object, PyObject* value, PyObject** out) noexcept {
    const Section section(object);
    NextObject& next = *next_of(object);
    *out = nullptr;
    if (next.coroutine == nullptr) {
        *out = begin(next, value);
        if (*out != nullptr) [[likely]]
            return PYGEN_RETURN;
        if (next.coroutine == nullptr) return PYGEN_ERROR;
    }
    PyObject* coroutine = Py_NewRef(next.coroutine);  // which may drop this object
    const PySendResult how = PyIter_Send(coroutine, value, out);
    if (how != PYGEN_NEXT) Py_CLEAR(next.coroutine);
    Py_DECREF(coroutine);
    return how;
}

// For callers that know generators only: what is returned is raised as StopIteration.
PyObject* sent(PyObject* object, PyObject* value) noexcept {
    PyObject* out;
    const PySendResult how = next_send(object, value, &out);
    if (how != PYGEN_RETURN) return out;
    PyObject* over = PyObject_CallOneArg(PyExc_StopIteration, out);
    Py_DECREF(out);
    if (over != nullptr) {
        PyErr_SetObject(PyExc_StopIteration, over);
        Py_DECREF(over);
    }
    return nullptr;
}

PyObject* next_iternext(PyObject* object) noexcept {
    return sent(object, Py_None);
}

PyObject* next_throw(PyObject* object, PyObject* args) noexcept {
    PyObject *type, *value = nullptr, *traceback = nullptr;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback)) return nullptr;
    const Section section(object);
    NextObject& next = *next_of(object);
    Py_CLEAR(next.items);
    if (next.coroutine == nullptr) {
        // As a coroutine that has not begun: it is over, and has done nothing.
        if (PyExceptionInstance_Check(type)) {
            PyErr_SetObject(PyExceptionInstance_Class(type), type);
        } else if (PyExceptionClass_Check(type)) {
            PyErr_SetObject(type, value == nullptr ? Py_None : value);
        } else {
            PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
        }
        return nullptr;
    }
    PyObject* coroutine = Py_NewRef(next.coroutine);
    PyObject* method = PyObject_GetAttrString(coroutine, "throw");
    PyObject* out = method == nullptr ? nullptr : PyObject_Call(method, args, nullptr);
    Py_XDECREF(method);
    if (out == nullptr) Py_CLEAR(next.coroutine);
    Py_DECREF(coroutine);
    return out;
}

PyObject* next_close(PyObject* object, PyObject*) noexcept {
    const Section section(object);
    NextObject& next = *next_of(object);
    Py_CLEAR(next.items);
    PyObject* coroutine = std::exchange(next.coroutine, nullptr);
    if (coroutine == nullptr) return Py_NewRef(Py_None);
    PyObject* done = PyObject_CallMethod(coroutine, "close", nullptr);
    Py_DECREF(coroutine);
    return done;
}

PyMethodDef next_methods[] = {
    {"send", &sent, METH_O, "Begin, or continue, to wait for the item."},
    {"throw", &next_throw, METH_VARARGS, "Raise an exception where it waits."},
    {"close", &next_close, METH_NOARGS, "Wait no longer."},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot next_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(&dealloc<next_clear>)},
    {Py_tp_traverse, reinterpret_cast<void*>(&next_traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(&next_clear)},
    {Py_am_await, reinterpret_cast<void*>(&itself)},
    {Py_am_send, reinterpret_cast<void*>(&next_send)},
    {Py_tp_iter, reinterpret_cast<void*>(&itself)},
    {Py_tp_iternext, reinterpret_cast<void*>(&next_iternext)},
    {Py_tp_methods, next_methods},
    {Py_tp_doc, const_cast<char*>("The next item of a queue or a subscription, to be awaited.")},
    {0, nullptr},
};

PyType_Spec next_spec = {
    "onecopy._native.NextItem",
    sizeof(NextObject),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
        Py_TPFLAGS_IMMUTABLETYPE,
    next_slots,
};

}  // namespace

PyObject* async_items(PyObject* channel, TakeNow take, PyObject* later) noexcept {
    ItemsObject* items = PyObject_GC_New(ItemsObject, items_type);
    if (items == nullptr) return nullptr;
    items->channel = Py_NewRef(channel);
    items->take = take;
    items->later = Py_NewRef(later);
    new (&items->taken) Shared<u32>(0);
    PyObject_GC_Track(items);
    return reinterpret_cast<PyObject*>(items);
}

bool init_async_items() noexcept {
    items_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&items_spec));
    next_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&next_spec));
    return items_type != nullptr && next_type != nullptr;
}

}  // namespace onecopy::py
