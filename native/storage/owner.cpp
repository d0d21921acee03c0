#include "storage/owner.hpp"

#include <cerrno>

#include "storage/failure.hpp"

namespace onecopy::storage {
namespace {

struct Known {
    bool asked = false;
    Owner me;
    Owner of_new;  // pid 0: not known yet
    bool ending = false;
};
constinit Known known;

constexpr u64 kFirstNamespace =
    0xEFFFFFFC;  // the inode of the first PID namespace, on every machine

}  // namespace

bool this_process(Owner& out) noexcept {
    if (!known.asked) {
        const os::Identity me = os::identity();
        if (me.start_ticks == 0 && lacks_means(me.error)) {
            errno = me.error;
            return false;
        }
        known.asked = true;
        known.me = {};
        if (me.start_ticks != 0 && me.pid == os::own_pid())
            known.me = {me.pid, me.start_ticks, me.pid_namespace & kOwnerNamespaceMask};
    }
    out = known.me;
    return true;
}

bool owner_of_new(u32 parent, Owner& out) noexcept {
    Owner me;
    if (!this_process(me)) return false;
    out = me;
    if (me.pid == 0) return true;
    if (known.of_new.pid != 0) {
        const Owner& before = known.of_new;
        const os::Life life =
            before == me ? os::Life::alive : os::life_of(before.pid, before.start_ticks, ~u64{0});
        if (life == os::Life::unknown && lacks_means(errno)) return false;
        if (life != os::Life::dead) {
            out = before;
            return true;
        }
    }
    u64 start = 0;
    const os::Life life = parent == 0 ? os::Life::dead : os::start_of(parent, start);
    if (life == os::Life::unknown && lacks_means(errno)) return false;
    // A parent that started after its child is another process with the same pid.
    if (life == os::Life::alive && start != 0 && start <= me.start_ticks)
        out = {parent, start, me.pid_namespace};
    known.of_new = out;
    return true;
}

Owner owner_of(const os::FileStatus& file) noexcept {
    const auto pid = file.accessed_ns & ((u32{1} << kOwnerPidBits) - 1);
    const u64 space = file.accessed_ns >> kOwnerPidBits;
    if (file.accessed_s <= kOwnerEpoch || pid == 0 || space > kOwnerNamespaceMask) return {};
    return {pid, static_cast<u64>(file.accessed_s - kOwnerEpoch), space};
}

bool mark_owner(int file, const Owner& owner) noexcept {
    return os::set_accessed(file, kOwnerEpoch + static_cast<std::int64_t>(owner.start_ticks),
                            static_cast<u32>(owner.pid_namespace << kOwnerPidBits) | owner.pid);
}

os::Life life_of_owner(const Owner& owner) noexcept {
    if (owner.pid == 0) return os::Life::dead;
    Owner me;
    if (!this_process(me)) return os::Life::unknown;
    if (owner == me) return known.ending ? os::Life::dead : os::Life::alive;
    os::Life life = os::Life::alive;
    if (me.pid != 0 && owner.pid_namespace == me.pid_namespace)
        life = os::life_of(owner.pid, owner.start_ticks, ~u64{0});
    else if (os::own_pid_namespace() == kFirstNamespace)
        // Only the first namespace sees the processes of all others, with other pids.
        life = os::life_inside(owner.pid, owner.start_ticks);
    if (life == os::Life::unknown && !lacks_means(errno)) return os::Life::alive;
    return life;
}

void end_ownership() noexcept {
    known.ending = true;
}

void forget_this_process() noexcept {
    known.asked = false;
    known.ending = false;
}

}  // namespace onecopy::storage
