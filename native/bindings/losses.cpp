// Fault builds only: what a campaign has a process lose at a crash point, other than its life.
#include "bindings/losses.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

#include "base/crash_point.hpp"
#include "os/os.hpp"

namespace nb = nanobind;

namespace {
std::atomic<long> allocations_left{-1};  // negative: nothing is refused
std::atomic<bool> refused{false};
}  // namespace

// Of this module: it is asked for before that of the C++ library.
void* operator new(std::size_t n) {
    if (allocations_left.load() >= 0 && allocations_left.fetch_sub(1) <= 0) {
        allocations_left.store(0);  // the memory stays used up
        refused.store(true);
        throw std::bad_alloc();
    }
    if (void* p = std::malloc(n)) return p;
    throw std::bad_alloc();
}
void operator delete(void* p) noexcept {
    std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
    std::free(p);
}

namespace onecopy::py {
namespace {

int reached = -1, go = -1;
void pause_here() noexcept {
    // With the GIL, nothing of Python could go on meanwhile: not a pause of one thread.
    const char word = PyGILState_Check() ? 'g' : 'p';
    if (write(reached, &word, 1) != 1 || word == 'g') return;
    char c = 0;
    while (read(go, &c, 1) < 0 && errno == EINTR) {
    }
}

// For the C library's exit handlers: when the interpreter has ended, and what runs at its end.
int late = -1;
void go_on_late() {
    if (late < 0 || write(late, "g", 1) != 1) return;
    for (int i = 0; i < 100; ++i)  // it goes on, and ends or hangs, or takes what is left of these
        os::nap(1'000'000);
}

int lost = -1, in_its_place = -1;
void lose_here() noexcept {
    if (in_its_place < 0)
        close(lost);
    else
        dup2(in_its_place, lost);
}

}  // namespace

void bind_losses(nb::module_& m) {
    m.def(
        "pause_at",
        [](std::uint64_t step, int says, int waits) {
            reached = says;
            go = waits;
            call_at(step, pause_here);
        },
        nb::arg("step"), nb::arg("reached"), nb::arg("go"),
        "Stop the thread that comes to the step-th crash point from now, if it is without the GIL: "
        "it "
        "writes p to one descriptor, and waits until it can read from the other. With the GIL it "
        "writes g and goes on.");
    std::atexit(go_on_late);
    m.def(
        "go_on_late", [](int go_) { late = go_; }, nb::arg("go"),
        "Have a thread that was stopped go on when the interpreter has ended.");
    m.def(
        "lose_at",
        [](std::uint64_t step, int descriptor, int by) {
            lost = descriptor;
            in_its_place = by;
            call_at(step, lose_here);
        },
        nb::arg("step"), nb::arg("descriptor"), nb::arg("by"),
        "Have a descriptor be another one's file at the step-th crash point; by -1: be closed.");
    m.def(
        "refuse_memory",
        [](long after) {
            allocations_left.store(after);
            return refused.exchange(false);
        },
        nb::arg("after"),
        "Refuse memory to the core after so many allocations from now; negative: no more. True: it "
        "was refused since the last call.");
}

}  // namespace onecopy::py
#endif
