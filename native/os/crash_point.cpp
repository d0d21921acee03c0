// Fault builds only: counts crash points, and raises the signal at the one that was asked for.
#include "base/crash_point.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <ctime>

namespace onecopy {
namespace {

// Private to the process: a forked child has copies.
std::atomic<std::uint64_t> steps{0};
std::atomic<std::uint64_t> fatal_step{0};
std::atomic<int> fatal_signal{SIGKILL};
std::atomic<FaultRecord*> witness{nullptr};
std::atomic<bool> for_child{false};
std::atomic<bool> before{false};
std::atomic<void (*)() noexcept> action{nullptr};

void in_child() noexcept {
    // What was asked of the parent does not concern its children.
    if (!for_child.exchange(false)) fatal_step = 0;
    steps = 0;
}

void arm(std::uint64_t step, FaultRecord* record, int signal, bool child, bool early = false,
         void (*act)() noexcept = nullptr) noexcept {
    // Fork handlers in a child run in the order of their registration. The steps of the pools' own
    // handler must count, so a campaign calls this before it opens its first pool. A process that
    // was forked from such a campaign has it already.
    static const int installed = pthread_atfork(nullptr, nullptr, in_child);
    static_cast<void>(installed);
    fatal_step = 0;
    steps = 0;
    witness = record;
    fatal_signal = signal;
    for_child = child;
    before = early;
    action = act;
    fatal_step = step;
}

}  // namespace

static void raise_at(std::uint64_t step, void* place) noexcept;

namespace {

std::atomic<StallRecord*> stalls{nullptr};
thread_local std::uint64_t steps_to_stall = 0;
thread_local bool (*may_stall_here)() noexcept = nullptr;

void await(const std::uint64_t& yes) noexcept {
    const timespec nap{0, 200'000};
    while (__atomic_load_n(&yes, __ATOMIC_SEQ_CST) == 0)
        nanosleep(&nap, nullptr);
}

void stall() noexcept {
    if (steps_to_stall == 0 || !may_stall_here() || --steps_to_stall != 0) return;
    StallRecord* record = stalls.load();
    __atomic_store_n(&record->stalled, static_cast<std::uint64_t>(syscall(SYS_gettid)),
                     __ATOMIC_SEQ_CST);
    await(record->go_on);
}

}  // namespace

void stall_at(std::uint64_t step, bool (*may_stall)() noexcept, StallRecord* record) noexcept {
    stalls = record;
    may_stall_here = may_stall;
    steps_to_stall = step;
}

void has_left_pools() noexcept {
    StallRecord* record = stalls.load();
    if (record == nullptr) return;
    __atomic_store_n(&record->left, std::uint64_t{1}, __ATOMIC_SEQ_CST);
    await(record->may_end);
}

void crash_point() noexcept {
    stall();
    const std::uint64_t now = steps.fetch_add(1, std::memory_order_relaxed) + 1;
    if (now != fatal_step.load(std::memory_order_relaxed) ||
        for_child.load(std::memory_order_relaxed) || before.load(std::memory_order_relaxed))
        return;
    raise_at(now, __builtin_return_address(0));
}

void before_store() noexcept {
    const std::uint64_t next = steps.load(std::memory_order_relaxed) + 1;
    if (next != fatal_step.load(std::memory_order_relaxed) ||
        !before.load(std::memory_order_relaxed))
        return;
    fatal_step = 0;  // once: the store may be a compare-and-swap that fails
    raise_at(next, __builtin_return_address(0));
}

static void raise_at(std::uint64_t step, void* place) noexcept {
    if (FaultRecord* record = witness.load(std::memory_order_relaxed); record != nullptr) {
        record->place = reinterpret_cast<std::uint64_t>(place);
        __atomic_store_n(&record->step, step, __ATOMIC_SEQ_CST);
    }
    if (auto* act = action.load(std::memory_order_relaxed); act != nullptr) {
        act();
        return;
    }
    // To the whole process, whichever thread this is. The signal is delivered before kill() returns
    // if this thread may take it. SIGKILL ends every thread. A process that was stopped continues
    // here.
    kill(getpid(), fatal_signal.load(std::memory_order_relaxed));
}

void crash_after(std::uint64_t step, FaultRecord* record) noexcept {
    arm(step, record, SIGKILL, false);
}
void stop_at(std::uint64_t step, FaultRecord* record) noexcept {
    arm(step, record, SIGSTOP, false);
}
void crash_child_after(std::uint64_t step, FaultRecord* record) noexcept {
    arm(step, record, SIGKILL, true);
}
void stop_before(std::uint64_t step, FaultRecord* record) noexcept {
    arm(step, record, SIGSTOP, false, true);
}
void call_at(std::uint64_t step, void (*act)() noexcept, FaultRecord* record) noexcept {
    arm(step, record, 0, false, false, act);
}
std::uint64_t crash_steps() noexcept {
    return steps;
}

}  // namespace onecopy
#endif
