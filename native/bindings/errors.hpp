// From the core's Status to Python's exceptions. Each function sets an exception and returns
// nullptr, so that a caller can `return raise_…(…)`; nothing here throws, because a C++ exception
// costs more than a queue's whole round trip.
#pragma once
#include "base/status.hpp"
#include "bindings/numpy_api.hpp"
#include "bindings/pool.hpp"

namespace onecopy::py {

// The class of that name in onecopy.errors, or queue.Empty, queue.Full; borrowed. nullptr: the
// import failed and has raised.
enum class Error {
    root,
    pool_full,
    pool_not_found,
    pool_exists,
    version,
    corrupted,
    stale,
    shut_down,
    untrusted,
    owner_died,
    closed,
    empty,
    full
};
PyObject* error_class(Error which) noexcept;

[[gnu::format(printf, 2, 3)]] PyObject* raise(Error which, const char* format, ...) noexcept;
PyObject* raise_pool_full(const PoolPtr& pool, u64 nbytes) noexcept;
// Data of the pool is damaged: the pool is marked, and refused from then on.
PyObject* raise_corrupt(const PoolPtr& pool, const char* what) noexcept;
PyObject* raise_corrupt(const char* what) noexcept;  // data in shared memory is damaged
PyObject* raise_untrusted() noexcept;
// Anything else. `what` names the thing, as in "the queue". For `interrupted` the exception is
// there already.
PyObject* raise_status(Status s, const char* what) noexcept;
// The process is no member of the pool any more, or (a forked child) never was.
PyObject* raise_closed(const Member& m, const char* what) noexcept;
// As raise_status, for what is in a pool; `nbytes` were asked for if it is full.
PyObject* raise_status(Status s, const char* what, const PoolPtr& pool, u64 nbytes) noexcept;
// For opening and making pools. The pool was opened with mode='r', and the caller would change it.
PyObject* raise_readonly(const std::string& path) noexcept;
PyObject* raise_for_pool(Status s, const Failure& why, const std::string& path) noexcept;

// The exception that is set, put aside.
class SavedError {
  public:
    SavedError() noexcept {
#if PY_VERSION_HEX >= 0x030c0000
        value_ = PyErr_GetRaisedException();
#else
        PyErr_Fetch(&type_, &value_, &trace_);
        if (type_ != nullptr) PyErr_NormalizeException(&type_, &value_, &trace_);
#endif
    }
    SavedError(const SavedError&) = delete;
    SavedError& operator=(const SavedError&) = delete;
    ~SavedError() {
        Py_XDECREF(value_);
#if PY_VERSION_HEX < 0x030c0000
        Py_XDECREF(type_);
        Py_XDECREF(trace_);
#endif
    }
    explicit operator bool() const noexcept { return value_ != nullptr; }
    PyObject* value() const noexcept { return value_; }
    // Sets it again, once.
    void restore() noexcept {
#if PY_VERSION_HEX >= 0x030c0000
        PyErr_SetRaisedException(std::exchange(value_, nullptr));
#else
        PyErr_Restore(std::exchange(type_, nullptr), std::exchange(value_, nullptr),
                      std::exchange(trace_, nullptr));
#endif
    }

  private:
    PyObject* value_ = nullptr;
#if PY_VERSION_HEX < 0x030c0000
    PyObject *type_ = nullptr, *trace_ = nullptr;
#endif
};

}  // namespace onecopy::py
