// Members follow a fork: the list of them and the handlers.
//
// Order of the mutexes: pools, list, each member's. All are plain ones: the child's only thread is
// the copy of the one that took them, and it may unlock those (a recursive mutex would refuse, it
// remembers the thread's id).
#include <pthread.h>

#include <vector>

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
    // First what may wait for others, then the mutexes under which nothing waits.
    for (auto& entry : list().members)
        entry.member->fork_reserve();
    for (auto& entry : list().members) {
        entry.member->mutex.lock();
        entry.member->fork_prepare();
    }
}
void parent() noexcept {
    auto& members = list().members;
    for (auto it = members.rbegin(); it != members.rend(); ++it) {
        it->member->fork_parent();
        it->member->mutex.unlock();
    }
    list().mutex.unlock();
    pools_mutex().unlock();
}
unsigned forks = 1;  // written where there is one thread, right after the fork; 0 is nobody

void child() noexcept {
    ++forks;
    auto& members = list().members;
    for (auto it = members.rbegin(); it != members.rend(); ++it) {
        Member* m = it->member;
        const int before = m->fd;
        m->fork_child();
        // A description of its own has another number, because the parent's was still open when it
        // was made. The same number means there were no descriptors to be had: what we have is the
        // parent's, and unlocking anything through it would unlock the parent.
        it->borrowed = m->fd == before;
        m->mutex.unlock();
    }
    list().mutex.unlock();
    pools_mutex().unlock();
}
}  // namespace

unsigned lineage() noexcept {
    return forks;
}

void make_room_for_member() {
    std::lock_guard guard(list().mutex);
    list().members.reserve(list().members.size() + 1);
}

void register_member(Member* m) noexcept {
    // Before the list's mutex: pthread_atfork takes a lock of its own that a fork holds while it
    // runs `prepare`.
    static const int installed = pthread_atfork(prepare, parent, child);
    static_cast<void>(installed);
    std::lock_guard guard(list().mutex);
    auto& members = list().members;
    for (const auto& entry : members)
        if (entry.member == m) return;
    members.push_back({m});
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
