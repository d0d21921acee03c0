// madvise(MADV_REMOVE) for programs under qemu-user, which answers 0 and does nothing: memory of a
// file that a program has given back would keep its content. tools/aarch64.py loads this library
// before the others (LD_PRELOAD).
//
// The pages are punched out of the file, through a descriptor of the same file that the process
// has.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

struct Mapping {
    std::uintptr_t from, to;
    off_t offset;
    dev_t device;
    ino_t inode;
};

// With a buffer on the stack: a caller may have no memory.
bool find_mapping(std::uintptr_t at, Mapping& out) {
    const int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps < 0) return false;
    char line[512], part[4096];
    std::size_t length = 0;
    ssize_t next = 0, end = 0;
    bool found = false;
    while (!found) {
        if (next == end) {
            next = 0;
            end = read(maps, part, sizeof part);
            if (end <= 0) break;
        }
        const char c = part[next++];
        if (c != '\n') {
            if (length < sizeof line - 1) line[length++] = c;
            continue;
        }
        line[length] = 0;
        length = 0;
        unsigned long from = 0, to = 0, offset = 0, inode = 0;
        unsigned major_number = 0, minor_number = 0;
        if (std::sscanf(line, "%lx-%lx %*s %lx %x:%x %lu", &from, &to, &offset, &major_number,
                        &minor_number, &inode) == 6 &&
            at >= from && at < to) {
            out = {from, to, static_cast<off_t>(offset), makedev(major_number, minor_number),
                   inode};
            found = true;
        }
    }
    close(maps);
    return found;
}

bool punch(const Mapping& mapping, off_t offset, off_t length) {
    DIR* numbers = opendir("/proc/self/fd");
    if (numbers == nullptr) return false;
    bool done = false;
    while (const dirent* entry = done ? nullptr : readdir(numbers)) {
        const int number = std::atoi(entry->d_name);
        struct stat file{};
        if (entry->d_name[0] == '.' || fstat(number, &file) != 0 || file.st_ino != mapping.inode ||
            file.st_dev != mapping.device)
            continue;
        done = fallocate(number, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) == 0;
    }
    closedir(numbers);
    return done;
}

}  // namespace

extern "C" int madvise(void* from, std::size_t length, int advice) noexcept {
    using Call = int (*)(void*, std::size_t, int);
    static const auto call = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "madvise"));
    if (advice != MADV_REMOVE) return call(from, length, advice);
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    std::uintptr_t at = reinterpret_cast<std::uintptr_t>(from);
    const std::uintptr_t end = (at + length + page - 1) / page * page;
    if (at % page != 0) return errno = EINVAL, -1;
    while (at < end) {
        Mapping mapping{};
        if (!find_mapping(at, mapping) || mapping.inode == 0) return errno = EINVAL, -1;
        const std::uintptr_t stop = std::min(end, mapping.to);
        const auto offset = mapping.offset + static_cast<off_t>(at - mapping.from);
        if (!punch(mapping, offset, static_cast<off_t>(stop - at))) return errno = EACCES, -1;
        at = stop;
    }
    return 0;
}
