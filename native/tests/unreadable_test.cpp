// The system cannot read a file, as where memory is damaged (EIO). Then it is unknown what the file
// is, and whether its processes are alive: no operation takes it for another file or for a stale
// one, and its name stays. Needs a fault build, in which reads fail on request.
#include <cstdlib>
#include <filesystem>

#include "segment/pools.hpp"
#include "storage/pool_names.hpp"
#include "storage/shared_memory.hpp"
#include "tests/check.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

using namespace onecopy;

namespace {

constexpr u64 kAlways = ~u64{0}, kReads = 8;  // more than any of these operations needs

struct Folder {
    Folder() {
        char name[] = "/dev/shm/onecopy-unreadable-XXXXXX";
        CHECK(mkdtemp(name) != nullptr);
        path = name;
    }
    ~Folder() { std::filesystem::remove_all(path); }
    bool has(const char* name) const { return std::filesystem::exists(path + "/" + name); }
    std::string path;
};

// Another process makes the thing and waits, so that this one has to read the file.
template <class Make>
class Elsewhere {
  public:
    explicit Elsewhere(Make make) {
        int ready[2];
        CHECK(pipe(ready) == 0 && pipe(end_) == 0);
        child_ = fork();
        CHECK(child_ >= 0);
        if (child_ == 0) {
            close(end_[1]);
            const auto thing = make();
            char c = 0;
            CHECK(write(ready[1], &c, 1) == 1);
            static_cast<void>(read(end_[0], &c, 1));  // until the test is over, or has died
            _exit(0);
        }
        char c = 0;
        close(ready[1]);
        CHECK(read(ready[0], &c, 1) == 1);
        close(ready[0]);
        close(end_[0]);
    }
    ~Elsewhere() {
        close(end_[1]);
        int status = 0;
        CHECK(waitpid(child_, &status, 0) == child_);
    }

  private:
    int end_[2];
    pid_t child_;
};

void a_pool(bool memfd) {
    const Folder folder;
    UnboundedWait wait;
    const auto make = [&] {
        std::shared_ptr<Member> m;
        Failure why;
        CHECK(create_pool({.directory = folder.path,
                           .name = "p",
                           .capacity = 4 * kMiB,
                           .max_processes = 4,
                           .memfd = memfd},
                          m, why, wait) == Status::ok);
        return m;
    };
    const Elsewhere other(make);
    u64 opened = 0, failed = 0;
    for (u64 calls = 0; calls < kReads; ++calls) {
        std::shared_ptr<Member> m;
        Failure why;
        os::reads_left(calls);
        const Status s =
            open_pool(Through::pool_directory, folder.path, "p", WhenStale::remove, m, why, wait);
        os::reads_left(kAlways);
        if (s != Status::ok && (s != Status::system_error || why.error != EIO))
            std::fprintf(stderr, "%s after %d reads: status %d, %s, errno %d\n",
                         memfd ? "memfd" : "file", int(calls), int(s), why.what.c_str(), why.error);
        CHECK(s == Status::ok || (s == Status::system_error && why.error == EIO));
        (s == Status::ok ? opened : failed) += 1;
        CHECK(folder.has("p"));
    }
    CHECK(opened > 0 && failed > 0);
    u64 used = 0, unknown = 0;
    for (u64 calls = 0; calls < kReads; ++calls) {
        os::reads_left(calls);
        const PoolFileState s = sweep_pool(Through::pool_directory, folder.path, "p", true, wait);
        os::reads_left(kAlways);
        CHECK(s == PoolFileState::in_use || s == PoolFileState::failed);
        (s == PoolFileState::in_use ? used : unknown) += 1;
        CHECK(folder.has("p"));
    }
    CHECK(used > 0 && unknown > 0);
}

void a_segment() {
    const Folder folder;
    UnboundedWait wait;
    const auto make = [&] {
        std::shared_ptr<Segment> segment;
        Failure why;
        NewSegment fresh;
        CHECK(fresh.make(folder.path, 4096, false, why, wait) == Status::ok);
        CHECK(fresh.publish("s", 0, segment, why) == Status::ok);
        return segment;
    };
    const Elsewhere other(make);
    for (u64 calls = 0; calls < kReads; ++calls) {
        std::shared_ptr<Segment> segment;
        Failure why;
        os::reads_left(calls);
        const Status s = attach_segment(folder.path, "s", segment, why, wait);
        os::reads_left(kAlways);
        CHECK(calls == 0 ? s == Status::system_error && why.error == EIO : s == Status::ok);
        CHECK(folder.has("s"));
    }
}

}  // namespace

int main() {
    install_recovery();
    a_pool(false);
    a_pool(true);
    a_segment();
    std::puts("unreadable: ok");
    return 0;
}

#else
int main() {
    std::puts("unreadable: needs a fault build");
    return 0;
}
#endif
