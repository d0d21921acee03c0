// The type of a channel's messages: the check of each message, and the change between objects of
// classes and plain ones, which the codec takes. docs/design/0020.
//
//|  record of any class        a tuple of its fields, in their order
//|  dict with absent keys      a dict of the others
//|  everything else            itself
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "bindings/codec.hpp"
#include "bindings/objects.hpp"
#include "bindings/waited.hpp"

namespace onecopy::py {

// Why a message does not fit: the path to the field, and the reason. It is made on the way out.
class Refusal {
  public:
    Refusal() = default;
    Refusal(const Refusal&) = delete;
    Refusal& operator=(const Refusal&) = delete;
    ~Refusal() {
        Py_XDECREF(path_);
        Py_XDECREF(reason_);
    }
    // All of them return nullptr, and set an exception if there is no memory.
    PyObject* because(PyObject* reason) noexcept;  // takes the reference
    PyObject* in_field(PyObject* name) noexcept;
    PyObject* at(Py_ssize_t index) noexcept;
    PyObject* at_key(PyObject* key) noexcept;
    // TypeError to a sender, PoolCorrupted to a receiver; another exception that is set stays.
    PyObject* raise(const std::string& channel, bool received) const noexcept;

  private:
    PyObject* prepend(PyObject* part) noexcept;
    PyObject* path_ = nullptr;
    PyObject* reason_ = nullptr;
};

// One type within a type. onecopy._typed.plan describes it.
struct TypeNode {
    enum class Kind : u8 {
        none = 0,
        boolean,
        integer,
        real,
        complex,
        text,
        bytes,
        scalar,  // of numpy, of one class
        array,
        list,
        run,    // a tuple of any length
        tuple,  // with a type for each element
        dict,
        record
    };
    enum class Form : u8 {
        object = 0,  // attributes
        named,       // a named tuple
        mapping,     // a dict with all the keys
        partial      // a dict; keys may be absent
    };
    struct Field {
        PyObject* name;
        bool required;
        Py_ssize_t offset;  // of its slot in the object; 0: it has none
    };

    TypeNode() = default;
    TypeNode(TypeNode&& other) noexcept;
    TypeNode& operator=(TypeNode&&) = delete;
    TypeNode(const TypeNode&) = delete;
    ~TypeNode();

    // False with an exception set; throws bad_alloc.
    bool read(PyObject* description, int depth);
    bool read_array(PyObject* description);
    bool read_record(PyObject* description, int depth);
    bool add(PyObject* description, int depth);
    int traverse(visitproc visit, void* arg) const noexcept;

    Kind kind = Kind::none;
    bool nullable = false;
    PyObject* what = nullptr;      // a str, for errors
    PyTypeObject* type = nullptr;  // of a scalar or record
    std::vector<TypeNode> children;
    // ---- of a record
    Form form = Form::object;
    std::vector<Field> fields;
    // ---- of an array
    std::string kinds;               // numpy's letters; empty: any
    npy_intp itemsize = 0;           // 0: any
    PyArray_Descr* dtype = nullptr;  // exactly this one
    bool any_shape = true;
    int rest = -1;                     // where any number of dimensions may be
    std::vector<npy_intp> dimensions;  // kAny; kFirstName and below: names
    static constexpr npy_intp kAny = -1, kFirstName = -2;
};

constexpr std::size_t kDimensionNames = 32;

class MessageType {
  public:
    explicit MessageType(PyObject* description);  // throws python_error, bad_alloc
    // A plain object as the codec takes it. A new reference; nullptr: `why`, or an exception.
    PyObject* take_apart(PyObject* object, Refusal& why) const noexcept;
    // The object of a message, as `decode` gives it; nullptr as above.
    PyObject* receive(const PoolPtr& pool, const Message& message, Copy how,
                      Refusal& why) const noexcept;
    int traverse(visitproc visit, void* arg) const noexcept { return root_.traverse(visit, arg); }

  private:
    TypeNode root_;
};

// The type that a channel's object has; none: the channel is untyped.
struct Typing {
    nb::object holder;
    Shared<const MessageType*> type = nullptr;
    explicit operator bool() const noexcept { return type != nullptr; }
};

// What is sent for an object through a channel: a new reference, or nullptr with an exception.
template <class Title>
PyObject* sendable(const Typing& typing, PyObject* object, Title title) noexcept {
    Refusal why;
    const MessageType* type = typing.type;
    PyObject* plain = type->take_apart(object, why);
    if (plain != nullptr) [[likely]]
        return plain;
    if (PyErr_Occurred()) return nullptr;  // the title looks up an attribute, which clears it
    try {
        return why.raise(title(), false);
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
}

// The object of a message that was received through a channel, or nullptr with an exception.
template <class Title>
PyObject* received(const Typing& typing, const PoolPtr& pool, const Message& message, Copy how,
                   Title title) noexcept {
    const MessageType* type = typing.type;
    if (type == nullptr) [[likely]]
        return decode(pool, message, how);
    Refusal why;
    PyObject* made = type->receive(pool, message, how, why);
    if (made != nullptr) [[likely]]
        return made;
    if (PyErr_Occurred()) return nullptr;  // as above
    try {
        return why.raise(title(), true);
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
}

// For garbage collection: a class may refer to a channel of its own objects.
template <class C>
int traverse_typing(PyObject* self, visitproc visit, void* arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    if (!nb::inst_ready(self)) return 0;
    Py_VISIT(nb::inst_ptr<C>(self)->typing.holder.ptr());
    return 0;
}
template <class C>
inline PyType_Slot typing_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(&traverse_typing<C>)},
    {0, nullptr},
};

// For the attributes `_schema` and `_set_type` of channels.
PyObject* schema_bytes(const PoolPtr& pool, std::string_view schema, u64 hash) noexcept;
bool set_type(Typing& typing, nb::handle type) noexcept;
// The schema that a constructor gets: None or bytes. Throws python_error.
std::string_view schema_of(nb::handle schema);

void bind_message_type(nb::module_& m);

}  // namespace onecopy::py
