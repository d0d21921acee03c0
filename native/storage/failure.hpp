// What failed, for the message, and what an errno means.
#pragma once
#include <cerrno>
#include <string>

#include "base/status.hpp"
#include "layout/layout.hpp"

namespace onecopy {

// Errno and the step that failed, for the message.
struct Failure {
    int error = 0;
    std::string what;
    std::string file{};  // the file of the step, if it is not the file that the caller names
    u32 limit = 0;       // no_slot: how many slots the pool has
};

namespace storage {

inline Status status_of(int error) noexcept {
    switch (error) {
        case ENOENT:
            return Status::no_entry;
        case EEXIST:
            return Status::exists;
        case ENOSPC:
        case ENOMEM:
        case EDQUOT:
        case EFBIG:
            return Status::no_memory;
        case EACCES:
        case EPERM:
        case EROFS:
        case ELOOP:
            return Status::not_allowed;
        default:
            return Status::system_error;
    }
}
inline Status fail(Failure& why, const char* step, int error = errno) {
    why = {error, step, {}};
    return status_of(error);
}
inline Status fail(Failure& why, const char* what, Status status) {
    why = {0, what, {}};
    return status;
}
// For a file of the system, not of the pool: ENOENT does not mean that the pool is missing.
inline Status fail_at(Failure& why, const char* step, const char* file, int error) {
    why = {error, step, file};
    return Status::system_error;
}
// This process lacked a resource for the check. So the error proves nothing about the checked file.
inline bool lacks_means(int error) noexcept {
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOLCK;
}

}  // namespace storage
}  // namespace onecopy
