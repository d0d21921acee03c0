// The pools of this process: which it is a member of, and how members are made and leave.
#pragma once
#include <algorithm>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "segment/file.hpp"
#include "segment/registry.hpp"
#include "storage/pool_names.hpp"

namespace onecopy::pools {

using namespace storage;

constexpr std::int64_t kOpenWait = 1'000'000'000;

// A pool of this process. Private; found by the member's address.
struct Pool {
    Member* member = nullptr;
    std::weak_ptr<Member> shared;
    Place place;
    u64 dev = 0;  // of the memory
    u64 ino = 0;
    bool persistent = false;
    bool left = false;
    // Lineage of the process in which a thread leaves it: a fork copies the mark, but not the
    // thread.
    unsigned leaving = 0;
    unsigned announced = 0;  // memfd: of the process whose line is in the rendezvous
};
std::list<Pool>& all_pools() noexcept;    // under pools_mutex
Pool* pool_of(const Member* m) noexcept;  // under pools_mutex

// ---- leaving (segment/leave.cpp) ----------------------------------------------------------------

// Releases the membership byte; the last member removes the name.
void depart(const os::SharedFile& file, const Place& place, bool persistent) noexcept;
// Under pools_mutex: from here on forks ignore the member. It has left.
void forget_pool_of(Member& m, PoolFd& last) noexcept;
// What the last shared_ptr does.
void drop_member(Member* m) noexcept;

// ---- a member in the making ---------------------------------------------------------------------

// What a mapping needs is the process's own: address space.
Status fail_to_map(Failure& why);

struct Discard {
    void operator()(Member* m) const noexcept {
        m->leave();
        PoolFd last;
        {
            std::lock_guard guard(pools_mutex());
            forget_pool_of(*m, last);
        }
        delete m;
    }
};
using Coming = std::unique_ptr<Member, Discard>;

// The descriptor passes from one list to the other, and the mapping appears, in one step, as far as
// a fork is concerned. `map` gives the mapping, or nullptr with errno.
//
// A shared mapping is made through an open file description of its own, which never carries a lock
// and which only the mapping keeps. Forked children inherit the mapping: through the description
// that the locks are on, it would keep those after the parent's death.
template <class Map>
Status coming(u64 length, PoolFd& fd, bool readonly, Coming& out, Failure& why, Map map) {
    std::lock_guard guard(pools_mutex());
    unsigned char* base = map();
    if (base == nullptr) return fail_to_map(why);
    out.reset(new (std::nothrow) Member(base, length, fd.release_locked()));
    if (out == nullptr) {
        os::unmap(base, length);
        return fail(why, "make the member", Status::out_of_memory);
    }
    out->readonly = readonly;
    register_member(*out, false);
    return Status::ok;
}

unsigned char* map_segment(const PoolFd& again, u64 length) noexcept;

// One thread of a process opens a file at a time: two would become two members.
class Turn {
  public:
    Turn() = default;
    ~Turn() {
        if (mine_.process == 0) return;
        std::lock_guard guard(pools_mutex());
        std::erase(turns(), mine_);
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    // Under pools_mutex. False: another thread has it.
    bool take(const os::FileStatus& file) {
        const Entry entry{file.device, file.inode, lineage()};
        if (std::find(turns().begin(), turns().end(), entry) != turns().end()) return false;
        turns().push_back(entry);
        mine_ = entry;
        return true;
    }

  private:
    // A fork copies the entries of threads that the child does not have: those of its parent's
    // lineage count for nothing.
    struct Entry {
        u64 dev = 0;
        u64 ino = 0;
        unsigned process = 0;
        bool operator==(const Entry&) const = default;
    };
    static std::vector<Entry>& turns() {
        static auto& known = *new std::vector<Entry>;
        return known;
    }
    Entry mine_;
};

// A joined member's place on the list of pools. All memory for it is got when this is made, before
// others can see the member: nothing fails after that.
class Adoption {
  public:
    explicit Adoption(const Place& place)
        : pool_(1), owner_(std::make_shared<Owner>()), path_(place.directory + "/" + place.name) {
        pool_.front().place = place;
    }
    // `flags` as they were checked, not as they stand in the header by now.
    std::shared_ptr<Member> complete(Coming member, const os::FileStatus& memory,
                                     u64 flags) noexcept {
        const bool persistent = (flags & kPersistent) != 0;
        Member* m = owner_->member = member.release();
        Pool& pool = pool_.front();
        // The mode of a memfd says nothing: it has no name, and a process that may reach it through
        // /proc may read our memory anyway.
        m->others_may_write = (flags & kOthersMayWrite) != 0 ||
                              memory.user != os::effective_user() ||
                              (!pool.place.memfd && (memory.mode & 022) != 0);
        m->path = std::move(path_);
        m->last_one_unlinks = !persistent;
        pool.member = m;
        pool.dev = memory.device;
        pool.ino = memory.inode;
        pool.persistent = persistent;
        pool.announced = lineage();
        std::shared_ptr<Member> shared(std::move(owner_), m);
        pool.shared = shared;
        std::lock_guard guard(pools_mutex());
        all_pools().splice(all_pools().end(), pool_);
        return shared;
    }

  private:
    struct Owner {
        Member* member = nullptr;
        ~Owner() {
            if (member != nullptr) drop_member(member);
        }
    };
    std::list<Pool> pool_;  // one, until it is complete
    std::shared_ptr<Owner> owner_;
    std::string path_;
};

}  // namespace onecopy::pools
