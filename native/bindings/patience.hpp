// Waiting without the GIL.
#pragma once
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <new>

#include "bindings/numpy_api.hpp"
#include "sync/patience.hpp"

namespace onecopy::py {

// ---- who is outside: threads that run in the core, or copy, without the GIL ---------------------

struct Outsiders {
    std::atomic<int> in_flight{0};
    std::atomic<int> parked{0};  // of those: asleep for good, because the process is leaving
    std::atomic<bool> leaving{false};
    // The thread that leaves: what Python still runs at its end runs in it.
    std::atomic<pthread_t> leaver{};
    std::atomic<pthread_t> main{};  // Python's main thread: signal handlers run in no other
};
inline Outsiders outsiders;

// The process is about to leave its pools. A thread that still waits in one must not wake and work
// in it afterwards, so it stops here. It may hold shared locks; that is as if it had died, and
// whoever needs them takes them over.
[[noreturn]] inline void park() noexcept {
    outsiders.parked.fetch_add(1);
    for (;;)
        pause();
}

// For a thread that has found that the process has left its pools: it is a daemon, and Python stops
// those only a moment later. An error now would be a traceback about nothing. The thread that left
// goes on: what it runs, an exit handler or a finalizer, shall have the error.
inline void park_if_left() noexcept {
    if (!outsiders.leaving.load() || pthread_equal(outsiders.leaver.load(), pthread_self())) return;
    outsiders.in_flight.fetch_add(1);
    PyEval_SaveThread();
    park();
}

// Until Python 3.13, taking the GIL while the interpreter ends unwinds the thread (pthread_exit),
// which no frame of C++ above us is prepared for: it would end in std::terminate. 3.14 lets such
// threads hang instead; so do we.
class HangIfUnwound {
  public:
    ~HangIfUnwound() {
        while (armed)
            pause();
    }
    bool armed = true;
};
[[gnu::noinline]] inline void take_gil(PyThreadState* state) {
    HangIfUnwound guard;
    PyEval_RestoreThread(state);
    guard.armed = false;
}

// The GIL is given away for as long as this lives; for work that needs no Python and may take long.
class Outside {
  public:
    Outside() noexcept {
        outsiders.in_flight.fetch_add(1);
        state_ = PyEval_SaveThread();
    }
    ~Outside() {
        outsiders.in_flight.fetch_sub(
            1);  // before: whoever waits for the GIL is no longer in the core
        take_gil(state_);
    }
    Outside(const Outside&) = delete;
    Outside& operator=(const Outside&) = delete;

  private:
    PyThreadState* state_;
};

// For the core's own waits, wherever they come. Not while the interpreter ends, or the process
// leaves its pools in this thread: what others would do meanwhile they shall not do any more.
inline void* step_out() noexcept {
    if (!Py_IsInitialized() || !PyGILState_Check() || outsiders.leaving.load()) return nullptr;
    return new (std::nothrow) Outside;
}
inline void step_in(void* outside) noexcept {
    delete static_cast<Outside*>(outside);
}

// ---- patience -----------------------------------------------------------------------------------

constexpr std::int64_t kNoWait = 0;

// Gives the GIL away before the first time the thread may sleep, and takes it back when it goes.
class GilPatience final : public Patience {
  public:
    explicit GilPatience(std::int64_t deadline_ns = kForever) noexcept : Patience(deadline_ns) {}
    ~GilPatience() override {
        if (state_ != nullptr) come_back();
    }

    void about_to_block() noexcept override {
        if (state_ == nullptr) {
            outsiders.in_flight.fetch_add(1);
            state_ = PyEval_SaveThread();
        }
        if (outsiders.leaving.load(std::memory_order_relaxed)) park();
    }
    // Runs Python's signal handlers. If one raises, the exception stays set and the wait ends.
    bool interrupted() noexcept override {
        if (!pthread_equal(outsiders.main.load(std::memory_order_relaxed), pthread_self()))
            return false;
        const bool was_outside = state_ != nullptr;
        if (was_outside) come_back();
        if (PyErr_CheckSignals() != 0) return true;
        if (was_outside) about_to_block();
        return false;
    }

  private:
    void come_back() noexcept {
        outsiders.in_flight.fetch_sub(1);
        take_gil(state_);
        state_ = nullptr;
    }
    PyThreadState* state_ = nullptr;
};

// For what takes long by itself: the GIL is given away from the beginning.
class WaitOutside final : public Patience {
  public:
    WaitOutside() noexcept { inner_.about_to_block(); }
    void about_to_block() noexcept override { inner_.about_to_block(); }
    bool interrupted() noexcept override { return inner_.interrupted(); }

  private:
    GilPatience inner_;
};

// ---- from Python's arguments to a deadline ------------------------------------------------------

// None: for ever; seconds; false with an exception set for what is neither or negative, in
// queue.Queue's words.
inline bool deadline_of(PyObject* timeout, std::int64_t& out) noexcept {
    if (timeout == Py_None) {
        out = Patience::kForever;
        return true;
    }
    const double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) return false;
    if (!(seconds >= 0)) {
        PyErr_SetString(PyExc_ValueError, "'timeout' must be a non-negative number");
        return false;
    }
    if (seconds == 0) {
        out = kNoWait;
    } else if (seconds > 3e8) {  // ten years, and no overflow
        out = Patience::kForever;
    } else {
        out = os::monotonic_ns() + static_cast<std::int64_t>(seconds * 1e9) + 1;
    }
    return true;
}
inline bool deadline_of(PyObject* block, PyObject* timeout, std::int64_t& out) noexcept {
    if (block != Py_True) {
        const int yes = PyObject_IsTrue(block);
        if (yes < 0) return false;
        if (yes == 0) {
            out = kNoWait;  // as in queue.Queue, the timeout does not matter then
            return true;
        }
    }
    return deadline_of(timeout, out);
}
// As multiprocessing understands them: None waits for ever, what is negative does not wait.
inline bool standard_deadline(PyObject* block, PyObject* timeout, std::int64_t& out) noexcept {
    if (block != Py_True) {
        const int yes = PyObject_IsTrue(block);
        if (yes < 0) return false;
        if (yes == 0) {
            out = kNoWait;
            return true;
        }
    }
    if (timeout != Py_None) {
        const double seconds = PyFloat_AsDouble(timeout);
        if (seconds == -1.0 && PyErr_Occurred()) return false;
        if (seconds < 0) {
            out = kNoWait;
            return true;
        }
    }
    return deadline_of(timeout, out);
}

}  // namespace onecopy::py
