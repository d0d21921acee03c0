// What the bindings need in an interpreter without the GIL (Py_GIL_DISABLED): docs/design/0032. In
// any other interpreter all of it is empty, or the plain type: the GIL does the same.
//
//|  Shared<T>   a number or flag that threads change at once
//|  Kept        an object that is made once and stays
//|  Slot        an object that may be replaced while another thread uses it
//|  Table       guards a table of this process; nothing waits, and no Python code runs, with it
//|  Attempt     the same for one entry of a cache: a thread that does not get it does without
//|  Alone       one object for this thread, until the thread waits (a critical section)
#pragma once
#include "bindings/few.hpp"
#include "bindings/numpy_api.hpp"

#include <atomic>
#include <concepts>
#include <utility>

namespace onecopy::py {

#ifdef Py_GIL_DISABLED

template <class T>
class Shared {
  public:
    constexpr Shared(T value = {}) noexcept : value_(value) {}
    Shared(const Shared& other) noexcept : value_(other.value_.load()) {}
    Shared& operator=(const Shared& other) noexcept { return *this = T(other); }
    operator T() const noexcept { return value_.load(); }
    Shared& operator=(T value) noexcept {
        value_.store(value);
        return *this;
    }
    T operator++() noexcept { return value_.fetch_add(1) + 1; }
    T operator--() noexcept { return value_.fetch_sub(1) - 1; }
    T operator+=(T more) noexcept { return value_.fetch_add(more) + more; }
    T swap(T value) noexcept { return value_.exchange(value); }
    // False: it is 0.
    bool take_one() noexcept {
        T now = value_.load();
        while (now != 0) {
            if (value_.compare_exchange_weak(now, now - 1)) return true;
        }
        return false;
    }
    bool add_one_to_some() noexcept {
        T now = value_.load();
        while (now != 0) {
            if (value_.compare_exchange_weak(now, now + 1)) return true;
        }
        return false;
    }

  private:
    std::atomic<T> value_;
};
template <class T>
T exchange(Shared<T>& shared, std::type_identity_t<T> value) noexcept {
    return shared.swap(value);
}
template <class T>
bool take_one(Shared<T>& shared) noexcept {
    return shared.take_one();
}
template <class T>
bool add_one_to_some(Shared<T>& shared) noexcept {
    return shared.add_one_to_some();
}

class Table {
  public:
    class Inside {
      public:
        explicit Inside(Table& table) noexcept : table_(table) { PyMutex_Lock(&table_.mutex_); }
        ~Inside() { PyMutex_Unlock(&table_.mutex_); }
        Inside(const Inside&) = delete;
        Inside& operator=(const Inside&) = delete;

      private:
        Table& table_;
    };

  private:
    PyMutex mutex_{};
};

class Attempt {
  public:
    class Inside {
      public:
        explicit Inside(Attempt& attempt) noexcept
            : attempt_(attempt),
              is_in_(!attempt.taken_.exchange(true, std::memory_order_acquire)) {}
        ~Inside() { leave(); }
        Inside(const Inside&) = delete;
        Inside& operator=(const Inside&) = delete;
        explicit operator bool() const noexcept { return is_in_; }
        void leave() noexcept {
            if (std::exchange(is_in_, false))
                attempt_.taken_.store(false, std::memory_order_release);
        }

      private:
        Attempt& attempt_;
        bool is_in_;
    };

  private:
    std::atomic<bool> taken_{false};
};

class Section {
  public:
    explicit Section(PyObject* object) noexcept { PyCriticalSection_Begin(&section_, object); }
    ~Section() { PyCriticalSection_End(&section_); }
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;

  private:
    PyCriticalSection section_;
};

class Kept {
  public:
    PyObject* get() const noexcept { return object_.load(std::memory_order_acquire); }
    // Takes the reference. What is kept: another thread may have been faster. nullptr stays.
    PyObject* keep(PyObject* made) noexcept {
        PyObject* kept = nullptr;
        if (made == nullptr || object_.compare_exchange_strong(kept, made)) return made;
        Py_DECREF(made);
        return kept;
    }

  private:
    std::atomic<PyObject*> object_{nullptr};
};

class Slot {
  public:
    Slot() = default;
    Slot(Slot&& other) noexcept : object_(other.object_.exchange(nullptr)) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot() { set(nullptr); }
    explicit operator bool() const noexcept {
        return object_.load(std::memory_order_relaxed) != nullptr;
    }
    // A new reference, or nullptr.
    PyObject* get() const noexcept {
        const Table::Inside inside(table_);
        return Py_XNewRef(object_.load(std::memory_order_relaxed));
    }
    // Takes the reference.
    void set(PyObject* object) noexcept {
        PyObject* before;
        {
            const Table::Inside inside(table_);
            before = object_.exchange(object, std::memory_order_relaxed);
        }
        Py_XDECREF(before);
    }
    // For garbage collection.
    PyObject* peek() const noexcept { return object_.load(std::memory_order_relaxed); }

  private:
    mutable Table table_;
    std::atomic<PyObject*> object_{nullptr};
};

// What several threads read and write without an order.
template <class T>
T relaxed(const T& from) noexcept {
    return __atomic_load_n(&from, __ATOMIC_RELAXED);
}
template <class T>
void set_relaxed(T& to, std::type_identity_t<T> value) noexcept {
    __atomic_store_n(&to, value, __ATOMIC_RELAXED);
}

#else

template <class T>
using Shared = T;
template <class T>
T exchange(T& shared, std::type_identity_t<T> value) noexcept {
    return std::exchange(shared, value);
}
template <class T>
bool take_one(T& shared) noexcept {
    if (shared == 0) [[likely]]
        return false;
    --shared;
    return true;
}

class Table {
  public:
    struct Inside {
        explicit Inside(Table&) noexcept {}
        ~Inside() {}
    };
};

class Attempt {
  public:
    struct Inside {
        explicit Inside(Attempt&) noexcept {}
        ~Inside() {}
        explicit operator bool() const noexcept { return true; }
        void leave() noexcept {}
    };
};

class Section {
  public:
    explicit Section(PyObject*) noexcept {}
    ~Section() {}
};

class Kept {
  public:
    PyObject* get() const noexcept { return object_; }
    // Takes the reference. An import may run other threads, and one of them may have been faster.
    PyObject* keep(PyObject* made) noexcept {
        if (object_ == nullptr) [[likely]]
            return object_ = made;
        Py_XDECREF(made);
        return object_;
    }

  private:
    PyObject* object_ = nullptr;
};

class Slot {
  public:
    Slot() = default;
    Slot(Slot&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot() { Py_CLEAR(object_); }
    explicit operator bool() const noexcept { return object_ != nullptr; }
    PyObject* get() const noexcept { return Py_XNewRef(object_); }
    void set(PyObject* object) noexcept { Py_XSETREF(object_, object); }
    PyObject* peek() const noexcept { return object_; }

  private:
    PyObject* object_ = nullptr;
};

template <class T>
T relaxed(const T& from) noexcept {
    return from;
}
template <class T>
void set_relaxed(T& to, std::type_identity_t<T> value) noexcept {
    to = value;
}

#endif

// Without the GIL, an object belongs to the thread that made it. If another thread drops it, its
// thread releases it, when that runs Python code again. So a thread that waits looks, after each
// nap, whether the interpreter wants something of it: what it waits for may be the memory of such
// an object.
#ifdef Py_GIL_DISABLED
inline bool is_wanted(const PyThreadState* state) noexcept {
    constexpr std::uintptr_t kEvents = 0xff;
    return (__atomic_load_n(&state->eval_breaker, __ATOMIC_RELAXED) & kEvents) != 0;
}
inline Kept nothing;  // a function in Python that does nothing: to call it is to look
inline bool init_pending() noexcept {
    PyObject* names = PyDict_New();
    if (names == nullptr) return false;
    nothing.keep(PyRun_String("lambda: None", Py_eval_input, names, names));
    Py_DECREF(names);
    return nothing.get() != nullptr;
}
// False with an exception set.
inline bool run_pending() noexcept {
    PyObject* done = PyObject_CallNoArgs(nothing.get());
    Py_XDECREF(done);
    return done != nullptr;
}
#else
inline bool is_wanted(const PyThreadState*) noexcept {
    return false;
}
inline bool init_pending() noexcept {
    return true;
}
inline bool run_pending() noexcept {
    return true;
}
#endif

// An interned string that is made once. Not as a static variable of C++: a thread that waits for
// one keeps its thread state, and the thread that makes it may have to wait for that.
inline PyObject* interned(Kept& kept, const char* text) noexcept {
    PyObject* known = kept.get();
    return known != nullptr ? known : kept.keep(PyUnicode_InternFromString(text));
}
inline PyObject* empty_tuple() noexcept {
    static Kept kept;
    PyObject* known = kept.get();
    return known != nullptr ? known : kept.keep(PyTuple_New(0));
}

// ---- objects of users, which other threads may change -------------------------------------------

#ifdef Py_GIL_DISABLED

class Item {
  public:
    explicit Item(PyObject* own) noexcept : object_(own) {}
    Item(Item&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Item& operator=(Item&&) = delete;
    ~Item() { Py_XDECREF(object_); }
    PyObject* get() const noexcept { return object_; }
    PyObject* release() noexcept { return std::exchange(object_, nullptr); }  // a new reference

  private:
    PyObject* object_;
};
// nullptr without an exception: the list is shorter by now.
inline Item item_of(PyObject* list, Py_ssize_t i) noexcept {
    if (i >= PyList_GET_SIZE(list)) return Item(nullptr);
    PyObject* item = PyList_GetItemRef(list, i);
    if (item == nullptr) PyErr_Clear();
    return Item(item);
}
// The field of an object, as a member descriptor reads it.
inline Item field_of(PyObject* object, PyObject*& field) noexcept {
    const Section section(object);
    return Item(Py_XNewRef(__atomic_load_n(&field, __ATOMIC_ACQUIRE)));
}
// What an object refers to that may get another reference; a type, for example.
inline Item kept_here(PyObject* object) noexcept {
    return Item(Py_XNewRef(object));
}
// From a reference of one's own to what a cache holds as well.
inline Item also_cached(PyObject* own) noexcept {
    return Item(own);
}
// An entry of a dict of plain strings; nullptr with or without an exception.
inline Item entry_of(PyObject* dict, PyObject* key) noexcept {
    PyObject* value = nullptr;
    return PyDict_GetItemRef(dict, key, &value) < 0 ? Item(nullptr) : Item(value);
}

#else

class Item {
  public:
    explicit Item(PyObject* borrowed) noexcept : object_(borrowed) {}
    PyObject* get() const noexcept { return object_; }
    PyObject* release() noexcept { return Py_XNewRef(object_); }  // a new reference

  private:
    PyObject* object_;
};
inline Item item_of(PyObject* list, Py_ssize_t i) noexcept {
    return Item(PyList_GET_ITEM(list, i));
}
inline Item field_of(PyObject*, PyObject*& field) noexcept {
    return Item(field);
}
inline Item kept_here(PyObject* object) noexcept {
    return Item(object);
}
inline Item also_cached(PyObject* own) noexcept {
    Py_XDECREF(own);
    return Item(own);
}
inline Item entry_of(PyObject* dict, PyObject* key) noexcept {
    return Item(PyDict_GetItemWithError(dict, key));
}

#endif

// Copies of the containers that a walk meets. Nothing changes them, and they keep what is in them
// until the walk is over. With the GIL they are the containers themselves: a walk that runs no code
// sees no change.
#ifdef Py_GIL_DISABLED

class Stills {
  public:
    static constexpr bool kCopies = true;
    Stills() = default;
    Stills(const Stills&) = delete;
    Stills& operator=(const Stills&) = delete;
    ~Stills() {
        for (PyObject* one : all_)
            Py_DECREF(one);
    }
    // Of a list (as a tuple), a dict, or a set (as a frozenset). Borrowed; nullptr with an
    // exception set.
    PyObject* of(PyObject* container) noexcept {
        if (PyList_Check(container)) return keep(PyList_AsTuple(container));
        if (PyDict_Check(container)) return keep(PyDict_Copy(container));
        if (PyAnySet_CheckExact(container)) return keep(PyFrozenSet_New(container));
        return container;
    }
    // The field of an object, borrowed; nullptr with an exception set, or because it is empty.
    PyObject* of(PyObject* object, PyObject*& field) noexcept {
        return keep(field_of(object, field).release());
    }
    // Lets an object live as long as this.
    void hold(PyObject* object) noexcept {
        if (keep(Py_NewRef(object)) == nullptr) PyErr_Clear();
    }
    // Takes the reference.
    PyObject* keep(PyObject* own) noexcept {
        if (own == nullptr || all_.add(own)) return own;
        Py_DECREF(own);
        return nullptr;
    }

  private:
    Few<PyObject*, 6> all_;
};
// Whether a walk meets the object once at most, because nothing else refers to it.
inline bool is_met_once(PyObject*) noexcept {
    return false;
}
// The collector stops all threads. So it does not run within a walk, and what it runs afterwards is
// as what other threads do.
struct WithoutCollector {
    WithoutCollector() noexcept {}
    ~WithoutCollector() {}
};

#else

class Stills {
  public:
    static constexpr bool kCopies = false;
    PyObject* of(PyObject* container) noexcept { return container; }
    PyObject* of(PyObject*, PyObject*& field) noexcept { return field; }
    void hold(PyObject*) noexcept {}
};
inline bool is_met_once(PyObject* object) noexcept {
    return Py_REFCNT(object) == 1;
}
// The collector runs finalizers, which could change the objects of the walk.
class WithoutCollector {
  public:
    WithoutCollector() noexcept : on_(PyGC_Disable() != 0) {}
    WithoutCollector(const WithoutCollector&) = delete;
    WithoutCollector& operator=(const WithoutCollector&) = delete;
    ~WithoutCollector() {
        if (on_) PyGC_Enable();
    }

  private:
    bool on_;
};

#endif

}  // namespace onecopy::py
