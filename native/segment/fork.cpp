// Members follow a fork: the list of them and the handlers.
#include <type_traits>

#include "os/forks.hpp"
#include "segment/member.hpp"
#include "segment/registry.hpp"
#include "storage/forks.hpp"

namespace onecopy {

namespace {
struct List {
    std::mutex mutex;
    Member* first = nullptr;
};
List& list() noexcept {
    static_assert(std::is_trivially_destructible_v<List>);
    static constinit List l;
    return l;
}

template <class Act>
void for_each_made(Act act) noexcept {
    for (Member* m = list().first; m != nullptr; m = m->registration.next)
        if (m->registration.made) act(*m);
}

void prepare() noexcept {
    list().mutex.lock();
    UnboundedWait::stays_inside = true;
    // First what may wait for others, then the mutexes under which nothing waits.
    for_each_made([](Member& m) { m.fork_reserve(); });
    for_each_made([](Member& m) {
        m.mutex.lock();
        m.fork_prepare();
    });
}
void done() noexcept {
    UnboundedWait::stays_inside = false;
    list().mutex.unlock();
}
void parent() noexcept {
    for_each_made([](Member& m) {
        m.fork_parent();
        m.mutex.unlock();
    });
    done();
}
void child() noexcept {
    for_each_made([](Member& m) {
        m.fork_child();
        m.mutex.unlock();
    });
    // Another thread's unfinished member has no owner in the child.
    for (Member** at = &list().first; *at != nullptr;) {
        Member& m = **at;
        if (m.registration.made) {
            at = &m.registration.next;
            continue;
        }
        *at = m.registration.next;
        m.registration = {};
        m.fork_unmade_child();
    }
    done();
}
}  // namespace

unsigned lineage() noexcept {
    return os::lineage();
}

void register_member(Member& m, bool made) noexcept {
    // Before the list's mutex: registering takes a lock of the C library that a fork holds while it
    // runs `prepare`.
    static constexpr storage::MemberSteps steps{prepare, parent, child};
    storage::follow_members(steps);
    follow_forks();
    std::lock_guard guard(list().mutex);
    if (m.registration.listed) return;
    m.registration = {list().first, true, made};
    list().first = &m;
}

void member_is_made(Member& m) noexcept {
    std::lock_guard guard(list().mutex);
    m.registration.made = true;
}

void forget_member(Member& m) noexcept {
    std::lock_guard guard(list().mutex);
    for (Member** at = &list().first; *at != nullptr; at = &(*at)->registration.next) {
        if (*at != &m) continue;
        *at = m.registration.next;
        m.registration = {};
        return;
    }
}

}  // namespace onecopy
