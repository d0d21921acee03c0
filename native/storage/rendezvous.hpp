// Finding a pool whose memory is a memfd. It has no name; a text file says where the descriptors of
// its members are in /proc: one line for each process.
#pragma once
#include <string>
#include <vector>

#include "os/processes.hpp"
#include "storage/descriptors.hpp"
#include "storage/failure.hpp"
#include "storage/liveness.hpp"

namespace onecopy::storage {

constexpr char kRendezvous[] = "onecopy-memfd 1 ";  // what the file begins with

struct Line {
    ProcessMark process;
    int fd = -1;
};
struct Rendezvous {
    std::string id;  // hex
    std::vector<Line> lines;
};

// Empty: this process could not find out its own start (errno). Nobody could check such a line.
std::string own_line(int memory);
bool read_rendezvous(int fd, Rendezvous& out);

// stale: it is proven that this line leads to no pool. unknown: everything else (errno says why):
// the process may not be looked into or belongs to another PID namespace, or we lack a descriptor
// or a /proc.
enum class Reach { found, stale, unknown };
// With `unknown` in errno: what stands in the way.
Reach reach_any(const Rendezvous& r, PoolFd& out);
// Reach::unknown; errno says why.
Status fail_to_reach(Failure& why);

// Adds a line of this process, with its descriptor of the memory, to the open file. The directory
// is locked. `dirfd` and `name`: where the file is, if it must be made anew because many have come
// and gone.
Status append_line(int dirfd, const std::string& name, int file, const std::string& id,
                   const std::string& own);

}  // namespace onecopy::storage
