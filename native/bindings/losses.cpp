// Fault builds only: what a campaign makes a process lose at a crash point, other than its life.
#include "bindings/losses.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
#include "base/crash_point.hpp"
#include "os/descriptor.hpp"

namespace nb = nanobind;

namespace onecopy::py {
namespace {

int lost = -1, in_its_place = -1;
void lose_here() noexcept {
    if (in_its_place < 0)
        os::close_descriptor(lost);
    else
        os::replace_descriptor(lost, in_its_place);
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
}

}  // namespace onecopy::py
#endif
