// What opening to write and opening to read have in common.
#pragma once
#include <string>
#include <vector>

#include "segment/pools.hpp"

namespace onecopy::pools {

Status fail_to_open(Failure& why);

// What this process has of a file, or else the right to become its member. ok: `here`, or `turn`.
// would_block.
Status look_here(const os::FileStatus& file, const PoolId& id, std::shared_ptr<Member>& here,
                 Turn& turn, Failure& why, bool to_read);

// Attempts until one comes to something. Nothing is in the making between them, so signal handlers
// may run.
template <class Attempt>
Status open_by(Attempt attempt, Through way, const std::string& directory, const std::string& name,
               Failure& why, WaitPolicy& p) {
    if (!valid_name(name) || is_hidden(name))
        return fail(why, "not a valid name", Status::bad_argument);
    const std::int64_t began = os::monotonic_ns();
    for (;;) {
        Fd dirfd;
        if (Status s = directory_for(way, directory, dirfd, why); !good(s)) return s;
        const Status s = attempt(dirfd.get());
        if (s != Status::would_block) return s;
        const std::int64_t limit = why.error == ETIMEDOUT ? kDirectoryWait : kOpenWait;
        if (why.error != EALREADY && os::monotonic_ns() - began > limit)
            return Status::system_error;
        p.about_to_block();
        os::nap(500'000);
        if (p.interrupted()) return Status::interrupted;
    }
}

}  // namespace onecopy::pools
