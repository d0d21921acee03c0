// Fault builds only: what a campaign has a process lose at a crash point, other than its life.
#include "bindings/losses.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "base/crash_point.hpp"

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
