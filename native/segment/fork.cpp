// Members follow a fork: the list of them and the handlers.
//
// Order of the mutexes: pools, list, each member's. All are plain ones: the child's only thread is the copy of the one that took them, and it may
// unlock those (a recursive mutex would refuse, it remembers the thread's id).
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "segment/member.hpp"
#include "segment/registry.hpp"

namespace onecopy {

std::mutex& pools_mutex() noexcept {
    static std::mutex& m = *new std::mutex;  // never destroyed: members may go after static destructors ran
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
    for (Member* m : list().members) {
        m->mutex.lock();
        m->fork_prepare();
    }
}
void parent() noexcept {
    auto& members = list().members;
    for (auto it = members.rbegin(); it != members.rend(); ++it) {
        (*it)->fork_parent();
        (*it)->mutex.unlock();
    }
    list().mutex.unlock();
    pools_mutex().unlock();
}
void child() noexcept {
    auto& members = list().members;
    for (auto it = members.rbegin(); it != members.rend(); ++it) {
        Member* m = *it;
        m->fork_child();
        // Without a slot there must be no descriptor either: what is left would be the parent's open file description, whose locks would outlive the
        // parent in us, and which we would unlock under its feet when we let go. Closing a copy drops none of its locks.
        if (!m->joined.load() && m->fd >= 0) {
            close(m->fd);
            m->fd = -1;
        }
        m->mutex.unlock();
    }
    list().mutex.unlock();
    pools_mutex().unlock();
}
}  // namespace

void register_member(Member* m) noexcept {
    // Before the list's mutex: pthread_atfork takes a lock of its own that a fork holds while it runs `prepare`.
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
