// Small arithmetic on words.
#pragma once
#include <bit>
#include <cstdint>

namespace onecopy {
constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t to) noexcept {
    return (n + to - 1) / to * to;
}
constexpr std::uint64_t kKiB = 1024, kMiB = 1024 * kKiB;
constexpr std::uint32_t log2_floor(std::uint64_t n) noexcept {
    return 63u - static_cast<std::uint32_t>(std::countl_zero(n));
}
inline void cpu_relax() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield" ::: "memory");
#endif
}
}  // namespace onecopy
