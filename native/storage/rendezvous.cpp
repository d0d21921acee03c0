#include "storage/rendezvous.hpp"

#include <cstdio>
#include <string_view>
#include <utility>

#include "os/files.hpp"
#include "storage/pool_header.hpp"
#include "storage/pool_names.hpp"

namespace onecopy::storage {
namespace {

constexpr std::size_t kRendezvousMost = 1 << 20, kRendezvousTidy = 1 << 16;

std::string line_text(const Line& l) {
    char text[96];
    std::snprintf(text, sizeof text, "%u %d %llu %llu\n", l.process.pid, l.fd,
                  static_cast<unsigned long long>(l.process.start_ticks),
                  static_cast<unsigned long long>(l.process.pid_namespace));
    return text;
}

Reach reach(const Line& l, const std::string& id, u64 own_namespace, PoolFd& out) {
    // Without a /proc, this process does not know its own namespace. With one, the line belongs to
    // a process of another namespace, unless a system call shows something else.
    errno = own_namespace == 0 ? ENOENT : EACCES;
    if (const os::Life life = life_of(l.process, own_namespace); life != os::Life::alive)
        return life == os::Life::dead ? Reach::stale : Reach::unknown;
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%u/fd/%d", l.process.pid, l.fd);
    os::FileStatus st;
    // The descriptor number may refer to another file now, and to open a device or a pipe could
    // have effects. A memfd is a regular file without a name.
    if (!os::look_at_path(path, st)) return errno == ENOENT ? Reach::stale : Reach::unknown;
    if (!st.is_file || st.links != 0) return Reach::stale;
    PoolFd fd([&] { return os::open_path(path); });
    // The process may have closed it since.
    if (!fd) return errno == ENOENT ? Reach::stale : Reach::unknown;
    // Without the seals, another process could truncate the file while this process maps it.
    HeaderCopy h;
    if (!os::size_is_sealed(fd.get())) return Reach::stale;
    if (!h.read(fd.get())) {
        const int error = errno;  // 0: it is too short for a pool
        fd.reset();
        errno = error;
        return error == 0 ? Reach::stale : Reach::unknown;
    }
    if (h.get().magic != kMagic || PoolId::of(h.get()).hex() != id) return Reach::stale;
    out = std::move(fd);
    return Reach::found;
}

}  // namespace

std::string own_line(int memory) {
    const os::Identity me = os::identity();
    errno = me.error;
    if (me.start_ticks == 0) return {};
    return line_text({{me.pid, me.start_ticks, me.pid_namespace}, memory});
}

bool read_rendezvous(int fd, Rendezvous& out) {
    std::string text;
    char part[4096];
    while (text.size() < kRendezvousMost) {
        const std::size_t n = os::read_at(fd, text.size(), part, sizeof part);
        if (n == 0 && errno != 0) return false;
        if (n == 0) break;
        text.append(part, n);
        // A pool or another file: do not read all of it.
        if (!text.starts_with(std::string_view(kRendezvous).substr(0, text.size()))) return false;
    }
    constexpr std::size_t kPrefix = sizeof kRendezvous - 1;
    if (text.size() < kPrefix + 33 || text[kPrefix + 32] != '\n') return false;
    out = {text.substr(kPrefix, 32), {}};
    for (std::size_t at = kPrefix + 33, end; (end = text.find('\n', at)) != std::string::npos;
         at = end + 1) {
        unsigned pid = 0;
        int number = -1;
        unsigned long long start = 0, pid_namespace = 0;
        if (std::sscanf(text.c_str() + at, "%u %d %llu %llu", &pid, &number, &start,
                        &pid_namespace) == 4 &&
            pid != 0 && number >= 0)
            out.lines.push_back({{pid, start, pid_namespace}, number});
    }
    return true;
}

Reach reach_any(const Rendezvous& r, PoolFd& out) {
    const u64 own_namespace = os::identity().pid_namespace;
    Reach best = Reach::stale;
    int error = 0;
    for (auto it = r.lines.rbegin(); it != r.lines.rend(); ++it) {
        switch (reach(*it, r.id, own_namespace, out)) {
            case Reach::found:
                return Reach::found;
            case Reach::unknown:
                best = Reach::unknown;
                error = errno;
                break;
            case Reach::stale:
                break;
        }
    }
    errno = error;
    return best;
}

Status fail_to_reach(Failure& why) {
    if (errno != EACCES && errno != EPERM)
        return fail_at(why, "look for the pool's members", "/proc", errno);
    return fail(why, "the pool's members cannot be looked into from here", Status::not_allowed);
}

Status append_line(int dirfd, const std::string& name, int file, const std::string& id,
                   const std::string& own) {
    os::FileStatus st;
    Rendezvous r;
    if (!os::look_at(file, st) || !st.is_file) return Status::no_entry;
    if (!read_rendezvous(file, r)) return errno != 0 ? status_of(errno) : Status::no_entry;
    if (r.id != id) return Status::no_entry;
    if (st.size > kRendezvousTidy) {
        // The file has lines of many dead processes. A new file replaces it, so that a reader sees
        // the old text or the new one.
        NewFile fresh(kPoolFiles);
        const Fd to = fresh.make_hidden<Fd>(dirfd);
        std::string text = kRendezvous + r.id + "\n";
        const u64 own_namespace = os::identity().pid_namespace;
        for (const Line& l : r.lines)
            if (life_of(l.process, own_namespace) != os::Life::dead) text += line_text(l);
        if (to && os::write_all(to.get(), text + own) && fresh.replace(name.c_str()))
            return Status::ok;
    }
    // A full file system may truncate a line, and the next line would be joined to it.
    const std::string lead =
        st.size > 0 &&
                [&] {
                    char c = 0;
                    return os::read_at(file, st.size - 1, &c, 1) == 1 && c != '\n';
                }()
            ? "\n"
            : "";
    return os::write_all(file, lead + own) ? Status::ok : status_of(errno);
}

}  // namespace onecopy::storage
