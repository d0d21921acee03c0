// What a thread needs that waits for others: a wait for several words at once, readiness for an
// event loop, and the thread itself.
#pragma once
#include <cstddef>
#include <cstdint>

namespace onecopy::os {

struct WaitedWord {
    std::uint32_t* word;
    std::uint32_t expected;
};
constexpr std::size_t kMostWaitedWords = 128;  // FUTEX_WAITV_MAX

// Sleeps until one of the words is woken, or has not the expected value, or until a time of the
// monotonic clock (-1: for ever). The index of a word that was woken; -1: look at all of them.
// Several may have been woken; one index is returned.
//
// It needs Linux 5.16 (futex_waitv). Without that call, or if a filter forbids it, the thread looks
// at the words every 1 ms, and after 50 ms without a change every 5 ms.
int futex_wait_any(const WaitedWord* words, std::size_t n, std::int64_t until_ns) noexcept;
bool has_futex_waitv() noexcept;
void pretend_no_futex_waitv(bool yes) noexcept;  // for tests

// A descriptor that is readable once it was signalled, until it is cleared. -1: errno says why.
int make_eventfd() noexcept;
void signal_eventfd(int fd) noexcept;
void clear_eventfd(int fd) noexcept;
void close_eventfd(int fd) noexcept;

// Runs it in a thread that takes no signals and that nobody joins. False: there is none.
bool start_thread(void (*run)(void*), void* argument) noexcept;

}  // namespace onecopy::os
