// onecopy._native: what Python sees of the core. One file for each file of the core. They convert,
// release the GIL, raise, and decide nothing.
#define ONECOPY_IMPORTS_NUMPY
#include "bindings/numpy_api.hpp"

#include "base/crash_point.hpp"
#include "base/private_memory.hpp"
#include "bindings/async_items.hpp"
#include "bindings/born.hpp"
#include "bindings/codec_typed.hpp"
#include "bindings/containers.hpp"
#include "bindings/guarded.hpp"
#include "bindings/leaving.hpp"
#include "bindings/losses.hpp"
#include "bindings/member.hpp"
#include "bindings/segments.hpp"
#include "bindings/sync.hpp"
#include "bindings/wait_policy.hpp"
#include "os/forks.hpp"
#include "os/processes.hpp"
#include "recovery/recovery.hpp"

namespace onecopy::py {
namespace {

void set_hooks(nb::handle encode, nb::handle missing, nb::handle pool_handle) noexcept {
    Py_XSETREF(hooks.encode, Py_NewRef(encode.ptr()));
    Py_XSETREF(hooks.missing, Py_NewRef(missing.ptr()));
    Py_XSETREF(hooks.pool_handle, Py_NewRef(pool_handle.ptr()));
}

void set_plan_hook(nb::handle plan) noexcept {
    Py_XSETREF(hooks.plan, Py_NewRef(plan.ptr()));
}

void set_build_hooks(nb::handle take_apart, nb::handle builder_of) noexcept {
    Py_XSETREF(hooks.take_apart, Py_NewRef(take_apart.ptr()));
    Py_XSETREF(hooks.builder_of, Py_NewRef(builder_of.ptr()));
}

void set_shared_array(nb::type_object type) noexcept {
    hooks.shared_array = reinterpret_cast<PyTypeObject*>(Py_NewRef(type.ptr()));
}

void set_file_hook(nb::handle in_file) noexcept {
    hooks.in_file.value.set(in_file.is_none() ? nullptr : Py_NewRef(in_file.ptr()));
}

// In a child, the thread that forked is the main one.
void follow_fork() noexcept {
    main_thread.store(os::this_thread());
}

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
// `record`: a writable buffer of at least 32 bytes that lives longer than the last crash point of
// the process (an mmap). Its memory is kept.
void* record_in(nb::object buffer) {
    if (buffer.is_none()) return nullptr;
    static Py_buffer views[64];  // never released: a crash point may come at any time
    static unsigned used = 0;
    static void* last = nullptr;
    static PyObject* last_object = nullptr;
    if (buffer.ptr() == last_object) return last;
    if (used == 64 || PyObject_GetBuffer(buffer.ptr(), &views[used], PyBUF_WRITABLE) != 0)
        throw nb::python_error();
    last = views[used++].buf;
    last_object = buffer.ptr();
    return last;
}

// Python's allocations count together with the core's.
void count_pythons_allocations() noexcept {
    static PyMemAllocatorEx before[3];
    const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
    for (int i = 0; i < 3; ++i) {
        PyMem_GetAllocator(domains[i], &before[i]);
        PyMemAllocatorEx counting;
        counting.ctx = &before[i];
        counting.malloc = [](void* context, std::size_t n) -> void* {
            auto& real = *static_cast<PyMemAllocatorEx*>(context);
            return allocation_fails() ? nullptr : real.malloc(real.ctx, n);
        };
        counting.calloc = [](void* context, std::size_t n, std::size_t size) -> void* {
            auto& real = *static_cast<PyMemAllocatorEx*>(context);
            return allocation_fails() ? nullptr : real.calloc(real.ctx, n, size);
        };
        counting.realloc = [](void* context, void* at, std::size_t n) -> void* {
            auto& real = *static_cast<PyMemAllocatorEx*>(context);
            return allocation_fails() ? nullptr : real.realloc(real.ctx, at, n);
        };
        counting.free = [](void* context, void* at) {
            auto& real = *static_cast<PyMemAllocatorEx*>(context);
            real.free(real.ctx, at);
        };
        PyMem_SetAllocator(domains[i], &counting);
    }
}

void bind_faults(nb::module_& m) {
    crash_after(0);  // its fork handler first
    m.def(
        "crash_after",
        [](u64 step, nb::object record) {
            crash_after(step, static_cast<FaultRecord*>(record_in(std::move(record))));
        },
        nb::arg("step"), nb::arg("record") = nb::none(),
        "SIGKILL this process at its step-th crash point from now, noted in the record; 0: never.");
    m.def(
        "crash_child_after",
        [](u64 step, nb::object record) {
            crash_child_after(step, static_cast<FaultRecord*>(record_in(std::move(record))));
        },
        nb::arg("step"), nb::arg("record") = nb::none(),
        "As crash_after, for the child of this process's next fork, counted from the fork.");
    m.def(
        "stall_at",
        [](u64 step, nb::object record) {
            stall_at(
                step, []() noexcept { return PyGILState_Check() == 0; },
                static_cast<StallRecord*>(record_in(std::move(record))));
        },
        nb::arg("step"), nb::arg("record"),
        "Hold this thread at its step-th crash point from now, of those that it passes without the "
        "GIL, and the end of this process after it has left its pools; see StallRecord.");
    m.def("crash_steps", &crash_steps, "Crash points passed since crash_after.");
    bind_losses(m);
    count_pythons_allocations();
    m.def("fail_allocation", &fail_allocation, nb::arg("nth"), nb::arg("lasting") = false,
          "The nth allocation from now finds no memory, and the following if lasting; 0: none.");
    m.def("allocations", &allocations, "Allocations since fail_allocation.");
}
#endif

// A forked child is a member by itself. If it cannot be found without its parent (memfd), it makes
// itself known.
constexpr std::int64_t kAnnounceWithin = 100'000'000;  // ns

void announce_all() noexcept {
    // Without memory it stays unknown: it is found through its parent, as long as that lives.
    static_cast<void>(within_memory([] {
        for_each_pool([](Member& m) {
            // The thread that forks waits for this, with the GIL. If a stopped process has the
            // directory, `collect` does it later.
            GilWaitPolicy wait(os::monotonic_ns() + kAnnounceWithin);
            if (m.joined.load()) announce(m, wait);
        });
        return Status::ok;
    }));
}

}  // namespace

static void bind(nb::module_& m) {
    // Memberships and queues live in globals of Python modules, some of which the interpreter never
    // clears.
    nb::set_leak_warnings(false);
    if (!init_pending() || !init_lease(m.ptr()) || !init_private_memory(m.ptr()) ||
        !init_async_items())
        throw nb::python_error();
    bind_files(m);
    bind_waits(m);
    bind_member(m);
    bind_private_memory(m);
    bind_ref(m);
    bind_message_type(m);
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
    bind_leaving(m);
    bind_born(m);
    m.def(
        "own_methods", &own_methods, nb::arg("cls"), nb::sig("def own_methods(cls: type) -> type"),
        "Let a class have the methods that it inherits from the core as its own; calls cost less.");
    m.def("set_plan_hook", &set_plan_hook, nb::arg("plan"));
    m.def("set_build_hooks", &set_build_hooks, nb::arg("take_apart"), nb::arg("builder_of"));
    m.def("set_shared_array", &set_shared_array, nb::arg("cls"));
    m.def("set_hooks", &set_hooks, nb::arg("encode"), nb::arg("missing"), nb::arg("pool_handle"));
    m.def(
        "is_plain", [](nb::handle object) { return is_plain(object.ptr()); },
        nb::arg("value").none(),
        "Whether rebuilding it runs nobody's code: a number, text, or a small container of such.");
    m.def("set_file_hook", &set_file_hook, nb::arg("in_file").none());
    m.def("members", &all_members, "The memberships of this process that are in use.");
    m.def("monotonic_ns", &os::monotonic_ns);
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    bind_faults(m);
#endif
    UnboundedWait::step_out = step_out;
    UnboundedWait::step_in = step_in;
    // The loader makes the variables of a thread when they are first touched, and ends the process
    // if there is no memory for them. Those of this thread are made here.
    Spin::paid();
    main_thread.store(nb::cast<unsigned long>(
        nb::module_::import_("threading").attr("main_thread")().attr("ident")));
    os::run_in_children(follow_fork);
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
