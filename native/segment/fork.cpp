// Members follow a fork: the list of them and the handlers.
//
// Order of the mutexes: pools, list, each member's. All are plain ones: the child's only thread is
// the copy of the one that took them, and it may unlock those (a recursive mutex would refuse, it
// remembers the thread's id).
#include <pthread.h>

#include <algorithm>
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
    std::vector<Member*> members;
};
List& list() noexcept {
    static List& l = *new List;
    return l;
}

void prepare() noexcept {
    pools_mutex().lock();
    list().mutex.lock();
    // First what may wait for others, then the mutexes under which nothing waits.
    for (Member* m : list().members)
        m->fork_reserve();
    for (Member* m : list().members) {
        m->mutex.lock();
        m->fork_prepare();
    }
}
void after(void (Member::*act)() noexcept) noexcept {
    auto& members = list().members;
    for (auto it = members.rbegin(); it != members.rend(); ++it) {
        ((*it)->*act)();
        (*it)->mutex.unlock();
    }
    list().mutex.unlock();
    pools_mutex().unlock();
}
void parent() noexcept {
    after(&Member::fork_parent);
}
unsigned forks = 1;  // written where there is one thread, right after the fork; 0 is nobody

void child() noexcept {
    ++forks;
    after(&Member::fork_child);
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
    if (std::find(members.begin(), members.end(), m) == members.end()) members.push_back(m);
}

void forget_member(Member* m) noexcept {
    std::lock_guard guard(list().mutex);
    std::erase(list().members, m);
}

}  // namespace onecopy
