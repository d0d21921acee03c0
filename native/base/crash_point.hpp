// Control of crash points, in fault builds.
#pragma once
#include <cstdint>

namespace onecopy {
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
void crash_after(std::uint64_t step) noexcept;  // SIGKILL this process after its step-th shared store from now; 0: never
std::uint64_t crash_steps() noexcept;           // shared stores since crash_after
#endif
}  // namespace onecopy
