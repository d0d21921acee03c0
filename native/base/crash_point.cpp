// Fault builds only: counts shared stores and dies after the one that was asked for.
#include "base/crash_point.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
#include <csignal>
#include <unistd.h>

#include <atomic>

namespace onecopy {
namespace {
std::atomic<std::uint64_t> steps{0};
std::atomic<std::uint64_t> fatal_step{0};
}  // namespace

void crash_point() noexcept {
    if (steps.fetch_add(1, std::memory_order_relaxed) + 1 == fatal_step.load(std::memory_order_relaxed)) {
        kill(getpid(), SIGKILL);
    }
}
void crash_after(std::uint64_t step) noexcept {
    steps = 0;
    fatal_step = step;
}
std::uint64_t crash_steps() noexcept { return steps; }
}  // namespace onecopy
#endif
