#include "storage/new_file.hpp"

#include <cstdio>

#include "os/forks.hpp"

namespace onecopy::storage {

bool hold_new_file(int number, u64 user_byte) noexcept {
    os::FileStatus status;
    return os::lock_byte(number, user_byte, false) == os::ByteLock::taken &&
           os::look_at(number, status) && status.links > 0;
}

NewFile::~NewFile() {
    if (!hidden_.empty() && process_ == os::lineage()) os::remove_name(directory_, hidden_.c_str());
}

// EOPNOTSUPP: the file needs a name, because the system does not support it or has no /proc.
int NewFile::make_unnamed() const noexcept {
    const int number = os::open_unnamed(directory_, 0600);
    if (number < 0 && (errno == EISDIR || errno == ENOENT || errno == EINVAL)) errno = EOPNOTSUPP;
    if (number < 0 || os::has_proc()) return number;
    os::close_descriptor(number);
    errno = EOPNOTSUPP;
    return -1;
}

std::string NewFile::random_name() const {
    u64 n = 0;
    os::random_bytes(&n, sizeof n);
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(n));
    return std::string(kind_.prefix) + digits;
}

bool NewFile::keep_hidden(int number, const std::string& name) {
    if (hold_new_file(number, kind_.user_byte)) {
        hidden_ = name;
        process_ = os::lineage();
        return true;
    }
    // The file cannot be locked, or it was swept.
    const int error = errno;
    os::remove_name(directory_, name.c_str());
    errno = error;
    return false;
}

PoolFd NewFile::open_again(const os::SharedFile& file) const {
    return PoolFd([&] {
        return hidden_.empty()
                   ? file.again()
                   : os::SharedFile(os::open_at(directory_, hidden_.c_str(), os::Access::write));
    });
}

bool NewFile::publish(int number, const char* name) noexcept {
    if (hidden_.empty()) return os::link_unnamed(number, directory_, name);
    if (!os::rename_to_new(directory_, hidden_.c_str(), name)) {
        if (errno != EINVAL && errno != ENOSYS) return false;
        if (!os::link_name(directory_, hidden_.c_str(), name)) return false;
        os::remove_name(directory_, hidden_.c_str());
    }
    hidden_.clear();
    return true;
}

bool NewFile::replace(const char* name) noexcept {
    if (!os::rename_over(directory_, hidden_.c_str(), name)) return false;
    hidden_.clear();
    return true;
}

}  // namespace onecopy::storage
