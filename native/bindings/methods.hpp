// How the classes of this module get their methods: as CPython's own method descriptors, made of
// C++ functions.
//
//|  Class<QueueObject> type(m, "QueueBase", "A queue in a pool.");
//|  type.def("join", [](QueueObject& q, Timeout timeout) { … }, arg("timeout", nb::none()),
//|           "Wait until …");
//
// A call of them costs less than a call of nanobind's functions. `inspect.signature`, `help` and
// pickle know them. A wrong argument gives the TypeError that Python's own functions raise, with
// the names of the function and the argument.
#pragma once
#include <array>
#include <concepts>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "base/never_destroyed.hpp"
#include "bindings/objects.hpp"

namespace onecopy::py {

// ---- what a method says of itself ---------------------------------------------------------------

struct Parameter {
    const char* name;
    nb::object otherwise;  // the default; none: the argument must be passed
};
inline Parameter arg(const char* name) {
    return {name, {}};
}
template <class Value>
Parameter arg(const char* name, Value&& otherwise) {
    return {name, nb::cast(std::forward<Value>(otherwise))};
}
// Parameters after this one are passed by name only.
struct ByName {};
// The name that errors give the function, if it is a part of another one.
struct PartOf {
    const char* name;
};

constexpr std::size_t kMostParameters = 9;

struct Signature {
    const char* name = nullptr;  // as errors say it
    const char* doc = "";
    bool is_static = false;
    std::vector<Parameter> parameters;
    Py_ssize_t positional = -1;  // of the parameters; -1: all of them
    // Of each parameter; these two are read in every call.
    std::array<PyObject*, kMostParameters> defaults{};  // null: it must be passed
    std::array<PyObject*, kMostParameters> names{};     // interned
    std::string text;  // what `inspect.signature` reads, and the docstring
    PyMethodDef definition{};

    void add(Parameter parameter) { parameters.push_back(std::move(parameter)); }
    void add(ByName) { positional = static_cast<Py_ssize_t>(parameters.size()); }
    void add(PartOf whole) { name = whole.name; }
    void add(const char* text_of_doc) { doc = text_of_doc; }
    // The descriptor, or for a static method the function. Throws. The signature stays for ever.
    nb::object finish(nb::handle type, const char* method, PyCFunction call, int flags);
};

// ---- what was passed ----------------------------------------------------------------------------

// Sets a TypeError. `self`: null for a static method.
PyObject* raise_missing(const Signature& s, PyObject* self, std::size_t at) noexcept;
PyObject* raise_wrong(const Signature& s, PyObject* self, std::size_t at, PyObject* passed,
                      const char* expected) noexcept;
// Puts arguments by position and name into the places of their parameters; null: not passed. False
// with a TypeError set.
bool sort_arguments(const Signature& s, PyObject* self, PyObject* const* args, Py_ssize_t count,
                    PyObject* keywords, PyObject** out) noexcept;

// ---- from Python's objects to what the C++ function takes ---------------------------------------

// None, or a number of seconds; for `deadline_of`.
struct Timeout {
    PyObject* seconds;
    PyObject* ptr() const noexcept { return seconds; }
};
struct AnIterable {
    PyObject* object;
    PyObject* ptr() const noexcept { return object; }
};
// An object that can be an index, for functions that take Python's own.
struct AnIndex {
    PyObject* object;
    PyObject* ptr() const noexcept { return object; }
};
struct ASlice {
    PyObject* object;
    PyObject* ptr() const noexcept { return object; }
};
struct AList {
    PyObject* object;
    PyObject* ptr() const noexcept { return object; }
};
// Any object, and whether it was passed or is the default.
struct Given {
    PyObject* object;
    bool passed;
};

// `take` answers false. Without an exception: the object is of another kind. With one: it is of
// that kind, and not usable.
template <class A>
struct From;
template <>
struct From<nb::handle> {
    static constexpr const char* kKind = "";
    static bool take(PyObject* object, nb::handle& out) noexcept {
        out = object;
        return true;
    }
};
template <>
struct From<bool> {
    static constexpr const char* kKind = "True or False";
    static bool take(PyObject* object, bool& out) noexcept {
        out = object == Py_True;
        return out || object == Py_False;
    }
};
bool take_integer(PyObject* object, long long least, unsigned long long most,
                  unsigned long long& out) noexcept;
template <std::integral A>
struct From<A> {
    static constexpr const char* kKind = "an integer";
    static bool take(PyObject* object, A& out) noexcept {
        unsigned long long value = 0;
        if (!take_integer(object, static_cast<long long>(std::numeric_limits<A>::min()),
                          static_cast<unsigned long long>(std::numeric_limits<A>::max()), value))
            return false;
        out = static_cast<A>(value);
        return true;
    }
};
template <>
struct From<Timeout> {
    static constexpr const char* kKind = "a number of seconds, or None";
    static bool take(PyObject* object, Timeout& out) noexcept {
        out.seconds = object;
        if (object == Py_None || PyFloat_CheckExact(object)) [[likely]]
            return true;
        Note* note = nullptr;
        if (as_wait(object, note)) return true;
        const PyNumberMethods* number = Py_TYPE(object)->tp_as_number;
        return number != nullptr && (number->nb_float != nullptr || number->nb_index != nullptr);
    }
};
template <>
struct From<AnIterable> {
    static constexpr const char* kKind = "an iterable";
    static bool take(PyObject* object, AnIterable& out) noexcept {
        out.object = object;
        return Py_TYPE(object)->tp_iter != nullptr || PySequence_Check(object) != 0;
    }
};
template <>
struct From<AnIndex> {
    static constexpr const char* kKind = "an integer";
    static bool take(PyObject* object, AnIndex& out) noexcept {
        out.object = object;
        return PyIndex_Check(object) != 0;
    }
};
template <>
struct From<ASlice> {
    static constexpr const char* kKind = "a slice";
    static bool take(PyObject* object, ASlice& out) noexcept {
        out.object = object;
        return PySlice_Check(object) != 0;
    }
};
template <>
struct From<AList> {
    static constexpr const char* kKind = "a list";
    static bool take(PyObject* object, AList& out) noexcept {
        out.object = object;
        return PyList_Check(object) != 0;
    }
};

template <class A>
[[gnu::always_inline]] inline bool take_argument(const Signature& s, PyObject* self, std::size_t at,
                                                 PyObject* passed, A& out) {
    PyObject* object = passed != nullptr ? passed : s.defaults[at];
    if (object == nullptr) return raise_missing(s, self, at) != nullptr;
    if constexpr (std::is_same_v<A, Given>) {
        out = {object, passed != nullptr};
        return true;
    } else {
        if (From<A>::take(object, out)) [[likely]]
            return true;
        return raise_wrong(s, self, at, object, From<A>::kKind) != nullptr;
    }
}

// ---- from what it returns to Python's objects ---------------------------------------------------

template <class R>
PyObject* to_python(R&& value) {
    using Value = std::remove_cvref_t<R>;
    if constexpr (std::is_same_v<Value, PyObject*>) {
        return value;
    } else if constexpr (std::is_base_of_v<nb::object, Value>) {
        return value.release().ptr();
    } else if constexpr (std::is_same_v<Value, bool>) {
        return Py_NewRef(value ? Py_True : Py_False);
    } else if constexpr (std::is_unsigned_v<Value>) {
        return PyLong_FromUnsignedLongLong(value);
    } else {
        static_assert(std::is_integral_v<Value>);
        return PyLong_FromLongLong(value);
    }
}

// ---- calls --------------------------------------------------------------------------------------

// Runs it, and turns a C++ exception into Python's.
template <class Call>
PyObject* guarded_call(Call call) noexcept {
    try {
        return call();
    } catch (nb::python_error& error) {
        error.restore();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

// The object that a method was called on; the descriptor has checked its class. nullptr with
// TypeError set if its `__init__` has not run.
inline void* instance_of(PyObject* self) noexcept {
    if (nb::inst_ready(self)) [[likely]]
        return nb::inst_ptr<void>(self);
    PyErr_Format(PyExc_TypeError, "%.200s.__init__() was not called", Py_TYPE(self)->tp_name);
    return nullptr;
}

template <class F>
struct Shape : Shape<decltype(&F::operator())> {};
template <class F, class R, class... A>
struct Shape<R (F::*)(A...) const> {
    using Result = R;
    using Taken = std::tuple<A...>;
};
template <class F, class R, class... A>
struct Shape<R (F::*)(A...) const noexcept> : Shape<R (F::*)(A...) const> {};

// A function as a type of its own, as a lambda is: `of<&construct>`.
template <auto f, class Pointer = decltype(f)>
struct Function;
template <auto f, class R, class... A>
struct Function<f, R (*)(A...)> {
    R operator()(A... a) const { return f(static_cast<A>(a)...); }
};
template <auto f, class R, class... A>
struct Function<f, R (*)(A...) noexcept> {
    R operator()(A... a) const noexcept { return f(static_cast<A>(a)...); }
};
template <auto f>
inline constexpr Function<f> of{};

// One function, which a lambda is: its type is its own, so there is one of these for each.
template <class F>
struct Bound {
    static inline std::optional<F> function;
    // It holds Python objects, and threads may be in a call when the process ends.
    static inline NeverDestroyed<Signature> kept;
    static constexpr Signature& signature = kept.value;

    static Signature& bind(F f) {
        if (function) throw std::logic_error("one lambda, bound twice");
        function.emplace(std::move(f));
        return signature;
    }
    // `first`: what comes before the arguments that Python passes.
    template <class... A, class... First>
    static PyObject* call(std::tuple<A...>*, PyObject* self, PyObject* const* args,
                          Py_ssize_t count, PyObject* keywords, First&&... first) noexcept {
        return guarded_call([&]() -> PyObject* {
            return [&]<std::size_t... i>(std::index_sequence<i...>) -> PyObject* {
                PyObject* given[sizeof...(A) + 1];  // zero places are no array
                if (keywords == nullptr && count <= signature.positional) [[likely]] {
                    // One by one: a loop becomes a call of memcpy.
                    ((given[i] = static_cast<Py_ssize_t>(i) < count ? args[i] : nullptr), ...);
                } else if (!sort_arguments(signature, self, args, count, keywords, given)) {
                    return nullptr;
                }
                std::tuple<A...> taken;
                if (!(take_argument(signature, self, i, given[i], std::get<i>(taken)) && ...))
                    return nullptr;
                if constexpr (std::is_void_v<typename Shape<F>::Result>) {
                    (*function)(std::forward<First>(first)..., std::get<i>(taken)...);
                    return Py_NewRef(Py_None);
                } else {
                    return to_python(
                        (*function)(std::forward<First>(first)..., std::get<i>(taken)...));
                }
            }(std::index_sequence_for<A...>{});
        });
    }
};

template <class Taken>
struct WithoutFirst;
template <class First, class... A>
struct WithoutFirst<std::tuple<First, A...>> {
    using Self = First;
    using Arguments = std::tuple<A...>;
};

// The object that a method was called on, for a lambda that needs both the Python object and the
// C++ one.
template <class T>
struct Self {
    PyObject* python;
    T& object;
};
template <class>
inline constexpr bool is_self = false;
template <class T>
inline constexpr bool is_self<Self<T>> = true;

// Around a call of a method in an interpreter without the GIL. What a channel refers to stays where
// it is; an object of a class with `kOneAtATime` is used by one thread at a time, as long as that
// thread does not wait.
template <class T>
inline constexpr bool one_at_a_time = requires { T::kOneAtATime; };
#ifdef Py_GIL_DISABLED
template <class T>
auto entered([[maybe_unused]] PyObject* self, [[maybe_unused]] void* object) noexcept {
    if constexpr (std::is_base_of_v<Channel, T>) {
        return Using(*static_cast<T*>(object));
    } else if constexpr (one_at_a_time<T>) {
        return Section(self);
    } else {
        return 0;
    }
}
#else
template <class T>
constexpr int entered(PyObject*, void*) noexcept {
    return 0;
}
#endif

// A method: the lambda takes the C++ object, the Python object as nb::handle, or both as Self.
template <class T, class F>
PyObject* call_method(PyObject* self, PyObject* const* args, Py_ssize_t count,
                      PyObject* keywords) noexcept {
    using Split = WithoutFirst<typename Shape<F>::Taken>;
    constexpr auto* kinds = static_cast<typename Split::Arguments*>(nullptr);
    void* object = instance_of(self);
    if (object == nullptr) return nullptr;
    [[maybe_unused]] const auto entry = entered<T>(self, object);
    if constexpr (std::is_same_v<typename Split::Self, nb::handle>) {
        return Bound<F>::call(kinds, self, args, count, keywords, nb::handle(self));
    } else if constexpr (is_self<typename Split::Self>) {
        return Bound<F>::call(kinds, self, args, count, keywords,
                              Self<T>{self, *static_cast<T*>(object)});
    } else {
        return Bound<F>::call(kinds, self, args, count, keywords, *static_cast<T*>(object));
    }
}
template <class T, class F>
PyObject* call_without_arguments(PyObject* self, PyObject*) noexcept {
    return call_method<T, F>(self, nullptr, 0, nullptr);
}
// `__init__`: the lambda takes the place of the C++ object, and makes it there or throws.
template <class T, class F>
PyObject* call_constructor(PyObject* self, PyObject* const* args, Py_ssize_t count,
                           PyObject* keywords) noexcept {
    using Split = WithoutFirst<typename Shape<F>::Taken>;
    const Section section(self);
    if (nb::inst_ready(self)) {
        PyErr_Format(PyExc_TypeError, "%.200s.__init__() was called a second time",
                     Py_TYPE(self)->tp_name);
        return nullptr;
    }
    PyObject* done = Bound<F>::call(static_cast<typename Split::Arguments*>(nullptr), self, args,
                                    count, keywords, nb::inst_ptr<T>(self));
    if (done != nullptr) nb::inst_mark_ready(self);
    return done;
}
template <class F>
PyObject* call_static(PyObject*, PyObject* const* args, Py_ssize_t count,
                      PyObject* keywords) noexcept {
    return Bound<F>::call(static_cast<typename Shape<F>::Taken*>(nullptr), nullptr, args, count,
                          keywords);
}
template <class T, class F>
PyObject* call_getter(PyObject* self, void*) noexcept {
    void* object = instance_of(self);
    if (object == nullptr) return nullptr;
    [[maybe_unused]] const auto entry = entered<T>(self, object);
    return guarded_call([&]() -> PyObject* {
        if constexpr (std::is_invocable_v<F, T&>) {
            return to_python((*Bound<F>::function)(*static_cast<T*>(object)));
        } else {
            return to_python((*Bound<F>::function)(nb::handle(self)));
        }
    });
}

template <class Function>
PyCFunction as_method(Function* function) noexcept {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}
// `method`, a plain C function's, stays with the class. Throws.
void add_method(nb::handle type, PyMethodDef& method);
// Gives a class written in Python its own descriptors of the methods that it inherits from a class
// bound here. The interpreter calls a method by a shorter way if the object is of exactly the
// descriptor's class. Gives the class back. Throws.
nb::object own_methods(nb::handle cls);
// Whether objects of that type have that method, by whatever descriptor.
bool is_same_method(PyTypeObject* type, const char* name, PyMethodDescrObject* method) noexcept;
void add_class_getitem(nb::handle type);
extern PyMethodDef class_getitem;  // for classes that are no Class
void add_property(nb::handle type, const char* name, getter get, const char* doc);

// A class whose methods are made here. Everything else is nanobind's.
template <class T>
class Class : public nb::class_<T> {
  public:
    using nb::class_<T>::class_;

    // `more`: a Parameter for each argument, ByName, PartOf, the docstring.
    template <class F, class... More>
    Class& def(const char* name, F function, More... more) {
        using Split = WithoutFirst<typename Shape<F>::Taken>;
        constexpr std::size_t n = std::tuple_size_v<typename Split::Arguments>;
        constexpr int flags = n == 0 ? METH_NOARGS : METH_FASTCALL | METH_KEYWORDS;
        PyCFunction call;
        if constexpr (std::is_same_v<typename Split::Self, T*>) {
            // nanobind's short way to constructors of its own; without it the class is called as
            // every class is.
            reinterpret_cast<PyTypeObject*>(this->ptr())->tp_vectorcall = nullptr;
            return add<n>(name, as_method(&call_constructor<T, F>), METH_FASTCALL | METH_KEYWORDS,
                          std::move(function), std::move(more)...);
        } else if constexpr (n == 0) {
            call = as_method(&call_without_arguments<T, F>);
        } else {
            call = as_method(&call_method<T, F>);
        }
        return add<n>(name, call, flags, std::move(function), std::move(more)...);
    }
    template <class F, class... More>
    Class& def_static(const char* name, F function, More... more) {
        constexpr std::size_t n = std::tuple_size_v<typename Shape<F>::Taken>;
        return add<n>(name, as_method(&call_static<F>), METH_FASTCALL | METH_KEYWORDS | METH_STATIC,
                      std::move(function), std::move(more)...);
    }
    template <class F>
    Class& def_prop_ro(const char* name, F function, const char* doc = nullptr) {
        Bound<F>::bind(std::move(function));
        add_property(*this, name, &call_getter<T, F>, doc);
        return *this;
    }
    template <class... More>
    Class& def_prop_rw(const char* name, const More&... more) {
        nb::class_<T>::def_prop_rw(name, more...);
        return *this;
    }

    // The class cannot be called: its objects come from another function.
    Class& made_by(const char* maker) {
        auto* type = reinterpret_cast<PyTypeObject*>(this->ptr());
        maker_ = maker;
        type->tp_vectorcall = nullptr;
        type->tp_init = [](PyObject* self, PyObject*, PyObject*) -> int {
            PyErr_Format(PyExc_TypeError, "a %.200s is made by %s, not by calling the class",
                         Py_TYPE(self)->tp_name, maker_);
            return -1;
        };
        return *this;
    }
    // `Queue[int]` is a type for annotations, of derived classes too.
    Class& subscriptable() {
        add_class_getitem(*this);
        return *this;
    }

  private:
    static inline const char* maker_ = nullptr;

    template <std::size_t n, class F, class... More>
    Class& add(const char* name, PyCFunction call, int flags, F function, More... more) {
        static_assert((std::is_same_v<More, Parameter> + ... + 0) == n && n <= kMostParameters,
                      "each argument has a name, and nothing else has");
        Signature& signature = Bound<F>::bind(std::move(function));
        (signature.add(std::move(more)), ...);
        nb::setattr(*this, name, signature.finish(*this, name, call, flags));
        return *this;
    }
};

}  // namespace onecopy::py
