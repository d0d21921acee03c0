// Waiting without the GIL.
//
// Taking the GIL again may not return: while the interpreter ends, it ends the thread or lets it
// hang (bindings/unwinding.cpp). So a thread that has released the GIL reads nothing of what it
// took, and writes nothing, before it has the GIL again.
#pragma once
#include <atomic>
#include <new>

#include "base/crash_point.hpp"
#include "bindings/free_threading.hpp"
#include "os/processes.hpp"
#include "sync/wait_policy.hpp"
#include "sync/watcher.hpp"

namespace onecopy::py {

// ---- without the GIL ----------------------------------------------------------------------------

// Python's main thread: signal handlers run in no other.
inline std::atomic<unsigned long> main_thread{};

// Releases the GIL as long as this lives; for work that needs no Python and may take long.
class Outside {
  public:
    Outside() noexcept : state_(PyEval_SaveThread()) { crash_point(); }
    ~Outside() {
        crash_point();
        PyEval_RestoreThread(state_);
    }
    Outside(const Outside&) = delete;
    Outside& operator=(const Outside&) = delete;

  private:
    PyThreadState* state_;
};

// For waits of the core itself. Not while the interpreter ends: no other thread may run then.
inline void* step_out() noexcept {
    if (!Py_IsInitialized() || !PyGILState_Check()) return nullptr;
    return new (std::nothrow) Outside;
}
inline void step_in(void* outside) noexcept {
    delete static_cast<Outside*>(outside);
}

// ---- policy -----------------------------------------------------------------------------------

constexpr std::int64_t kNoWait = 0;

// The wait that the `timeout` of this thread's call stands for, if it is no number. Between it and
// the policy of the call there is only that call.
inline thread_local Note* noting = nullptr;
// Whether the object is a `Wait`; then `out` is its note.
bool as_wait(PyObject* object, Note*& out) noexcept;

// Releases the GIL before the thread first sleeps, and takes it again at the end.
class GilWaitPolicy final : public WaitPolicy {
  public:
    explicit GilWaitPolicy(std::int64_t deadline_ns = kForever, bool for_all = false) noexcept
        : WaitPolicy(deadline_ns),
          note_(deadline_ns == kNote ? noting : nullptr),
          for_all_(for_all) {}
    ~GilWaitPolicy() override {
        if (state_ != nullptr) come_back();
    }

    void about_to_block() noexcept override {
        if (state_ == nullptr) state_ = PyEval_SaveThread();
    }
    // Runs Python's signal handlers. If one raises, the exception stays set and the wait ends.
    bool interrupted() noexcept override {
        if (state_ != nullptr && is_wanted(state_)) {
            come_back();
            if (!run_pending()) return true;
            about_to_block();
        }
        if (main_thread.load(std::memory_order_relaxed) != os::this_thread()) return false;
        const bool was_outside = state_ != nullptr;
        if (was_outside) come_back();
        if (PyErr_CheckSignals() != 0) return true;
        if (was_outside) about_to_block();
        return false;
    }

    void note(Liveness& me, shm_atomic<std::uint32_t>& word, WordKind kind, std::uint32_t seen,
              bool soon) noexcept override {
        if (note_ != nullptr) note_->put(me, word, kind, seen, soon, for_all_);
    }
    bool had_a_nap() noexcept override { return note_ != nullptr && note_->had_a_nap(); }
    bool has_turn() noexcept override { return note_ != nullptr && note_->has_turn(); }
    std::uint32_t first_seen(std::uint32_t now) noexcept override {
        return note_ == nullptr ? now : note_->first_seen(now);
    }

  private:
    void come_back() noexcept {
        crash_point();
        PyEval_RestoreThread(state_);
        state_ = nullptr;
    }
    PyThreadState* state_ = nullptr;
    Note* note_;
    bool for_all_;
};

// For work that takes long by itself: the GIL is released from the beginning.
class WaitOutside final : public WaitPolicy {
  public:
    WaitOutside() noexcept { policy_.about_to_block(); }
    void about_to_block() noexcept override { policy_.about_to_block(); }
    bool interrupted() noexcept override { return policy_.interrupted(); }

  private:
    GilWaitPolicy policy_;
};

// ---- from Python's arguments to a deadline ------------------------------------------------------

// Until when a call waits, by the monotonic clock. Since when, for the text of an error.
struct Deadline {
    std::int64_t at = WaitPolicy::kForever;
    std::int64_t from = 0;  // 0: it does not wait, or for ever
    constexpr Deadline() noexcept = default;
    constexpr Deadline(std::int64_t time) noexcept : at(time) {}
    constexpr operator std::int64_t() const noexcept { return at; }
};

// None: without a limit. A `Wait`: the call notes what it waits for. Otherwise seconds. False with
// an exception set, in the words of queue.Queue: it is neither, or negative. A lock is taken
// without a timeout almost always, so that case is inline.
bool deadline_of_object(PyObject* timeout, Deadline& out) noexcept;
inline bool deadline_of(PyObject* timeout, Deadline& out) noexcept {
    if (timeout == Py_None) [[likely]] {
        out = WaitPolicy::kForever;
        return true;
    }
    return deadline_of_object(timeout, out);
}
inline bool deadline_of(PyObject* block, PyObject* timeout, Deadline& out) noexcept {
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
// As multiprocessing has it: None waits without a limit, and a negative number does not wait.
inline bool standard_deadline(PyObject* block, PyObject* timeout, Deadline& out) noexcept {
    if (block != Py_True) {
        const int yes = PyObject_IsTrue(block);
        if (yes < 0) return false;
        if (yes == 0) {
            out = kNoWait;
            return true;
        }
    }
    Note* note = nullptr;
    if (timeout != Py_None && !as_wait(timeout, note)) {
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
