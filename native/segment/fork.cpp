// Members follow a fork: the list of them and the handlers.
//
// Order of the mutexes: pools, list, each member's. All are plain ones: the child's only thread is
// the copy of the one that took them, and it may unlock those (a recursive mutex would refuse, it
// remembers the thread's id).
#include <pthread.h>

#include <vector>

#include "segment/descriptor.hpp"
#include "segment/member.hpp"
#include "segment/registry.hpp"

namespace onecopy {

std::mutex& pools_mutex() noexcept {
    // Never destroyed: members may go after static destructors ran.
    static std::mutex& m = *new std::mutex;
    return m;
}

namespace {
struct List {
    std::mutex mutex;
    struct Entry {
        Member* member;
        bool made = false;
        bool borrowed = false;
    };
    std::vector<Entry> members;
};
List& list() noexcept {
    static List& l = *new List;
    return l;
}

void prepare() noexcept {
    pools_mutex().lock();
    list().mutex.lock();
    Stubborn::stays_inside = true;
    // First what may wait for others, then the mutexes under which nothing waits.
    for (auto& entry : list().members)
        if (entry.made) entry.member->fork_reserve();
    for (auto& entry : list().members) {
        if (!entry.made) continue;
        entry.member->mutex.lock();
        entry.member->fork_prepare();
    }
}
void parent() noexcept {
    auto& members = list().members;
    for (auto it = members.rbegin(); it != members.rend(); ++it) {
        if (!it->made) continue;
        it->member->fork_parent();
        it->member->mutex.unlock();
    }
    Stubborn::stays_inside = false;
    list().mutex.unlock();
    pools_mutex().unlock();
}
unsigned forks = 1;  // written where there is one thread, right after the fork; 0 is nobody

void child() noexcept {
    ++forks;
    auto& members = list().members;
    for (auto it = members.rbegin(); it != members.rend(); ++it) {
        Member* m = it->member;
        if (!it->made) {
            m->fork_unmade_child();
            continue;
        }
        const int before = m->fd;
        m->fork_child();
        // A description of its own has another number, because the parent's was still open when it
        // was made. The same number means there were no descriptors to be had: what we have is the
        // parent's, and unlocking anything through it would unlock the parent.
        it->borrowed = m->fd == before;
        m->mutex.unlock();
    }
    std::erase_if(members, [](const List::Entry& entry) { return !entry.made; });
    Fd::close_all_in_child();
    Stubborn::stays_inside = false;
    list().mutex.unlock();
    pools_mutex().unlock();
}
}  // namespace

void follow_forks() noexcept {
    static const int installed = pthread_atfork(prepare, parent, child);
    static_cast<void>(installed);
}

unsigned lineage() noexcept {
    return forks;
}

void register_member(Member* m, bool made) noexcept {
    // Before the list's mutex: pthread_atfork takes a lock of its own that a fork holds while it
    // runs `prepare`.
    follow_forks();
    std::lock_guard guard(list().mutex);
    auto& members = list().members;
    for (const auto& entry : members)
        if (entry.member == m) return;
    members.push_back({m, made});
}

void member_is_made(Member* m) noexcept {
    std::lock_guard guard(list().mutex);
    for (auto& entry : list().members)
        if (entry.member == m) entry.made = true;
}

void forget_member(Member* m) noexcept {
    std::lock_guard guard(list().mutex);
    std::erase_if(list().members, [m](const List::Entry& entry) { return entry.member == m; });
}

bool descriptor_is_borrowed(const Member* m) noexcept {
    std::lock_guard guard(list().mutex);
    for (const auto& entry : list().members)
        if (entry.member == m) return entry.borrowed;
    return false;
}

}  // namespace onecopy
