#include "os/processes.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace onecopy::os {

Life life_of(std::uint32_t pid, std::uint64_t start_bits, std::uint64_t mask) noexcept {
    if (pid == 0) return Life::dead;  // nobody has that number
    char path[32];
    std::snprintf(path, sizeof path, "/proc/%u/stat", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno != ENOENT) return Life::unknown;
        // Nobody of that number; or there is no /proc here, and then we are not in it either.
        return access("/proc/self/stat", F_OK) == 0 ? Life::dead : Life::unknown;
    }
    char text[1024];
    const ssize_t n = read(fd, text, sizeof text - 1);
    const int error = errno;
    close(fd);
    if (n <= 0) return n < 0 && error == ESRCH ? Life::dead : Life::unknown;  // it ended between our two calls
    text[n] = 0;
    // The command name may contain blanks and brackets: fields are counted from the last ')'.
    const char* at = std::strrchr(text, ')');
    if (at == nullptr || at[1] != ' ') return Life::unknown;
    const char state = at[2];
    std::uint64_t threads = 0;
    for (int field = 2; at != nullptr && field < 22; ++field) {
        if (field == 20) threads = std::strtoull(at + 1, nullptr, 10);
        at = std::strchr(at + 1, ' ');
    }
    if (at == nullptr) return Life::unknown;
    if ((std::strtoull(at + 1, nullptr, 10) & mask) != start_bits) return Life::dead;
    const bool ended = state == 'X' || state == 'x' || (state == 'Z' && threads <= 1);
    return ended ? Life::dead : Life::alive;
}

}  // namespace onecopy::os
