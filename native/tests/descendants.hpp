// Waits for all processes that come out of one, also for those whose parent was killed.
//
// The kernel hands them to this process. qemu-user before version 8 does not know how to ask for
// that. There each of them has the end of a pipe, by a number above those of pools: the kernel
// closes it after theirs.
#pragma once
#include <sys/prctl.h>
#include <sys/resource.h>

#include "tests/check.hpp"

namespace onecopy::test {

class Descendants {
  public:
    // From now on the kernel hands them over. False: it does not.
    static bool adopt() noexcept { return prctl(PR_SET_CHILD_SUBREAPER, 1) == 0; }

    // Before the fork.
    Descendants() {
        if (adopt()) return;
        int ends[2];
        rlimit limit{};
        CHECK(pipe2(ends, O_CLOEXEC) == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0);
        const int high = static_cast<int>(std::min<rlim_t>(limit.rlim_cur - 1, 8192));
        ends_[0] = ends[0];
        ends_[1] = fcntl(ends[1], F_DUPFD_CLOEXEC, high);
        CHECK(ends_[1] >= 0 && close(ends[1]) == 0);
    }
    ~Descendants() {
        for (const int end : ends_) {
            if (end >= 0) close(end);
        }
    }
    Descendants(const Descendants&) = delete;
    Descendants& operator=(const Descendants&) = delete;

    // In the process that has forked.
    void await() {
        int status = 0;
        while (waitpid(-1, &status, 0) > 0) {
        }
        if (ends_[1] < 0) return;
        CHECK(close(ends_[1]) == 0);
        ends_[1] = -1;
        char c = 0;
        CHECK(read(ends_[0], &c, 1) == 0);
    }

  private:
    int ends_[2] = {-1, -1};
};

}  // namespace onecopy::test
