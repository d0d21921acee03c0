// Whether a file has users: alive, dead, or unknown. Unknown is never dead.
#pragma once
#include "layout/layout.hpp"
#include "os/processes.hpp"
#include "os/shared_file.hpp"

namespace onecopy::storage {

// A process, by values that no later process has. Pid 0: no process.
struct ProcessMark {
    u32 pid = 0;
    u64 start_ticks = 0;
    u64 pid_namespace = 0;
    bool operator==(const ProcessMark&) const = default;
};

// unknown: it belongs to another PID namespace, or this process could not find out (errno).
inline os::Life life_of(const ProcessMark& process, u64 own_namespace) noexcept {
    return process.pid_namespace == own_namespace
               ? os::life_of(process.pid, process.start_ticks, ~u64{0})
               : os::Life::unknown;
}

// Whether users have a byte of a file locked. With `take`, if there are none, this open file
// description has the byte locked exclusively after the call, so no process can become a user.
// Without `take`, nothing is locked: a last user that is leaving would see such a lock as a user.
inline os::Others users_of(const os::SharedFile& file, u64 byte, bool take) noexcept {
    if (!take) return file.others(byte);
    switch (file.lock(byte, true)) {
        case os::ByteLock::taken:
            return os::Others::none;
        case os::ByteLock::busy:
            return os::Others::share;
        case os::ByteLock::failed:
            break;
    }
    return os::Others::unknown;
}

}  // namespace onecopy::storage
