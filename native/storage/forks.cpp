#include "storage/forks.hpp"

#include <atomic>
#include <type_traits>

#include "os/forks.hpp"
#include "storage/descriptors.hpp"
#include "storage/owner.hpp"

namespace onecopy {

std::mutex& pools_mutex() noexcept {
    // No destructor runs for it, because members may be destroyed after the static destructors. It
    // is not allocated, because a fork locks it, and an allocation could fail then.
    static_assert(std::is_trivially_destructible_v<std::mutex>);
    static constinit std::mutex m;
    return m;
}

namespace storage {

std::mutex& segments_mutex() noexcept {
    static constinit std::mutex m;
    return m;
}

namespace {

std::atomic<const MemberSteps*> members{nullptr};
// The steps of the fork in progress; under pools_mutex, which the fork holds.
const MemberSteps* running = nullptr;

void prepare() noexcept {
    segments_mutex().lock();
    pools_mutex().lock();
    running = members.load(std::memory_order_acquire);  // [storage.members]
    if (running != nullptr) running->prepare();
}
void parent() noexcept {
    if (running != nullptr) running->parent();
    pools_mutex().unlock();
    segments_mutex().unlock();
}
void child() noexcept {
    if (running != nullptr) running->child();
    Fd::close_all_in_child();
    PoolFd::close_all_in_child();
    pools_mutex().unlock();
    forget_this_process();
    segments_mutex().unlock();
}

}  // namespace

void follow_members(const MemberSteps& steps) noexcept {
    members.store(&steps, std::memory_order_release);  // [storage.members]
}

}  // namespace storage

void follow_forks() noexcept {
    static constexpr os::ForkSteps steps{storage::prepare, storage::parent, storage::child};
    os::follow_forks(steps);
}

}  // namespace onecopy
