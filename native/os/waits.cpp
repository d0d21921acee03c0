#include "os/waits.hpp"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "os/os.hpp"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

namespace onecopy::os {
namespace {

// As the kernel declares it; headers before 5.16 do not.
struct Waited {
    std::uint64_t value;
    std::uint64_t address;
    std::uint32_t flags;
    std::uint32_t reserved;
};
// FUTEX2_SIZE_U32, and not FUTEX2_PRIVATE: the words are keyed by file and offset, as FUTEX_WAKE of
// other processes has them.
constexpr std::uint32_t kShared32 = 2;

std::atomic<bool> pretended{false};
std::atomic<bool> missing{false};

constexpr std::int64_t kFirstLook = 1'000'000, kLaterLook = 5'000'000, kBusy = 50'000'000;

int look_in_turn(const WaitedWord* words, std::size_t n, std::int64_t until) noexcept {
    const std::int64_t begin = monotonic_ns();
    for (;;) {
        for (std::size_t i = 0; i < n; ++i) {
            if (__atomic_load_n(words[i].word, __ATOMIC_SEQ_CST) != words[i].expected) return -1;
        }
        const std::int64_t now = monotonic_ns();
        if (until >= 0 && now >= until) return -1;
        std::int64_t step = now - begin < kBusy ? kFirstLook : kLaterLook;
        if (until >= 0) step = std::min(step, until - now);
        // The first word is the thread's own: it tells of changes of the list.
        futex_wait(words[0].word, words[0].expected, n == 1 && until < 0 ? kBusy * 1000 : step);
    }
}

}  // namespace

bool has_futex_waitv() noexcept {
    return !pretended.load(std::memory_order_relaxed) && !missing.load(std::memory_order_relaxed);
}
void pretend_no_futex_waitv(bool yes) noexcept {
    pretended.store(yes, std::memory_order_relaxed);
}

int futex_wait_any(const WaitedWord* words, std::size_t n, std::int64_t until_ns) noexcept {
    if (!has_futex_waitv()) return look_in_turn(words, n, until_ns);
    Waited all[kMostWaitedWords];
    n = std::min(n, kMostWaitedWords);
    for (std::size_t i = 0; i < n; ++i)
        all[i] = {words[i].expected, reinterpret_cast<std::uintptr_t>(words[i].word), kShared32, 0};
    const timespec until{until_ns / 1'000'000'000, until_ns % 1'000'000'000};
    const long got = syscall(SYS_futex_waitv, all, static_cast<unsigned>(n), 0,
                             until_ns < 0 ? nullptr : &until, CLOCK_MONOTONIC);
    if (got >= 0) return static_cast<int>(got);
    if (errno == ENOSYS || errno == EPERM || errno == EACCES) {
        missing.store(true, std::memory_order_relaxed);
        return look_in_turn(words, n, until_ns);
    }
    // EAGAIN, ETIMEDOUT, EINTR. ENOMEM, and whatever else comes: not at full speed.
    if (errno != EAGAIN && errno != ETIMEDOUT && errno != EINTR) nap(1'000'000);
    return -1;
}

int make_eventfd() noexcept {
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}
void signal_eventfd(int fd) noexcept {
    const std::uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}
void clear_eventfd(int fd) noexcept {
    std::uint64_t count = 0;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
}
void close_eventfd(int fd) noexcept {
    close(fd);
}

namespace {
struct Start {
    void (*run)(void*);
    void* argument;
};
void* begin(void* packed) noexcept {
    const Start start = *static_cast<Start*>(packed);
    delete static_cast<Start*>(packed);
    start.run(start.argument);
    return nullptr;
}
}  // namespace

bool start_thread(void (*run)(void*), void* argument) noexcept {
    auto* start = new (std::nothrow) Start{run, argument};
    if (start == nullptr) return false;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // the new thread inherits it
    pthread_t thread;
    const bool started = pthread_create(&thread, &attributes, begin, start) == 0;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    if (!started) delete start;
    return started;
}

}  // namespace onecopy::os
