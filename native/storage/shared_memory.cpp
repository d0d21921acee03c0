#include "storage/shared_memory.hpp"

#include <algorithm>
#include <new>
#include <string_view>
#include <utility>

#include "base/crash_point.hpp"
#include "base/never_destroyed.hpp"
#include "base/private_memory.hpp"
#include "os/forks.hpp"
#include "os/memory.hpp"
#include "storage/owner.hpp"
#include "storage/shared_memory_sweep.hpp"
#include "sync/structure_lock.hpp"

namespace onecopy {

using namespace storage;

namespace {

constexpr std::int64_t kSegmentWait = 5'000'000'000;  // attaching and releasing take microseconds
constexpr std::int64_t kBetweenAttempts = 100'000;
constexpr u64 kPiece = 8 * kMiB;  // bytes that are reserved in one system call

const NewFileKind kSegmentFiles{kHiddenSegment, 0600 | kSegmentMadeHere, kSegmentHoldByte, nullptr};

// Made when the module is loaded: later, there may be no memory for it. Used with `segments_mutex`
// held.
constinit NeverDestroyed<std::vector<std::shared_ptr<Segment>>> held_list;
std::vector<std::shared_ptr<Segment>>& held() noexcept {
    return held_list.value;
}
bool owns_unheld = false;

Status no_folder(const std::string& directory, Failure& why) {
    why = {errno,
           "shared memory segments need " + directory +
               ", which cannot be used here; mount a tmpfs there, or use a Pool with ONECOPY_DIR",
           {}};
    return Status::system_error;
}

Status open_folder(const std::string& directory, Fd& out, Failure& why) {
    out = Fd([&] { return os::open_directory(directory.c_str()); });
    if (out) return Status::ok;
    return no_folder(directory, why);
}

// Calls `attempt` until it returns another status than would_block; returns `late` if that takes
// too long. No mutex is held while this waits.
template <class Attempt>
Status with_policy(Attempt attempt, Status late, WaitPolicy& outer) {
    BoundedWait p(outer, os::monotonic_ns() + kSegmentWait);
    for (;;) {
        const Status s = attempt();
        if (s != Status::would_block) return s;
        if (p.left(kBetweenAttempts) == 0) return late;
        p.about_to_block();
        os::nap(kBetweenAttempts);
        if (p.interrupted()) return Status::interrupted;
    }
}

// After this call the segment is held. Memory for it was reserved before.
void hold(std::shared_ptr<Segment> segment) noexcept {
    held().push_back(std::move(segment));
}

}  // namespace

// ---- a segment that is held ---------------------------------------------------------------------

Segment::Segment(std::string directory, std::string name, os::SharedFile file,
                 const os::FileStatus& status) noexcept
    : directory_(std::move(directory)),
      name_(std::move(name)),
      file_(std::move(file)),
      size_(status.size),
      mode_(status.mode) {}

bool Segment::still_named(int directory) const noexcept {
    os::FileStatus now;
    return os::look_at(directory, name_.c_str(), now) && now.device == identity().device &&
           now.inode == identity().inode;
}

bool Segment::has_name() const noexcept {
    if (!file_) return false;
    const os::Descriptor folder(os::open_directory(directory_.c_str()));
    // Without a free descriptor it counts as named, so that nothing is removed.
    return !folder || still_named(folder.number());
}

void Segment::close() noexcept {
    file_.close();
    std::erase_if(held(), [this](const auto& each) { return each.get() == this; });
}

Status Segment::try_unlink(Failure& why) {
    const std::lock_guard guard(segments_mutex());
    const auto missing = [&] { return fail(why, "find the segment's name", Status::no_entry); };
    if (!file_) return missing();
    const os::Descriptor folder(os::open_directory(directory_.c_str()));
    if (!folder) return no_folder(directory_, why);
    // A separate open file description: related processes share the other one.
    const os::Descriptor file(os::open_at(folder.number(), name_.c_str(), os::Access::write));
    if (!file) return errno == ENOENT ? missing() : fail(why, "open the segment");
    os::FileStatus found;
    if (!os::look_at(file.number(), found)) return fail(why, "look at the segment");
    if (found.device != identity().device || found.inode != identity().inode) return missing();
    switch (os::lock_byte(file.number(), kSegmentUnlinkByte, true)) {
        case os::ByteLock::busy:
            return why = {EBUSY,
                          "another process is unlinking it, and was stopped in the middle",
                          {}},
                   Status::would_block;
        case os::ByteLock::failed:
            return fail(why, "lock the segment");
        case os::ByteLock::taken:
            break;
    }
    if (!still_named(folder.number())) return missing();
    if (!os::remove_name(folder.number(), name_.c_str()))
        return errno == ENOENT ? missing() : fail(why, "unlink the segment");
    close();
    return Status::ok;
}

Status Segment::unlink(Failure& why, WaitPolicy& p) {
    return with_policy([&] { return try_unlink(why); }, Status::system_error, p);
}

void Segment::release() noexcept {
    const std::lock_guard guard(segments_mutex());
    if (!file_) return;
    const os::Descriptor folder(os::open_directory(directory_.c_str()));
    const bool named = made_here() && !persistent() && folder && still_named(folder.number());
    close();
    crash_point();
    if (named) static_cast<void>(sweep_segment(folder.number(), name_, true));
}

bool Segment::release_unnamed() noexcept {
    const std::lock_guard guard(segments_mutex());
    if (file_ && !has_name()) close();
    return !file_;
}

Status Segment::take_over(Failure& why) noexcept {
    const std::lock_guard guard(segments_mutex());
    if (!file_) return Status::ok;
    if (!file_.is_ours()) return Status::lost;
    Owner me;
    if (!this_process(me))
        return fail_at(why, "find out this process's start", "/proc/self/stat", errno);
    return mark_owner(file_.number(), me) ? Status::ok : fail(why, "mark the segment");
}

// ---- a segment that is being made ---------------------------------------------------------------

Status NewSegment::open(u32 mode, Failure& why) {
    new_ = std::make_unique<NewFile>(kSegmentFiles);
    file_ = new_->make<PoolFd>(folder_.get());
    if (!file_) return fail(why, "make the segment");
    // Locked before its memory is reserved: a sweep removes a hidden file that is not locked.
    if (file_->lock(kSegmentHoldByte, false) != os::ByteLock::taken)
        return fail(why, "lock the segment");
    return os::set_mode(file_.get(), mode) ? Status::ok : fail(why, "set the segment's mode");
}

Status NewSegment::reserve(u64 bytes, Failure& why, WaitPolicy& p) {
    // Not tried without room: until it fails, other processes would have no memory.
    if (const int error = os::room_for(*file_, bytes))
        return fail(why, "reserve the segment's memory", error);
    const unsigned process = os::lineage();
    for (u64 done = 0; done < bytes; done += kPiece) {
        p.about_to_block();
        if (const int error = file_->reserve(done, std::min(kPiece, bytes - done))) {
            os::set_size(file_.get(), 0);
            return fail(why, "reserve the segment's memory", error);
        }
        if (p.interrupted()) return Status::interrupted;
        // A signal handler has forked, and this is the child, where the descriptor is closed.
        if (os::lineage() != process)
            return why = {ECANCELED, "the process was forked meanwhile, by a signal handler", {}},
                   Status::system_error;
    }
    return Status::ok;
}

Status NewSegment::make(const std::string& directory, u64 bytes, bool persistent, Failure& why,
                        WaitPolicy& p) {
    follow_forks();
    directory_ = directory;
    if (Status s = open_folder(directory, folder_, why); !good(s)) return s;
    if (Status s = open(0600 | kSegmentMadeHere | (persistent ? kSegmentStays : 0), why); !good(s))
        return s;
    const Status s = reserve(bytes, why, p);
    if (s != Status::no_memory) return s;
    // Segments that only dead processes had are removed, to free memory.
    std::vector<SegmentInfo> swept;
    sweep_segments(directory, true, swept);
    const bool any = std::any_of(swept.begin(), swept.end(), [](const SegmentInfo& each) {
        return each.state == SegmentState::removed;
    });
    return any ? reserve(bytes, why, p) : s;
}

Status NewSegment::publish(const std::string& name, u32 parent, std::shared_ptr<Segment>& out,
                           Failure& why) {
    const std::lock_guard guard(segments_mutex());
    if (!file_)
        return why = {ECANCELED, "the process was forked meanwhile", {}}, Status::system_error;
    os::FileStatus status;
    if (!os::look_at(file_.get(), status)) return fail(why, "look at the segment");
    Owner owner;
    if (!owner_of_new(parent, owner))
        return fail_at(why, "find out this process's start", "/proc", errno);
    if (!mark_owner(file_.get(), owner)) return fail(why, "mark the segment");
    // All memory is allocated before the commit: nothing fails after it.
    std::shared_ptr<Segment> made;
    try {
        held().reserve(held().size() + 1);
        made = std::make_shared<Segment>(directory_, name, os::SharedFile(), status);
    } catch (const std::bad_alloc&) {
        return fail(why, "make the segment", Status::out_of_memory);
    }
    bool done = new_->publish(file_.get(), name.c_str());
    if (!done && errno == EEXIST) {
        // A segment that only dead processes had is removed.
        if (sweep_segment(folder_.get(), name, true) == SegmentState::removed)
            done = new_->publish(file_.get(), name.c_str());
        else
            errno = EEXIST;
    }
    if (!done && errno == ENOENT)
        return fail_at(why, "give the segment its name", "/proc/self/fd", ENOENT);
    if (!done) return fail(why, "give the segment its name");
    {
        const std::lock_guard also(pools_mutex());
        made->file_ = file_.release_locked();
    }
    out = made;
    hold(std::move(made));
    return Status::ok;
}

void NewSegment::discard() noexcept {
    file_.reset();
    new_.reset();
    folder_.reset();
}

// ---- attaching ----------------------------------------------------------------------------------

namespace {

// One attempt. would_block: another process is in the middle of a step.
Status try_attach(const std::string& directory, const std::string& name,
                  std::shared_ptr<Segment>& out, Failure& why) {
    const std::lock_guard guard(segments_mutex());
    const os::Descriptor folder(os::open_directory(directory.c_str()));
    if (!folder) return no_folder(directory, why);
    const auto missing = [&] { return fail(why, "find the segment", Status::no_entry); };
    os::Descriptor file(os::open_at(folder.number(), name.c_str(), os::Access::write));
    if (!file) {
        if (errno == ENOENT) return missing();
        if (errno == ELOOP || errno == EISDIR || errno == ENXIO || errno == ENODEV)
            return fail(why, "is no shared memory, but a link or directory", Status::corrupt);
        return fail(why, "open the segment"), Status::system_error;
    }
    os::FileStatus status;
    if (!os::look_at(file.number(), status)) return fail(why, "look at the segment");
    if (!status.is_file)
        return fail(why, "is no shared memory, but a pipe or device", Status::corrupt);
    if (status.user != os::effective_user()) {
        why = {EACCES, "the shared memory belongs to user " + std::to_string(status.user), {}};
        return Status::not_allowed;
    }
    // A pool, or the rendezvous of one in a memfd.
    char begins[8] = {};
    // Less than these bytes may be all of it. A file that cannot be read may be a pool.
    if (os::read_at(file.number(), 0, begins, sizeof begins) < sizeof begins && errno != 0)
        return fail(why, "read the segment"), Status::system_error;
    const std::string_view start(begins, sizeof begins);
    if (start == "onecopy1" || start == "onecopy-")
        return fail(why, "is a pool: use onecopy.Pool.open with this path", Status::corrupt);
    if ((status.mode & kSegmentMadeHere) != 0) {
        os::Life owner = os::Life::alive;
        if ((status.mode & kSegmentStays) == 0) owner = owner_life(status, name);
        if (owner == os::Life::unknown)
            return fail_at(why, "look for its owner process", "/proc", errno);
        if (owner == os::Life::dead) {
            const os::ByteLock alone = os::lock_byte(file.number(), kSegmentHoldByte, true);
            if (alone == os::ByteLock::failed)
                return fail(why, "lock the segment"), Status::system_error;
            if (alone == os::ByteLock::taken) {
                // Stale. This process has the exclusive lock, so it may remove the segment.
                os::FileStatus now;
                if (os::look_at(folder.number(), name.c_str(), now) && now.same_file(status) &&
                    !os::remove_name(folder.number(), name.c_str()) && errno != ENOENT)
                    return fail(why, "remove the segment");
                return missing();
            }
        }
        switch (os::lock_byte(file.number(), kSegmentHoldByte, false)) {
            case os::ByteLock::failed:
                return fail(why, "lock the segment"), Status::system_error;
            case os::ByteLock::busy:
                return Status::would_block;
            case os::ByteLock::taken:
                break;
        }
        os::FileStatus now;
        if (!os::look_at(file.number(), now)) return fail(why, "look at the segment");
        if (now.links == 0) return Status::would_block;
    }
    if (status.size == 0) return fail(why, "has no size yet", Status::bad_argument);
    try {
        held().reserve(held().size() + 1);
        out = std::make_shared<Segment>(directory, name, os::SharedFile(file.release()), status);
    } catch (const std::bad_alloc&) {
        return fail(why, "attach to the segment", Status::out_of_memory);
    }
    hold(out);
    return Status::ok;
}

}  // namespace

Status attach_segment(const std::string& directory, const std::string& name,
                      std::shared_ptr<Segment>& out, Failure& why, WaitPolicy& p) {
    follow_forks();
    // Late: another process was stopped while it removed the segment.
    return with_policy([&] { return try_attach(directory, name, out, why); }, Status::no_entry, p);
}

// ---- the end of a process -----------------------------------------------------------------------

void note_owner(u32 parent) noexcept {
    follow_forks();
    const std::lock_guard guard(segments_mutex());
    Owner owner;
    static_cast<void>(owner_of_new(parent, owner));
}

void keep_segments() noexcept {
    owns_unheld = true;
}

void release_segments(const char* directory) noexcept {
    const std::lock_guard guard(segments_mutex());
    end_ownership();
    std::vector<std::shared_ptr<Segment>> all;
    all.swap(held());
    if (all.empty() && !owns_unheld) return;
    const auto was_held = [&all](const os::FileStatus& file) {
        return std::any_of(all.begin(), all.end(), [&file](const std::shared_ptr<Segment>& each) {
            return each->identity().device == file.device && each->identity().inode == file.inode;
        });
    };
    for (const auto& each : all)
        each->file_.close();
    crash_point();
    const os::Descriptor folder(os::open_directory(directory));
    if (!folder) return;
    Owner me;
    if (!this_process(me)) me = {};
    // Without memory, the names stay until the next process checks them.
    static_cast<void>(within_memory([&] {
        for (const std::string& name : os::names_in(folder.number(), {})) {
            os::FileStatus status;
            if (!os::look_at(folder.number(), name.c_str(), status) || !is_segment(status))
                continue;
            if ((me.pid != 0 && owner_of(status) == me) || was_held(status))
                static_cast<void>(sweep_segment(folder.number(), name, true));
        }
        return Status::ok;
    }));
}

}  // namespace onecopy
