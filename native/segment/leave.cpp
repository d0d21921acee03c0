#include <algorithm>
#include <utility>

#include "base/private_memory.hpp"
#include "os/processes.hpp"
#include "segment/pools.hpp"

namespace onecopy {
namespace pools {

void depart(const os::SharedFile& file, const Place& place, bool persistent) noexcept {
    file.unlock(kMemberByte);
    if (persistent || file.lock(kMemberByte, true) != os::ByteLock::taken) return;
    Fd dirfd([&] { return os::open_directory(place.directory.c_str()); });
    // Without memory to read a rendezvous, the name stays for the next process that looks.
    if (dirfd) {
        static_cast<void>(within_memory(
            [&] { return remove_name(dirfd.get(), place, DirectoryLock(dirfd.get())); }));
    }
    file.unlock(kMemberByte);
}

namespace {

// Of a pool with the mark that a thread leaves it, and without pools_mutex.
void give_up_byte(const Pool& pool) noexcept {
    const Member& m = *pool.member;
    // A forked child that is no member has no descriptor.
    if (!m.readonly && m.file) depart(m.file, pool.place, pool.persistent || !m.last_one_unlinks);
}

// Under pools_mutex, which is free meanwhile: if another process delays this
// step, neither a fork nor what other threads do with other pools waits for it.
void leave_marked(std::unique_lock<std::mutex>& guard, Pool& pool) noexcept {
    pool.leaving = lineage();  // keeps the member and this entry: drop_member waits
    guard.unlock();
    Member& m = *pool.member;
    m.leave();
    give_up_byte(pool);
    guard.lock();
    // Through a lost number nothing could be unlocked.
    if (m.file.lost()) m.file.close();
    pool.left = true;
    pool.leaving = 0;
}

}  // namespace

void forget_pool_of(Member& m, PoolFd& last) noexcept {
    std::erase_if(all_pools(), [&m](const Pool& p) { return p.member == &m; });
    forget_member(m);
    last.adopt_locked(std::move(m.file));
    // A child would inherit a private mapping, and the locks with it.
    if (m.readonly && m.base != nullptr) os::unmap(std::exchange(m.base, nullptr), m.length);
}

void drop_member(Member* m) noexcept {
    // First, so that the interpreter is taken back last: not under the mutex, and not before the
    // memory is gone, because gigabytes take the kernel seconds to free.
    UnboundedWait wait;
    wait.about_to_block();
    PoolFd last;
    {
        std::unique_lock guard(pools_mutex());
        Pool* pool = pool_of(m);
        // Another thread may be at it.
        while (pool != nullptr && pool->leaving == lineage()) {
            guard.unlock();
            os::nap(1'000'000);
            guard.lock();
            pool = pool_of(m);
        }
        if (pool != nullptr && !pool->left) leave_marked(guard, *pool);
        forget_pool_of(*m, last);
    }
    delete m;
}

}  // namespace pools

using namespace pools;

Status unlink_pool(Member& m, Failure& why, WaitPolicy& p) {
    Place place;
    {
        std::lock_guard guard(pools_mutex());
        const Pool* pool = pool_of(&m);
        if (pool == nullptr) return Status::no_entry;
        place = pool->place;
    }
    Fd dirfd;
    if (Status s = open_directory(place.directory, dirfd, why); !good(s)) return s;
    BoundedWait policy(p, from_now(kDirectoryWait));
    const DirectoryLock directory_lock(dirfd.get(), policy);
    if (!directory_lock) return directory_lock.fail(why);
    const Status s = remove_name(dirfd.get(), place, directory_lock);
    if (good(s)) {
        std::lock_guard guard(pools_mutex());
        // Others find that the name is gone, or not theirs, when they look.
        m.last_one_unlinks = false;
        m.unlinked.store(true, std::memory_order_relaxed);
    }
    return s;
}

void announce(Member& m, WaitPolicy& p) {
    Place place;
    {
        std::lock_guard guard(pools_mutex());
        const Pool* pool = pool_of(&m);
        if (pool == nullptr || !pool->place.memfd || pool->announced == lineage() || pool->left ||
            !m.joined.load())
            return;
        place = pool->place;
    }
    Failure why;
    Fd dirfd;
    BoundedWait policy(p, from_now(kDirectoryWait));
    Status s = open_directory(place.directory, dirfd, why);
    if (good(s)) s = add_line(dirfd.get(), place, m.file.number(), policy);
    // Whether it works or not, unless it is for want of a descriptor, or of time: others may
    // then not find the pool through us, but trying at each operation would cost more.
    if (s == Status::timed_out || s == Status::would_block) return;
    if (!good(s) && lacks_means(errno)) return;
    std::lock_guard guard(pools_mutex());
    if (Pool* pool = pool_of(&m); pool != nullptr) pool->announced = lineage();
}

void leave_all() noexcept {
    std::unique_lock guard(pools_mutex());
    for (Pool& p : all_pools())
        if (!p.left) leave_marked(guard, p);
}

void depart_all() noexcept {
    // Another thread may be at it, and wait for a disk or a directory. What is left undone here the
    // next opener does.
    const std::int64_t end = os::monotonic_ns() + kOpenWait;
    std::unique_lock guard(pools_mutex(), std::try_to_lock);
    while (!guard.owns_lock()) {
        if (os::monotonic_ns() > end) return;
        os::nap(1'000'000);
        static_cast<void>(guard.try_lock());
    }
    for (Pool& p : all_pools()) {
        if (p.left || p.leaving == lineage() || p.persistent || !p.member->last_one_unlinks)
            continue;
        p.leaving = lineage();  // keeps the member and this entry: drop_member waits
        guard.unlock();
        give_up_byte(p);
        guard.lock();
        p.leaving = 0;
    }
}

void leave_pool(Member& m) noexcept {
    std::unique_lock guard(pools_mutex());
    Pool* pool = pool_of(&m);
    if (pool != nullptr && !pool->left && pool->leaving != lineage()) leave_marked(guard, *pool);
}

}  // namespace onecopy
