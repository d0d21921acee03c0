// How this process leaves its pools at its end.
//
// It leaves as late as it can, so that exit handlers and finalizers of any kind still find the
// pools: in Py_AtExit, when the interpreter has ended and no Python code can run any more. A child
// that multiprocessing has forked ends by os._exit, which does not come there;
// onecopy._core.leaving calls `leave_all` instead. Shared-memory segments are released at the
// same moments.
//
// There are two ways to leave. If no other thread of this process can touch the pools any more, the
// process gives up all that it holds, and its slots. Otherwise it only removes the names of pools
// whose last member it was. A daemon thread may still be in the core, or copy, without the GIL, and
// what it writes to must not be given to another process meanwhile. So the process keeps what it
// holds until the kernel ends all of its threads. Then others clean up after it, as after a death.
//
// Python's last look (`note_threads`, in an exit handler) tells which threads are harmless: those
// without a Python thread state, as the workers of a BLAS library. Each thread that had a state
// then, or was started since, must have ended.
#include "bindings/leaving.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "base/crash_point.hpp"
#include "base/never_destroyed.hpp"
#include "bindings/wait_policy.hpp"
#include "os/processes.hpp"
#include "segment/file.hpp"
#include "storage/shared_memory.hpp"

namespace nb = nanobind;

namespace onecopy::py {
namespace {

std::atomic<bool> left{false};

// Sorted ids of the threads without a Python thread state.
constinit NeverDestroyed<std::vector<std::uint32_t>> harmless_threads;
std::vector<std::uint32_t>& harmless() noexcept {
    return harmless_threads.value;
}

// Takes out those that have a thread state. Empty: not all are known. It allocates nothing.
void take_out_pythons(std::vector<std::uint32_t>& all) noexcept {
    const PyThreadState* mine = PyThreadState_Get();
    PyThreadState* each =
        PyInterpreterState_ThreadHead(PyThreadState_GetInterpreter(PyThreadState_Get()));
    for (; each != nullptr; each = PyThreadState_Next(each)) {
        if (each == mine) continue;
        const auto id = static_cast<std::uint32_t>(each->native_thread_id);
        // A thread is being started: its id is not known yet.
        if (std::erase(all, id) == 0 || id == os::own_thread_id()) return all.clear();
    }
}

// Needs the GIL: thread states come and go with it. Threads that Python has not started are an
// exception; their ids are in the list below in any case. Without the GIL, the list of thread
// states is read while all other threads of Python are stopped, as they are within a look at the
// collector's objects: a thread takes itself off the list before it may run on.
void note_threads() noexcept {
    std::vector<std::uint32_t>& all = harmless();
    if (!os::own_threads(all)) return all.clear();
#ifdef Py_GIL_DISABLED
    PyUnstable_GC_VisitObjects(
        [](PyObject*, void* list) -> int {
            take_out_pythons(*static_cast<std::vector<std::uint32_t>*>(list));
            return 0;  // one look is enough
        },
        &all);
#else
    take_out_pythons(all);
#endif
    std::sort(all.begin(), all.end());
}

bool only_harmless_threads() noexcept {
    std::vector<std::uint32_t> now;
    if (!os::own_threads(now)) return false;
    const std::uint32_t self = os::own_thread_id();
    return std::all_of(now.begin(), now.end(), [self](std::uint32_t id) {
        return id == self || std::binary_search(harmless().begin(), harmless().end(), id);
    });
}

void leave() noexcept {
    if (only_harmless_threads()) {
        left.store(true);
        onecopy::leave_all();
    } else {
        depart_all();
    }
    has_left_pools();
}

// The interpreter has ended.
void leave_at_end() noexcept {
    leave();
    release_segments();
}

// Python still runs.
void leave_now() noexcept {
    note_threads();
    Outside outside;
    leave();
}

}  // namespace

bool has_left() noexcept {
    return left.load();
}

void bind_leaving(nb::module_& m) {
    // The interpreter's table has room for 32 functions. The C library's functions run at the same
    // moment, among those of other libraries.
    if (Py_AtExit(leave_at_end) != 0) std::atexit(leave_at_end);
    m.def(
        "note_threads", &note_threads,
        "Take note of the threads that run Python code: at exit, of those that have to have ended "
        "before this process gives up what it holds.");
    m.def("leave_all", &leave_now,
          "Leave every pool, in a process that ends without the interpreter's own end.");
}

}  // namespace onecopy::py
