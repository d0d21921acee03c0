#include <cerrno>
#include <utility>

#include "segment/opening.hpp"
#include "storage/rendezvous.hpp"

namespace onecopy {

using namespace pools;

namespace {

// A pool's file that was opened and checked, of which nothing is mapped yet.
struct Opened {
    PoolFd fd;
    os::FileStatus st;
    HeaderCopy copy;
    Place place;
    const Header& header() const noexcept { return copy.get(); }
};

// Opens the memory of a pool to read it, and locks nothing. Of a memfd the rendezvous is followed.
Status open_and_check(int dirfd, const std::string& directory, const std::string& name,
                      bool follow_rendezvous, Opened& out, Failure& why) {
    out.fd = PoolFd([&] { return os::open_at(dirfd, name.c_str(), os::Access::read); });
    if (!out.fd) {
        if (errno == ENXIO || errno == ENODEV) return fail(why, kNotAPool, Status::corrupt);
        return fail_to_open(why);
    }
    if (!os::look_at(out.fd.get(), out.st)) return fail(why, "look at the pool file");
    if (!out.st.is_file) return fail(why, kNotAPool, Status::corrupt);
    const bool own = out.st.user == os::effective_user();
    if (!own && !(out.st.mode & 022))
        return fail(why, "the pool belongs to another user", Status::not_allowed);
    bool memfd = false;
    if (Rendezvous r; read_rendezvous(out.fd.get(), r)) {
        if (!follow_rendezvous)
            return fail(why, "its memory is a memfd", Status::written_elsewhere);
        if (!own) return fail(why, "the pool belongs to another user", Status::not_allowed);
        switch (reach_any(r, out.fd)) {
            case Reach::found:
                break;
            case Reach::stale:
                return fail(why, kStale, Status::no_entry);
            case Reach::unknown:
                return fail_to_reach(why);
        }
        if (!os::look_at(out.fd.get(), out.st)) return fail(why, "look at the memfd");
        if (out.st.user != os::effective_user())
            return fail(why, "the pool belongs to another user", Status::not_allowed);
        memfd = true;
    }
    if (!out.copy.read(out.fd.get())) return no_header(why);
    const Header& h = out.header();
    if (Status s = verify(h, out.st.size, why); !good(s)) return s;
    if (((h.flags & kMemfd) != 0) != memfd)
        return fail(why, "a memfd pool without its memfd", Status::corrupt);
    if (!own && !(h.flags & kOthersMayWrite))
        return fail(why, "the pool belongs to another user", Status::not_allowed);
    out.place = {absolute(directory), name, out.st.device, out.st.inode, PoolId::of(h), memfd};
    return Status::ok;
}

Status try_read(int dirfd, const std::string& directory, const std::string& name,
                std::shared_ptr<Member>& out, Failure& why) {
    Opened opened;
    if (Status s = open_and_check(dirfd, directory, name, false, opened, why); !good(s)) return s;
    auto& [fd, st, copy, place] = opened;
    const Header& h = opened.header();

    Turn turn;
    if (Status s = look_here(st, place.id, out, turn, why, true); !good(s) || out != nullptr)
        return s;
    Adoption adoption(place);
    // Never unlocked: the descriptor and the mapping keep it, here and in children that were forked
    // meanwhile, until the last of them is gone.
    switch (fd->share_range(kSlotByte, kMaxProcesses)) {
        case os::ByteLock::failed:
            return fail(why, "lock the slots");
        case os::ByteLock::busy:
            return fail(why, "another process is a member", Status::written_elsewhere);
        case os::ByteLock::taken:
            break;
    }
    if ((h.flags & kPersistent) == 0) return fail(why, kStale, Status::no_entry);
    // Only now nobody changes it any more.
    if (!os::look_at(fd.get(), st)) return fail(why, "look at the pool file");
    if (st.size != h.file_size)
        return fail(why, "the file is not as long as its header says", Status::corrupt);
    Coming member;
    if (Status s = coming(
            h.file_size, fd, true, member, why,
            [&] { return static_cast<unsigned char*>(os::map_private(fd.get(), h.file_size)); });
        !good(s))
        return s;
    if (Status s = member->check(); !good(s))
        return fail(
            why,
            member->corrupt() ? "the pool is marked corrupt" : "the pool's marks are impossible",
            s);
    if (Status s = member->join(); !good(s)) return fail(why, "take a slot", s);
    out = adoption.complete(std::move(member), st, h.flags);
    member_is_made(*out);
    return Status::ok;
}

}  // namespace

Status open_to_read(Through way, const std::string& directory, const std::string& name,
                    std::shared_ptr<Member>& out, Failure& why, WaitPolicy& p) {
    return open_by([&](int dirfd) { return try_read(dirfd, directory, name, out, why); }, way,
                   directory, name, why, p);
}

Status look_at_pool(Through way, const std::string& directory, const std::string& name,
                    const std::function<void(Member&)>& see, Failure& why, bool everything) {
    if (!valid_name(name) || is_hidden(name))
        return fail(why, "not a valid name", Status::bad_argument);
    Fd dirfd;
    if (Status s = directory_for(way, directory, dirfd, why); !good(s)) return s;
    Opened opened;
    if (Status s = open_and_check(dirfd.get(), directory, name, true, opened, why); !good(s))
        return s;
    const Header& h = opened.header();
    if (!everything && !(h.flags & kPersistent) &&
        opened.fd->others(kMemberByte) == os::Others::none)
        return fail(why, kStale, Status::no_entry);
    unsigned char* base = nullptr;
    os::SharedFile file;
    {
        // No child inherits the mapping, which would keep the pool's memory.
        std::lock_guard guard(pools_mutex());
        base = static_cast<unsigned char*>(os::map_shared(opened.fd.get(), h.file_size, false));
        if (base == nullptr) return fail_to_map(why);
        os::keep_from_children(base, h.file_size);
        file = opened.fd.release_locked();
    }
    Member member(base, h.file_size, std::move(file));
    // Readers have every slot's byte locked: then nobody is a member.
    member.readonly = member.file.others(kSlotByte) == os::Others::share;
    if (Status s = member.check(everything); !good(s))
        return fail(
            why,
            member.corrupt() ? "the pool is marked corrupt" : "the pool's marks are impossible", s);
    see(member);
    return Status::ok;
}

Status flush_pool(Member& m, Failure& why) {
    if (m.readonly || m.header().flags & kMemfd) return Status::ok;
    const int error = os::write_back(m.base, m.length);
    return error == 0 ? Status::ok : fail(why, "write the pool to the disk", error);
}

}  // namespace onecopy
