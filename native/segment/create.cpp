#include <algorithm>
#include <cerrno>
#include <utility>

#include "os/memory.hpp"
#include "segment/pools.hpp"
#include "storage/rendezvous.hpp"

namespace onecopy {

using namespace pools;

namespace {

// Bytes that are reserved or written in one system call, which nothing can interrupt.
constexpr u64 kPiece = 64 * kMiB;

// As `fail`; names the memory limit, where it is the reason.
Status no_room(Failure& why, const char* step, bool in_memory, int error) {
    const Status s = fail(why, step, error);
    os::MemoryLimit limit;
    if (error == ENOMEM && in_memory && os::memory_limit(limit)) {
        why.what += ": the control group " + std::string(limit.group) + " may use " +
                    std::to_string(limit.limit / kMiB) + " MiB, of which " +
                    std::to_string(limit.room / kMiB) + " MiB are left for pools";
    }
    return s;
}

// Removes the file with the name, if it is a pool whose members are all dead. Directory locked.
Status make_free(int dirfd, const std::string& name, Failure& why) {
    const PoolFileState found = look_behind(dirfd, name, true);
    if (found == PoolFileState::removed) return Status::ok;
    if (found == PoolFileState::failed && lacks_means(errno))
        return fail(why, "look at what has the name");
    return fail(why, "publish the pool", EEXIST);
}

// A signal handler has forked, and this is the child: the unfinished pool is the parent's.
Status forked_meanwhile(Failure& why) {
    return why = {ECANCELED, "the process was forked meanwhile, by a signal handler", {}},
           Status::system_error;
}

// Calls `piece(offset, bytes)`, which gives 0 or errno, for all of [from, from+bytes). Between two
// of them signals are looked at. interrupted, ok, or what the error means.
template <class Piece>
Status in_pieces(u64 from, u64 bytes, WaitPolicy& p, Failure& why, const char* step, Piece piece) {
    const unsigned process = lineage();
    for (u64 done = 0; done < bytes; done += kPiece) {
        p.about_to_block();
        if (const int error = piece(from + done, std::min(kPiece, bytes - done)))
            return fail(why, step, error);
        if (p.interrupted()) return Status::interrupted;
        if (lineage() != process) return forked_meanwhile(why);
    }
    return Status::ok;
}

// Nothing that others can see, or wait for, until it is published.
Status create(const CreateSpec& spec, std::shared_ptr<Member>& out, Failure& why, WaitPolicy& p) {
    Fd dirfd;
    if (Status s = trusted_directory(spec.way, spec.directory, true, dirfd, why); !good(s))
        return s;
    // Taken? Asked again when it counts; now only to save the work. The name of a pool whose
    // members are all dead is free.
    {
        os::FileStatus st;
        BoundedWait policy(p, from_now(kDirectoryWait));
        DirectoryLock directory_lock(dirfd.get(), policy);
        if (!directory_lock) return directory_lock.fail(why);
        if (os::look_at(dirfd.get(), spec.name.c_str(), st)) {
            if (Status s = make_free(dirfd.get(), spec.name, why); !good(s)) return s;
        }
    }

    const Geometry g = geometry(spec.capacity, spec.max_processes);
    auto flag = [](bool set, HeaderFlags which) { return set ? static_cast<u64>(which) : 0; };
    const u64 flags = flag(spec.persistent, kPersistent) | flag(spec.memfd, kMemfd) |
                      flag((spec.mode & 022) != 0, kOthersMayWrite);
    NewFile file(kPoolFiles);  // destroyed after the descriptor is
    PoolFd fd = spec.memfd ? PoolFd(os::make_memfd) : file.make<PoolFd>(dirfd.get());
    if (!fd) return fail(why, spec.memfd ? "memfd_create" : "create the pool file");
    if (fd->lock(kMemberByte, false) != os::ByteLock::taken)
        return fail(why, "lock the membership byte");
    if (!os::set_mode(fd.get(), spec.mode)) return fail(why, "set the mode of the pool file");
    if (!os::set_size(fd.get(), g.file_size)) return fail(why, "set the size of the pool file");
    if (spec.memfd && !os::seal_size(fd.get())) return fail(why, "seal the memfd");
    if (int error = fd->reserve(0, fixed_bytes(g))) return fail(why, "reserve the tables", error);
    if (spec.prefault) {
        // What it takes before it fails goes with the file, which has no name.
        if (int error = os::room_for(*fd, g.capacity))
            return no_room(why, "reserve the heap", fd->identity().in_memory, error);
        const Status s = in_pieces(g.heap_off, g.capacity, p, why, "reserve the heap",
                                   [&](u64 at, u64 bytes) { return fd->reserve(at, bytes); });
        if (!good(s)) return s;
    }
    PoolId id;
    if (!os::random_bytes(id.id, sizeof id.id)) return fail(why, "getrandom");
    os::FileStatus memory;
    if (!os::look_at(fd.get(), memory)) return fail(why, "look at the pool file");

    // From here the member owns mapping and descriptor. No other process sees the file, so a
    // failure leaves nothing behind.
    Coming member;
    {
        const PoolFd again =
            spec.memfd ? PoolFd([&] { return fd->again(); }) : file.open_again(*fd);
        if (!again) {  // a memfd is reached through /proc only
            const char* step = "open the pool file again";
            return spec.memfd ? fail_at(why, step, "/proc/self/fd", errno) : fail(why, step);
        }
        const Status s = coming(g.file_size, fd, false, member, why, [&]() noexcept {
            unsigned char* base = map_segment(again, g.file_size);
            if (base == nullptr) return base;
            format(base, g, flags);
            copy_in(reinterpret_cast<Header*>(base)->id, id.id, sizeof id.id);
            return base;
        });
        if (!good(s)) return s;
    }
    Member::upper.format(*member, spec.prefault);
    if (Status s = member->check(); !good(s)) return fail(why, "check the new pool", s);
    if (spec.prefault) {
        const Status s =
            in_pieces(0, g.capacity, p, why, "prefault the heap",
                      [&](u64 at, u64 bytes) { return os::populate(member->heap() + at, bytes); });
        if (!good(s)) return s;
    }
    if (Status s = member->join(); !good(s)) return fail(why, "take a slot", s);

    NewFile rendezvous(kPoolFiles);
    Fd text;
    if (spec.memfd) {
        text = rendezvous.make<Fd>(dirfd.get());
        if (!text) return fail(why, "create the rendezvous file");
        const std::string own = own_line(member->file.number());
        if (own.empty())
            return fail_at(why, "find out this process's start", "/proc/self/stat", errno);
        if (!os::set_mode(text.get(), 0600) ||
            !os::write_all(text.get(), kRendezvous + id.hex() + "\n" + own))
            return fail(why, "write the rendezvous file");
    }
    // On the list of pools first: another thread that opens it as soon as it has its name finds it
    // there. A process that leaves does not look for a name yet.
    Adoption adoption(
        {absolute(spec.directory), spec.name, memory.device, memory.inode, id, spec.memfd});
    const unsigned process = lineage();
    std::shared_ptr<Member> made = adoption.complete(std::move(member), memory, flags);
    made->last_one_unlinks = false;
    {
        BoundedWait policy(p, from_now(kDirectoryWait));
        DirectoryLock directory_lock(dirfd.get(), policy);
        if (lineage() != process) return forked_meanwhile(why);
        if (!directory_lock) return directory_lock.fail(why);
        // Everything is in place and we are its member: with the name the pool exists, and there is
        // no moment in which it looks deserted.
        auto publish = [&] {
            return spec.memfd ? rendezvous.publish(text.get(), spec.name.c_str())
                              : file.publish(made->file.number(), spec.name.c_str());
        };
        made->last_one_unlinks = !spec.persistent;
        bool done = publish();
        if (!done && errno == EEXIST) {
            if (Status s = make_free(dirfd.get(), spec.name, why); !good(s)) {
                made->last_one_unlinks = false;
                return s;
            }
            done = publish();
        }
        if (!done) {
            const int error = errno;
            made->last_one_unlinks = false;
            return why = {error, "publish the pool", {}},
                   error == ENOENT ? Status::system_error : status_of(error);
        }
    }
    member_is_made(*made);
    out = std::move(made);
    return Status::ok;
}

}  // namespace

Status create_pool(const CreateSpec& spec, std::shared_ptr<Member>& out, Failure& why,
                   WaitPolicy& p) {
    if (!valid_name(spec.name) || is_hidden(spec.name))
        return fail(why, "not a valid name", Status::bad_argument);
    if (spec.capacity == 0 || spec.capacity > kMaxCapacity)
        return fail(why, "a pool has a size of 1 byte to 64 TiB", Status::bad_argument);
    if (spec.max_processes == 0 || spec.max_processes > kMaxProcesses)
        return fail(why, "max_processes is 1 to 512", Status::bad_argument);
    if ((spec.mode & ~0666u) != 0 || (spec.mode & 0600) != 0600)
        return fail(why,
                    "its mode is 0600 and, for others, any of 0066: no pool is executed, and its "
                    "owner reads and writes it",
                    Status::bad_argument);
    // The memory of a memfd goes with its last member, and its rendezvous is for its owner alone.
    if (spec.memfd && (spec.persistent || (spec.mode & 066) != 0))
        return fail(why, "a memfd pool is neither persistent nor for others", Status::bad_argument);
    return create(spec, out, why, p);
}

}  // namespace onecopy
