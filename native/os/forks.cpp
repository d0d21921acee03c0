#include "os/forks.hpp"

#include <pthread.h>

#include <atomic>

namespace onecopy::os {
namespace {

unsigned forks = 1;  // written where there is one thread, right after the fork
std::atomic<const ForkSteps*> followed{nullptr};
// Of the fork that this thread is in: what `prepare` did is undone, also if handlers were added.
thread_local constinit const ForkSteps* running = nullptr;

void prepare() noexcept {
    running = followed.load(std::memory_order_acquire);  // [os.followed]
    if (running != nullptr) running->prepare();
}
void parent() noexcept {
    if (running != nullptr) running->parent();
}
void child() noexcept {
    ++forks;
    if (running != nullptr) running->child();
}

}  // namespace

unsigned lineage() noexcept {
    return forks;
}

void count_forks() noexcept {
    static const int installed = pthread_atfork(prepare, parent, child);
    static_cast<void>(installed);
}

void run_in_children(void (*act)() noexcept) noexcept {
    static_cast<void>(pthread_atfork(nullptr, nullptr, act));
}

void run_around_forks(const ForkSteps& steps) noexcept {
    static_cast<void>(pthread_atfork(steps.prepare, steps.parent, steps.child));
}

void follow_forks(const ForkSteps& steps) noexcept {
    count_forks();
    followed.store(&steps, std::memory_order_release);  // [os.followed]
}

}  // namespace onecopy::os
