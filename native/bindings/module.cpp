// onecopy._native: what Python sees of the core. One file per core file; they convert, give the GIL
// away, raise, and decide nothing.
#define ONECOPY_IMPORTS_NUMPY
#include "bindings/numpy_api.hpp"

#include <pthread.h>

#include "base/crash_point.hpp"
#include "bindings/codec.hpp"
#include "bindings/containers.hpp"
#include "bindings/guarded.hpp"
#include "bindings/member.hpp"
#include "bindings/segments.hpp"
#include "bindings/sync.hpp"
#include "recovery/recovery.hpp"

namespace onecopy::py {
namespace {

void set_hooks(nb::handle encode, nb::handle decode, nb::handle pool_handle) noexcept {
    Py_XSETREF(hooks.encode, Py_NewRef(encode.ptr()));
    Py_XSETREF(hooks.decode, Py_NewRef(decode.ptr()));
    Py_XSETREF(hooks.pool_handle, Py_NewRef(pool_handle.ptr()));
}

void set_file_hook(nb::handle in_file) noexcept {
    Py_XSETREF(hooks.in_file, in_file.is_none() ? nullptr : Py_NewRef(in_file.ptr()));
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
        os::nap(1'000'000);
        PyEval_RestoreThread(state);
    }
    return outsiders.in_flight.load() == outsiders.parked.load();
}

void leave() noexcept {
    outsiders.leaver.store(pthread_self());
    outsiders.leaving.store(true);
    if (nobody_is_inside()) onecopy::leave_all();
}

// In a child: its only thread is the one that forked, and that one had the GIL.
void forget_outsiders() noexcept {
    outsiders.in_flight.store(0);
    outsiders.parked.store(0);
    outsiders.leaving.store(false);
    outsiders.main.store(pthread_self());
}

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
// `record`: a writable buffer of at least 16 bytes that outlives the process's last crash point (an
// mmap): its memory is kept.
FaultRecord* record_in(nb::object buffer) {
    if (buffer.is_none()) return nullptr;
    static Py_buffer views[64];  // never released: a crash point may come at any time
    static unsigned used = 0;
    static FaultRecord* last = nullptr;
    static PyObject* last_object = nullptr;
    if (buffer.ptr() == last_object) return last;
    if (used == 64 || PyObject_GetBuffer(buffer.ptr(), &views[used], PyBUF_WRITABLE) != 0)
        throw nb::python_error();
    last = static_cast<FaultRecord*>(views[used++].buf);
    last_object = buffer.ptr();
    return last;
}

void bind_faults(nb::module_& m) {
    crash_after(0);  // its fork handler first
    m.def(
        "crash_after",
        [](u64 step, nb::object record) { crash_after(step, record_in(std::move(record))); },
        nb::arg("step"), nb::arg("record") = nb::none(),
        "SIGKILL this process at its step-th crash point from now, noted in the record; 0: never.");
    m.def(
        "crash_child_after",
        [](u64 step, nb::object record) { crash_child_after(step, record_in(std::move(record))); },
        nb::arg("step"), nb::arg("record") = nb::none(),
        "As crash_after, for the child of this process's next fork, counted from the fork.");
    m.def("crash_steps", &crash_steps, "Crash points passed since crash_after.");
}
#endif

// A forked child is a member by itself. One that nobody can find without its parent (memfd) makes
// itself known.
void announce_all() noexcept {
    for_each_pool([](Member& m) {
        Stubborn wait;
        if (m.joined.load()) announce(m, wait);
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
    bind_fill(m);
    bind_compare(m);
    if (!init_guarded(m.ptr())) throw nb::python_error();
    bind_segments(m);
    bind_shareable(m);
    bind_list(m);
    bind_dict(m);
    m.def("set_hooks", &set_hooks, nb::arg("encode"), nb::arg("decode"), nb::arg("pool_handle"));
    m.def("set_file_hook", &set_file_hook, nb::arg("in_file").none());
    m.def("members", &all_members, "Every membership of this process that somebody uses.");
    m.def("leave_all", &leave, "Leave every pool, at exit.");
    m.def("monotonic_ns", &os::monotonic_ns);
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    bind_faults(m);
#endif
    Stubborn::step_out = step_out;
    Stubborn::step_in = step_in;
    outsiders.main.store(static_cast<pthread_t>(nb::cast<unsigned long>(
        nb::module_::import_("threading").attr("main_thread")().attr("ident"))));
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
