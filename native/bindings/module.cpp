// onecopy._native: what Python sees of the core. One file per core file; they convert, give the GIL
// away, raise, and decide nothing.
#define ONECOPY_IMPORTS_NUMPY
#include "bindings/numpy_api.hpp"

#include <pthread.h>
#include <time.h>

#include "base/crash_point.hpp"
#include "bindings/codec.hpp"
#include "bindings/member.hpp"
#include "bindings/sync.hpp"
#include "recovery/recovery.hpp"

namespace onecopy::py {
namespace {

void set_hooks(nb::handle encode, nb::handle decode, nb::handle pool_handle) noexcept {
    Py_XSETREF(hooks.encode, Py_NewRef(encode.ptr()));
    Py_XSETREF(hooks.decode, Py_NewRef(decode.ptr()));
    Py_XSETREF(hooks.pool_handle, Py_NewRef(pool_handle.ptr()));
}

// Threads that are in the core now (daemon threads: the others have ended) must not wake after we
// have left. Those that wait look at `leaving` between two naps and stop there for good; the others
// come back by themselves. Who does neither in time is given up on, and we with it: the kernel
// takes our locks when the process ends, and the next user of the pool cleans up.
bool nobody_is_inside() noexcept {
    if (outsiders.in_flight.load() == 0) return true;
    const std::int64_t deadline = os::monotonic_ns() + 500'000'000;
    while (outsiders.in_flight.load() != outsiders.parked.load() && os::monotonic_ns() < deadline) {
        PyThreadState* state = PyEval_SaveThread();  // they may need it to come out
        const timespec nap{0, 1'000'000};
        nanosleep(&nap, nullptr);
        PyEval_RestoreThread(state);
    }
    return outsiders.in_flight.load() == outsiders.parked.load();
}

void leave() noexcept {
    outsiders.leaving.store(true);
    if (nobody_is_inside()) onecopy::leave_all();
}

// In a child: its only thread is the one that forked, and that one had the GIL.
void forget_outsiders() noexcept {
    outsiders.in_flight.store(0);
    outsiders.parked.store(0);
    outsiders.leaving.store(false);
}

// A forked child is a member by itself. One that nobody can find without its parent (memfd) makes
// itself known.
void announce_all() noexcept {
    for_each_pool([](Member& m) {
        if (m.joined.load()) announce(m);
    });
}

}  // namespace

static void bind(nb::module_& m) {
    // Memberships and queues live in globals of Python modules, some of which the interpreter never
    // clears.
    nb::set_leak_warnings(false);
    if (!init_lease(m.ptr())) throw nb::python_error();
    bind_files(m);
    bind_member(m);
    bind_ref(m);
    bind_queue(m);
    bind_stream(m);
    bind_frames(m);
    bind_mutex(m);
    bind_rwlock(m);
    bind_semaphore(m);
    bind_event(m);
    bind_condition(m);
    bind_barrier(m);
    m.def("set_hooks", &set_hooks, nb::arg("encode"), nb::arg("decode"), nb::arg("pool_handle"));
    m.def("leave_all", &leave, "Leave every pool, at exit.");
    m.def("monotonic_ns", &os::monotonic_ns);
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    m.def("crash_after", &crash_after, nb::arg("step"),
          "SIGKILL this process after its step-th shared store from now; 0: never.");
    m.def("crash_steps", &crash_steps, "Shared stores since crash_after.");
#endif
    pthread_atfork(nullptr, nullptr, forget_outsiders);
    nb::object after = nb::cpp_function(&announce_all);
    nb::module_::import_("os").attr("register_at_fork")(nb::arg("after_in_child") = after);
}

}  // namespace onecopy::py

NB_MODULE(_native, m) {
    m.doc() =
        "The native core: memberships, references, and the bases of queues, streams and frames.";
    if (PyArray_ImportNumPyAPI() < 0) throw nanobind::python_error();
    onecopy::install_recovery();
    onecopy::py::bind(m);
}
