#include "os/shared_file.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/crash_point.hpp"
#include "os/forks.hpp"

namespace onecopy::os {
namespace {

FileIdentity identify(int number) noexcept {
    struct stat s{};
    struct statfs system{};
    if (fstat(number, &s) != 0 || fstatfs(number, &system) != 0) return {};
    return {s.st_dev, s.st_ino, static_cast<std::uint64_t>(system.f_type) == TMPFS_MAGIC};
}

struct flock region(std::uint64_t byte, std::uint64_t count, short type) noexcept {
    struct flock l{};
    l.l_type = type;
    l.l_whence = SEEK_SET;
    l.l_start = static_cast<off_t>(byte);
    l.l_len = static_cast<off_t>(count);
    l.l_pid = 0;  // required to be 0 for open file description locks
    return l;
}

ByteLock set(int number, struct flock l) noexcept {
    for (;;) {
        if (fcntl(number, F_OFD_SETLK, &l) == 0) return ByteLock::taken;
        if (errno == EINTR) continue;
        return errno == EAGAIN || errno == EACCES ? ByteLock::busy : ByteLock::failed;
    }
}

constexpr off_t kReadAtOnce = 64 << 10;  // whole pages, on every machine

// Where a range that begins with zeros ends to be zero, in steps of what is read at once; `from` if
// it does not, or cannot be read. Reading waits for a page that the kernel moves, and gives no
// memory to a hole.
off_t end_of_zeros(int number, off_t from, off_t end) noexcept {
    std::array<unsigned char, kReadAtOnce> bytes;
    while (from < end) {
        const auto n = static_cast<std::size_t>(std::min(kReadAtOnce, end - from));
        const ssize_t got = pread(number, bytes.data(), n, from);
        if (got < 0 && errno == EINTR) continue;
        if (got != static_cast<ssize_t>(n) ||
            std::any_of(bytes.begin(), bytes.begin() + got, [](auto byte) { return byte != 0; }))
            break;
        from += got;
    }
    return from;
}

}  // namespace

int to_high_number(int number) noexcept {
    // The kernel's table grows up to the largest number in use: not an arbitrarily high one.
    constexpr rlim_t kHighest = 4096;
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return number;
    const int least = static_cast<int>(std::min(limit.rlim_cur / 2, kHighest));
    if (number >= least) return number;
    const int flags = fcntl(number, F_GETFD);
    const bool closes = flags >= 0 && (flags & FD_CLOEXEC) != 0;
    const int high = fcntl(number, closes ? F_DUPFD_CLOEXEC : F_DUPFD, least);
    if (high < 0) return number;  // the table is full
    ::close(number);
    return high;
}

ByteLock lock_byte(int number, std::uint64_t byte, bool exclusive) noexcept {
    before_store();
    const ByteLock answer = set(number, region(byte, 1, exclusive ? F_WRLCK : F_RDLCK));
    if (answer == ByteLock::taken) crash_point();
    return answer;
}

Others others_of(int number, std::uint64_t byte) noexcept {
    struct flock l = region(byte, 1, F_WRLCK);
    while (fcntl(number, F_OFD_GETLK, &l) != 0) {
        if (errno != EINTR) return Others::unknown;
    }
    if (l.l_type == F_UNLCK) return Others::none;
    return l.l_type == F_RDLCK ? Others::share : Others::exclude;
}

SharedFile::SharedFile(int number) noexcept {
    const int saved = errno;
    if (number >= 0) {
        number_ = to_high_number(number);
        identity_ = identify(number_);
    }
    errno = saved;
}

SharedFile::SharedFile(SharedFile&& o) noexcept
    : number_(std::exchange(o.number_, -1)),
      identity_(o.identity_),
      lost_(o.lost()),
      page_(std::exchange(o.page_, nullptr)),
      page_of_(o.page_of_) {}

SharedFile& SharedFile::operator=(SharedFile&& o) noexcept {
    if (this == &o) return *this;
    close();
    number_ = std::exchange(o.number_, -1);
    identity_ = o.identity_;
    lost_ = o.lost();
    page_ = std::exchange(o.page_, nullptr);
    page_of_ = o.page_of_;
    return *this;
}

bool SharedFile::is_ours() const noexcept {
    struct stat s{};
    if (number_ >= 0 && !lost()) {
        if (fstat(number_, &s) == 0) {
            if (s.st_dev == identity_.device && s.st_ino == identity_.inode) return true;
        } else if (errno != EBADF) {
            return false;  // not known: not now
        }
        lost_.store(true, std::memory_order_relaxed);
    }
    errno = EBADF;
    return false;
}

ByteLock SharedFile::lock(std::uint64_t byte, bool exclusive) const noexcept {
    if (!is_ours()) return ByteLock::failed;
    before_store();
    const ByteLock answer = set(number_, region(byte, 1, exclusive ? F_WRLCK : F_RDLCK));
    if (answer != ByteLock::taken) return answer;
    if (!is_ours()) {  // the number was reused: this lock is of another file
        set(number_, region(byte, 1, F_UNLCK));
        errno = EBADF;
        return ByteLock::failed;
    }
    crash_point();  // a death between two steps that only the kernel sees
    return ByteLock::taken;
}

ByteLock SharedFile::share_range(std::uint64_t byte, std::uint64_t count) const noexcept {
    return is_ours() ? set(number_, region(byte, count, F_RDLCK)) : ByteLock::failed;
}

void SharedFile::unlock(std::uint64_t byte) const noexcept {
    before_store();
    if (is_ours()) set(number_, region(byte, 1, F_UNLCK));
    crash_point();
}

Others SharedFile::others(std::uint64_t byte) const noexcept {
    if (!is_ours()) return Others::unknown;
    const Others answer = others_of(number_, byte);
    return answer == Others::unknown || is_ours() ? answer : Others::unknown;
}

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
namespace {
std::atomic<std::uint64_t> on_disk{~std::uint64_t{0}};
}
void disk_has(std::uint64_t bytes) noexcept {
    on_disk = bytes;
}
#endif

int SharedFile::reserve(std::uint64_t offset, std::uint64_t length) const noexcept {
    if (!is_ours()) return errno;
    // tmpfs gives a large fallocate up on any pending signal and undoes its work; with a periodic
    // timer it would never end.
    sigset_t all, before;
    before_store();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    const bool full = length > on_disk;
    if (full)
        length = on_disk;  // and its caller gives that back
    else
        on_disk = on_disk - length;
    if (length != 0)  // fallocate refuses an empty range
#endif
        while (fallocate(number_, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) {
            error = errno;
            if (error != EINTR) break;
            error = 0;
        }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error == 0 && !is_ours()) error = EBADF;  // the memory is another file's
    if (error == 0) crash_point();
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    if (full) return ENOSPC;
#endif
    return error;
}

void SharedFile::give_back_unwritten(void* mapped, std::uint64_t offset,
                                     std::uint64_t length) const noexcept {
    // A description of its own: looking for holes moves the position of the file.
    const SharedFile file = again();
    if (!file) return;
    const auto end = static_cast<off_t>(offset + length);
    // A file system without this answer reports all as data: then nothing is given back.
    for (auto at = static_cast<off_t>(offset); at < end;) {
        const off_t hole = lseek(file.number(), at, SEEK_HOLE);
        if (hole < 0 || hole >= end) return;
        const off_t data = lseek(file.number(), hole, SEEK_DATA);
        if (data < 0 && errno != ENXIO) return;  // ENXIO: the hole reaches to the end of the file
        at = data < 0 || data > end ? end : data;
        for (off_t from = hole; from < at;) {
            const off_t to = end_of_zeros(file.number(), from, at);
            if (to > from) {
                os::give_back(static_cast<unsigned char*>(mapped) +
                                  (static_cast<std::uint64_t>(from) - offset),
                              static_cast<std::size_t>(to - from));
            }
            from = std::min<off_t>(at, std::max<off_t>(to, from) + kReadAtOnce);
        }
    }
}

std::size_t SharedFile::write_at(std::uint64_t offset, const void* from,
                                 std::size_t n) const noexcept {
    if (!is_ours()) return 0;
    const auto* bytes = static_cast<const unsigned char*>(from);
    std::size_t done = 0;
    while (done < n) {
        const ssize_t written =
            pwrite(number_, bytes + done, n - done, static_cast<off_t>(offset + done));
        if (written > 0) {
            done += static_cast<std::size_t>(written);
        } else if (written == 0 || errno != EINTR) {
            break;
        }
    }
    return is_ours() ? done : 0;
}

void* SharedFile::map_private(std::uint64_t offset, std::size_t length) const noexcept {
    if (!is_ours()) return nullptr;
    void* at = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, number_,
                    static_cast<off_t>(offset));
    if (at == MAP_FAILED) return nullptr;
    if (is_ours()) return at;
    munmap(at, length);  // the number was reused: it is another file
    errno = EBADF;
    return nullptr;
}

SharedFile SharedFile::duplicate() const noexcept {
    return SharedFile(is_ours() ? fcntl(number_, F_DUPFD_CLOEXEC, 0) : -1);
}

SharedFile SharedFile::again() const noexcept {
    if (!is_ours()) return {};
    SharedFile other(open_again(number_));
    if (other &&
        (other.identity_.device != identity_.device || other.identity_.inode != identity_.inode)) {
        is_ours();  // notes that the number was exchanged
        return {};
    }
    return other;
}

bool SharedFile::hold_on() noexcept {
    count_forks();
    if (page_ != nullptr && page_of_ == lineage()) return true;
    if (!is_ours()) return false;
    void* at = mmap(nullptr, page_size(), PROT_NONE, MAP_SHARED, number_, 0);
    if (at == MAP_FAILED) return false;
    if (madvise(at, page_size(), MADV_DONTFORK) != 0) {
        const int error = errno;
        munmap(at, page_size());
        errno = error;
        return false;
    }
    page_ = at;
    page_of_ = lineage();
    return true;
}

void SharedFile::close() noexcept {
    const int saved = errno;
    // In a child something else may lie there by now.
    if (page_ != nullptr && page_of_ == lineage()) munmap(page_, page_size());
    page_ = nullptr;
    if (number_ >= 0 && is_ours()) ::close(number_);
    number_ = -1;
    errno = saved;
}

}  // namespace onecopy::os
