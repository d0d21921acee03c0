#include "segment/pools.hpp"

#include "segment/opening.hpp"

namespace onecopy::pools {

std::list<Pool>& all_pools() noexcept {
    static auto& known = *new std::list<Pool>;
    return known;
}

Pool* pool_of(const Member* m) noexcept {
    for (Pool& p : all_pools())
        if (p.member == m) return &p;
    return nullptr;
}

Status fail_to_map(Failure& why) {
    const Status s = fail(why, "map the pool");
    return s == Status::no_memory ? Status::out_of_memory : s;
}

unsigned char* map_segment(const PoolFd& again, u64 length) noexcept {
    return static_cast<unsigned char*>(os::map_shared(again.get(), length, true));
}

Status fail_to_open(Failure& why) {
    if (errno == ELOOP)
        return fail(why, "it is a symbolic link; give the path of the file itself",
                    Status::not_allowed);
    return fail(why, "open the pool file");
}

// What this process has of a file, or else the right to become its member. ok: `here`, or `turn`.
// would_block.
Status look_here(const os::FileStatus& file, const PoolId& id, std::shared_ptr<Member>& here,
                 Turn& turn, Failure& why, bool to_read) {
    // Those that turn out not to serve: the last pointer must not go while the mutex is held.
    std::vector<std::shared_ptr<Member>> rejected;
    std::lock_guard guard(pools_mutex());
    for (const Pool& p : all_pools()) {
        if (p.dev != file.device || p.ino != file.inode || p.place.id != id) continue;
        rejected.emplace_back();  // before there is a pointer that must be kept
        std::shared_ptr<Member>& member = rejected.back();
        member = p.shared.lock();
        if (member == nullptr) continue;
        const bool serves = !p.left && p.leaving != lineage() && member->joined.load();
        if (member->readonly ? !to_read || serves : !to_read && serves) {
            here = std::move(member);
            return Status::ok;
        }
    }
    if (turn.take(file)) return Status::ok;
    return why = {EALREADY, "open the pool: another thread is at it", {}}, Status::would_block;
}

}  // namespace onecopy::pools
