// Finds a pool whose memory is a memfd. A memfd has no name, so a text file says where in /proc the
// descriptors of its members are. The file has one line for each process.
#pragma once
#include <string>
#include <vector>

#include "os/processes.hpp"
#include "storage/descriptors.hpp"
#include "storage/failure.hpp"
#include "storage/liveness.hpp"

namespace onecopy::storage {

constexpr char kRendezvous[] = "onecopy-memfd 1 ";  // the file begins with this

struct Line {
    ProcessMark process;
    int fd = -1;
};
struct Rendezvous {
    std::string id;  // hex
    std::vector<Line> lines;
};

// Empty: this process could not find out its own start time (errno). No process could check such a
// line.
std::string own_line(int memory);
// False: it is another file, or (errno is not 0) the system could not read it.
bool read_rendezvous(int fd, Rendezvous& out);

// stale: it is proven that this line leads to no pool. unknown: all other cases (errno has the
// reason). This process may not inspect the process of the line, that process belongs to another
// PID namespace, or this process has no free descriptor or no /proc.
enum class Reach { found, stale, unknown };
// Sets errno to the reason of `unknown`.
Reach reach_any(const Rendezvous& r, PoolFd& out);
// Reach::unknown; errno says why.
Status fail_to_reach(Failure& why);

// Adds a line of this process, with its descriptor of the memory, to the open file. The directory
// is locked. `dirfd` and `name`: the place of the file, if it must be replaced because it has lines
// of many dead processes.
Status append_line(int dirfd, const std::string& name, int file, const std::string& id,
                   const std::string& own);

}  // namespace onecopy::storage
