// Objects of libraries (tables) that Python code takes apart, and builders of onecopy put together
// again: onecopy._codec.built. The arguments of a builder are packed like every other object.
//
//|  u8 Node::built, u8 which builder, node: a tuple of its arguments
#include "bindings/codec_buffers.hpp"
#include "bindings/codec_packed.hpp"
#include "bindings/errors.hpp"

namespace onecopy::py {

// ---- writing ------------------------------------------------------------------------------------

Apart::~Apart() {
    for (const Entry& entry : entries_) {
        Py_DECREF(entry.object);
        Py_XDECREF(entry.arguments);
    }
}

const Apart::Entry* Apart::find(PyObject* object) noexcept {
    const u64 met = index_.meet(object, entries_.size());
    if (met == Memo::kFailed) return nullptr;
    if (met != Memo::kNew) return &entries_[met];
    if (!entries_.add({object, nullptr, 0, closed_ ? State::refused : State::wanted}))
        return nullptr;
    Py_INCREF(object);
    if (closed_) settled_ = entries_.size();
    return &entries_.back();
}

bool Apart::settle() noexcept {
    while (settled_ < entries_.size()) {
        Entry& entry = entries_[settled_];
        PyObject* answer = PyObject_CallOneArg(hooks.take_apart, entry.object);
        if (answer == nullptr) return false;
        int builder = 0;
        PyObject* arguments = nullptr;
        if (answer != Py_None &&
            !PyArg_ParseTuple(answer, "iO!", &builder, &PyTuple_Type, &arguments)) {
            Py_DECREF(answer);
            return false;
        }
        entry.state = arguments == nullptr ? State::refused : State::ready;
        entry.builder = static_cast<u8>(builder);
        entry.arguments = Py_XNewRef(arguments);
        Py_DECREF(answer);
        ++settled_;
    }
    return true;
}

Done Packer::write_built(PyObject* object, int depth) noexcept {
    if (hooks.take_apart == nullptr || is_registered(Py_TYPE(object))) return Done::no;
    const Apart::Entry* entry = apart_.find(object);
    if (entry == nullptr) return Done::failed;
    if (entry->state == Apart::State::refused) return Done::no;
    if (entry->state == Apart::State::wanted) {
        // In its place until the walk begins again.
        if (!nodes_.room(1)) return Done::failed;
        nodes_.node(Node::none);
        return Done::yes;
    }
    if (depth >= kDeepest) {
        whole_ = true;
        return Done::failed;
    }
    if (const Done met = begin_whole(object); met != Done::no) return met;
    if (!nodes_.room(2)) return Done::failed;
    by_name_ = true;
    nodes_.node(Node::built);
    nodes_.byte(entry->builder);
    if (!write(entry->arguments, depth + 1, false)) return Done::failed;
    open_.drop();
    return Done::yes;
}

// ---- reading ------------------------------------------------------------------------------------

namespace {

constexpr u8 kBuilders = 32;
Kept builders[kBuilders];

// Borrowed. nullptr without an exception: there is none of that number.
PyObject* builder_of(u8 number) noexcept {
    if (number >= kBuilders || hooks.builder_of == nullptr) return nullptr;
    PyObject* known = builders[number].get();
    if (known != nullptr) return known;
    PyObject* found = PyObject_CallFunction(hooks.builder_of, "i", static_cast<int>(number));
    if (found == Py_None) Py_CLEAR(found);
    return found == nullptr ? nullptr : builders[number].keep(found);
}

}  // namespace

PyObject* Unpacker::read_built(u64 where, bool shared, int depth) noexcept {
    u8 number;
    std::size_t at = 0;
    if ((flags_ & kHasClasses) == 0 || depth >= kDeepest || !from_.get(number)) return wrong();
    if (shared && !reserve(where, at)) return nullptr;
    PyObject* arguments = read(depth + 1, false);
    if (arguments == nullptr) return nullptr;
    PyObject* made = nullptr;
    if (!PyTuple_CheckExact(arguments)) {
        wrong();
    } else if (PyObject* builder = builder_of(number); builder != nullptr) {
        made = PyObject_CallObject(builder, arguments);
        if (made == nullptr) explain();
    } else if (PyErr_Occurred()) {
        explain();
    } else {
        wrong();
    }
    Py_DECREF(arguments);
    if (made != nullptr && shared) met_[at].object = Py_NewRef(made);
    return made;
}

}  // namespace onecopy::py
