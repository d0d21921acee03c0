#include <algorithm>
#include <cerrno>
#include <utility>

#include "segment/opening.hpp"
#include "storage/rendezvous.hpp"

namespace onecopy {

using namespace pools;

namespace {

// Of one attempt to open a pool, which is repeated.
constexpr std::int64_t kShortWait = 50'000'000;

// The reasons of would_block: what an attempt to open a pool waits for.
Status busy(Failure& why) {
    return why = {EBUSY, "open the pool: it keeps coming and going", {}}, Status::would_block;
}
Status directory_busy(Failure& why) {
    return why = {ETIMEDOUT, "lock the pool directory", {}}, Status::would_block;
}

// One attempt. would_block: another process is in the middle of coming or going, or has the
// directory locked, or a thread of this process opens the same file.
Status try_open(int dirfd, const std::string& directory, const std::string& name,
                WhenStale when_stale, std::shared_ptr<Member>& out, Failure& why) {
    // No signal handler runs in here: it might want to open the same pool.
    UnboundedWait outer;
    UninterruptibleWait policy(outer, from_now(kShortWait));
    PoolFd fd([&] { return os::open_at(dirfd, name.c_str(), os::Access::write); });
    if (!fd) {
        if (errno == EISDIR || errno == ENXIO || errno == ENODEV)
            return fail(why, kNotAPool, Status::corrupt);
        if (errno == EACCES || errno == EROFS)
            return fail(why,
                        "it may not be written from here; Pool.open(..., mode=\"r\") only reads");
        return fail_to_open(why);
    }
    os::FileStatus st;
    if (!os::look_at(fd.get(), st)) return fail(why, "look at the pool file");
    if (!st.is_file) return fail(why, kNotAPool, Status::corrupt);
    const bool own = st.user == os::effective_user();
    if (!own && !(st.mode & 022))
        return fail(why, "the pool belongs to another user", Status::not_allowed);

    Place place{absolute(directory), name, st.device, st.inode, {}, false};
    if (Rendezvous r; own && read_rendezvous(fd.get(), r)) {
        place.memfd = true;
        fd.reset();
        Reach found = reach_any(r, fd);
        if (found == Reach::stale) {
            // Another process may have added a line since: check again while none can.
            DirectoryLock directory_lock(dirfd, policy);
            if (!directory_lock) return directory_busy(why);
            Fd again([&] { return os::open_at(dirfd, name.c_str(), os::Access::read); });
            if (!again) return fail(why, "open the rendezvous file");
            Rendezvous now;
            // Another pool by now.
            if (!read_rendezvous(again.get(), now) || now.id != r.id) return busy(why);
            found = reach_any(now, fd);
            if (found == Reach::stale) {
                if (when_stale == WhenStale::keep) return fail(why, kStale, Status::no_entry);
                // As `remove_name` of storage/ does: the directory is locked, and the file was read
                // under this lock. A second reading would only repeat the comparison of the ids.
                os::remove_name(dirfd, name.c_str());
                return fail(why, "all members of the pool are gone", Status::no_entry);
            }
        }
        if (found == Reach::unknown) return fail_to_reach(why);
        if (!os::look_at(fd.get(), st)) return fail(why, "look at the memfd");
        if (st.user != os::effective_user())
            return fail(why, "the pool belongs to another user", Status::not_allowed);
    }
    HeaderCopy copy;
    if (!copy.read(fd.get())) return no_header(why);
    const Header& h = copy.get();
    if (Status s = verify(h, st.size, why); !good(s)) return s;
    if (((h.flags & kMemfd) != 0) != place.memfd)
        return fail(why, "a memfd pool without its memfd", Status::corrupt);
    // The creator must have meant it, and not only a later chmod.
    if (!own && !(h.flags & kOthersMayWrite))
        return fail(why, "the pool belongs to another user", Status::not_allowed);
    place.id = PoolId::of(h);
    const bool persistent = (h.flags & kPersistent) != 0;

    Turn turn;
    std::shared_ptr<Member> here;
    if (Status s = look_here(st, place.id, here, turn, why, false); !good(s)) return s;
    if (here != nullptr) {
        if (here->readonly) return fail(why, "this process reads it", Status::read_elsewhere);
        if (here->corrupt()) return fail(why, "the pool is marked corrupt", Status::corrupt);
        member_is_made(*here);  // it has its name, and its maker is about to say so
        out = std::move(here);
        return Status::ok;
    }

    Adoption adoption(place);
    if (fd->others(kSlotByte) == os::Others::share)
        return fail(why, "another process reads it", Status::read_elsewhere);
    bool alone = false;
    switch (fd->lock(kMemberByte, true)) {
        case os::ByteLock::failed:
            return fail(why, "lock the membership byte");
        case os::ByteLock::taken:
            alone = true;
            // It has no living member.
            if (!persistent) {
                // If that fails there is no such pool all the same.
                if (when_stale == WhenStale::remove)
                    remove_name(dirfd, place, DirectoryLock(dirfd, policy));
                fd->unlock(kMemberByte);
                return fail(
                    why,
                    when_stale == WhenStale::keep ? kStale : "all members of the pool are gone",
                    Status::no_entry);
            }
            if (fd->lock(kMemberByte, false) != os::ByteLock::taken)
                return fail(why, "lock the membership byte");
            break;
        case os::ByteLock::busy:
            switch (fd->lock(kMemberByte, false)) {
                case os::ByteLock::failed:
                    return fail(why, "lock the membership byte");
                // The last member is leaving, or another process looks whether there are members.
                case os::ByteLock::busy:
                    return busy(why);
                case os::ByteLock::taken:
                    break;
            }
    }
    // This process counts as a member now. If a step fails, it may be the last one to leave.
    auto turn_back = [&](Status s) {
        const int error = errno;
        depart(*fd, place, persistent);
        errno = error;
        return s;
    };
    if (!os::look_at(fd.get(), st)) return turn_back(fail(why, "look at the pool file"));
    if (st.size != h.file_size)
        return turn_back(fail(why, "the file is not as long as its header says", Status::corrupt));
    // By its name: it may have been removed between our open and our lock. A memfd's name is looked
    // at when it gets our line.
    PoolFd again([&] {
        return place.memfd ? fd->again()
                           : os::SharedFile(os::open_at(dirfd, name.c_str(), os::Access::write));
    });
    if (!again) {
        const bool removed = !place.memfd && errno == ENOENT;
        return turn_back(removed ? busy(why) : fail(why, "open the pool file again"));
    }
    if (again->identity() != fd->identity())
        return turn_back(busy(why));  // the name has become another file's meanwhile
    // The member owns a descriptor of the same description: turning back still needs one after the
    // member is gone.
    PoolFd second([&] { return fd->duplicate(); });
    if (!second) return turn_back(fail(why, "duplicate the descriptor"));
    Coming member;
    if (Status s = coming(h.file_size, second, false, member, why,
                          [&] { return map_segment(again, h.file_size); });
        !good(s))
        return turn_back(s);
    again.reset();
    if (Status s = member->check(); !good(s)) {
        fail(why,
             member->corrupt() ? "the pool is marked corrupt" : "the pool's marks are impossible",
             s);
        member.reset();
        return turn_back(s);
    }
    // The marks of a file that no process had open may be wrong: it may have been copied with
    // holes, or cut short and made longer again.
    if (const int error = alone ? Member::upper.reserve_marked(*member) : 0; error != 0) {
        // The memory that was reserved is given back while no other process is, or becomes, a
        // member. The next process that is alone reserves it again. Then the byte is shared again,
        // and this process leaves as all others do.
        if (fd->lock(kMemberByte, true) == os::ByteLock::taken) {
            fd->give_back_unwritten(member->base, 0, h.file_size);
            static_cast<void>(fd->lock(kMemberByte, false));
        }
        member.reset();
        return turn_back(fail(why, "reserve what the pool says it has", error));
    }
    if (Status s = member->join(); !good(s)) {
        fail(why, "take a slot", s);
        why.limit = member->geo().max_processes;
        // The reader has come just now.
        if (s == Status::no_slot && fd->others(kSlotByte) == os::Others::share)
            s = Status::read_elsewhere;
        member.reset();
        return turn_back(s);
    }
    if (place.memfd) {
        if (Status s = add_line(dirfd, place, member->file.number(), policy); !good(s)) {
            const int error = errno;
            member.reset();
            turn_back(s);
            if (s == Status::timed_out) return directory_busy(why);
            // The last one left: the name says more.
            if (s == Status::no_entry) return busy(why);
            return why = {error, "add to the rendezvous file", {}}, s;
        }
    }
    out = adoption.complete(std::move(member), st, h.flags);
    member_is_made(*out);
    return Status::ok;
}

}  // namespace

Status open_pool(Through way, const std::string& directory, const std::string& name,
                 WhenStale when_stale, std::shared_ptr<Member>& out, Failure& why, WaitPolicy& p) {
    return open_by(
        [&](int dirfd) { return try_open(dirfd, directory, name, when_stale, out, why); }, way,
        directory, name, why, p);
}

}  // namespace onecopy
