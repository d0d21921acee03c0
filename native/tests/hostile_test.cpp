// Anything may stand in a pool. A pool is damaged, one word at a time or at random, and then used.
// Every round must end with a status; a signal or a hang is a bug. A pool that was found corrupt
// stays refused.
//
//|  hostile_test [rounds] [seed]     rounds 0: every directed mutation once, and as many random ones
//
// Rounds run in children with an alarm. Half of them spoil the file before it is opened, half while
// it is in use.
#include "tests/hostile_use.hpp"

using namespace onecopy;
using namespace onecopy::hostile;

namespace {

int round_of(int file, const std::vector<Change>& changes, bool in_use) {
    const int fd = os::open_again(file);
    const off_t size = lseek(fd, 0, SEEK_END);
    if (!in_use) apply(fd, changes);
    auto* base =
        static_cast<unsigned char*>(os::map_shared(fd, static_cast<std::size_t>(size), true));
    auto m = std::make_unique<Member>(base, static_cast<std::size_t>(size), os::SharedFile(fd));
    if (m->check() != Status::ok) return kRefused;
    if (reserve_marked(*m) != 0 || m->join() != Status::ok) return kRefused;
    Opened o;
    if (in_use) {
        open_all(*m, o);
        Message msg;
        WaitPolicy now(0);
        UnboundedWait wait;
        if (o.queue.get(msg, now) == Status::ok && msg.block != 0)
            drop(*m, handle_index(msg.block), wait);
        apply(m->file.number(), changes);
    }
    use(*m, o);
    const bool corrupt = m->corrupt();
    if (corrupt && !is_refused(*m, o)) return kBroken;
    m.reset();
    return corrupt ? kFoundCorrupt : kSound;
}

// ---- the campaign

class Campaign {
  public:
    explicit Campaign(unsigned seed)
        : random_(seed), file_(test::make_pool(kCapacity, kProcesses)) {
        auto m = test::join_pool(file_);
        regions_ = furnish(*m);
        const Geometry g = m->geo();
        const u64 heap_top = m->header().heap_top.load();
        m.reset();
        for (auto [from, to] : {std::pair{u64{0}, g.names_off + 64 * kKiB},
                                {g.blocks_off, g.blocks_off + 64 * kKiB},
                                {g.heap_off, g.heap_off + heap_top}}) {
            snapshot_.push_back({from, std::vector<unsigned char>(to - from)});
            CHECK(pread(file_, snapshot_.back().bytes.data(), to - from,
                        static_cast<off_t>(from)) == static_cast<ssize_t>(to - from));
        }
        all_ = directed(regions_, file_);
        std::shuffle(all_.begin(), all_.end(), random_);
    }

    int run(u64 rounds) {
        const u64 half = rounds == 0 ? all_.size() : std::min<u64>(rounds / 2, all_.size());
        const u64 wild = rounds == 0 ? all_.size() : rounds - half;
        for (u64 i = 0; i < half; ++i)
            one({all_[i]}, i % 2 != 0);
        for (u64 i = 0; i < wild; ++i)
            one(random_changes(regions_, random_), i % 2 != 0);
        std::printf(
            "hostile: %lu directed of %zu, %lu random; sound %lu, refused %lu, found corrupt %lu, "
            "FAILED %lu\n",
            half, all_.size(), wild, counts_[kSound], counts_[kRefused], counts_[kFoundCorrupt],
            failed_);
        return failed_ == 0 ? 0 : 1;
    }

  private:
    struct Part {
        u64 offset;
        std::vector<unsigned char> bytes;
    };

    void restore() {
        const Geometry g = geometry(kCapacity, kProcesses);
        CHECK(fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        static_cast<off_t>(g.file_size)) == 0);
        for (const Part& p : snapshot_)
            CHECK(pwrite(file_, p.bytes.data(), p.bytes.size(), static_cast<off_t>(p.offset)) ==
                  static_cast<ssize_t>(p.bytes.size()));
    }

    void one(const std::vector<Change>& changes, bool in_use) {
        restore();
        std::fflush(nullptr);
        const pid_t child = fork();
        if (child == 0) {
            alarm(kWatchdog);
            std::_Exit(round_of(file_, changes, in_use));
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        if (WIFEXITED(status) && WEXITSTATUS(status) != kBroken &&
            (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) >= kRefused)) {
            ++counts_[WEXITSTATUS(status)];
            return;
        }
        if (++failed_ > 40) return;
        const char* what = !WIFSIGNALED(status)          ? "a corrupt pool was not refused"
                           : WTERMSIG(status) == SIGALRM ? "hang"
                                                         : strsignal(WTERMSIG(status));
        std::fprintf(stderr, "%s, %s:", what, in_use ? "damaged in use" : "damaged before");
        for (const Change& c : changes)
            std::fprintf(stderr, " [%s +%#lx u%u := %#lx]", c.where, c.offset - start_of(c),
                         c.width * 8, c.value);
        std::fprintf(stderr, "\n");
    }
    u64 start_of(const Change& c) const {
        for (const Region& r : regions_)
            if (c.offset >= r.offset && c.offset < r.offset + r.length) return r.offset;
        return 0;
    }

    std::mt19937_64 random_;
    int file_;
    std::vector<Region> regions_;
    std::vector<Part> snapshot_;
    std::vector<Change> all_;
    std::map<int, u64> counts_;
    u64 failed_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    const u64 rounds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2000;
    const unsigned seed = argc > 2 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 1;
    std::printf("hostile: seed %u\n", seed);
    std::fflush(stdout);
    return Campaign(seed).run(rounds);
}
