// Shared-memory segments: files of /dev/shm with exactly the bytes that were asked for, as POSIX
// shared memory has them. docs/design/0016-storage.md has the states, and a death at every step.
//
// What onecopy knows of a segment stands beside its contents:
//
//   mode      0600: made by the standard library or another program, and never removed here.
//             01600 (the sticky bit means nothing else for a file): made by onecopy; it is removed
//             when it is stale. 01700: made by onecopy; it stays until somebody unlinks it.
//   lock      each holder has kSegmentHoldByte locked, shared. The lock belongs to the open file
//             description: the kernel drops it with the holder's last descriptor, so also on kill
//             -9, and a forked child has it together with its parent.
//   owner     the process whose end makes a segment that nobody holds stale (storage/owner.hpp)
//
// A segment is stale when nobody holds it and its owner is dead. Only stale ones are removed: by a
// sweep, by a process that attaches, by the last holder, or by the owner when it ends.
//
// Why two processes never disagree:
//
//   * A file gets its name when it is complete, marked, owned and locked.
//   * Only a process that found the owner dead and got the *exclusive* lock removes a stale name:
//     nobody holds the segment then, and an attaching process cannot take the shared lock before
//     the remover is gone. Nobody takes that lock for another reason.
//   * A process that attaches takes the shared lock, and then looks whether the file still has its
//     name. If not, it was swept in between, and the search starts over.
//   * Nobody unlocks: descriptors are closed. An unlock would also unlock the relatives that share
//     the description. Memory is mapped through a description of its own.
//   * `unlink` removes the name only while it is this file's, and has kSegmentUnlinkByte locked
//     exclusively meanwhile: removers of one file exclude each other, and without a remover the
//     name does not change. (Programs that call shm_unlink themselves are outside of this.)
//
// Threads may call everything here; steps of one process exclude each other.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "storage/failure.hpp"
#include "storage/new_file.hpp"
#include "sync/wait_policy.hpp"

namespace onecopy {

constexpr const char* kSegmentDirectory = "/dev/shm";
constexpr u64 kSegmentHoldByte = u64{1} << 62;  // far behind the end of any file
constexpr u64 kSegmentUnlinkByte = kSegmentHoldByte + 1;
constexpr u32 kSegmentMadeHere = os::kStickyBit, kSegmentStays = os::kOwnerExecutes;
constexpr char kHiddenSegment[] = ".onecopy-segment-";

// none: no segment of this user that was made by onecopy, or it has gone.
enum class SegmentState { none, in_use, kept, removed, stale, persistent, failed };

struct SegmentInfo {
    std::string name;
    SegmentState state;
    u64 size;
};

// A segment that this process holds. It is held until `release` or `unlink`, or until the process
// ends, also if nothing refers to this object any more. A child of a fork holds it too. A caller
// has a shared_ptr to it.
class Segment {
  public:
    Segment(std::string directory, std::string name, os::PoolFile file,
            const os::FileStatus& status) noexcept;
    const std::string& name() const noexcept { return name_; }
    u64 size() const noexcept { return size_; }
    bool made_here() const noexcept { return (mode_ & kSegmentMadeHere) != 0; }
    bool persistent() const noexcept { return (mode_ & kSegmentStays) != 0; }
    const os::FileIdentity& identity() const noexcept { return file_.identity(); }
    int number() const noexcept { return file_.number(); }  // -1: it was released
    // False: something in this process closed the descriptor, so nobody counts it as a holder.
    bool is_ours() const noexcept { return file_.is_ours(); }
    // Whether it can still be attached to.
    bool has_name() const noexcept;

    // COMMIT: the name is removed, for everybody; mappings stay valid. It is released. ok;
    // no_entry: it has no name any more, and one that was made anew is not touched; system_error
    // (EBUSY: another process is stopped in the middle of unlinking it); interrupted.
    Status unlink(Failure& why, WaitPolicy& p);
    // If that makes it stale, its name is removed. Idempotent.
    void release() noexcept;
    // Releases it if nobody can attach to it any more. Whether it is released.
    bool release_unnamed() noexcept;
    // Makes this process the owner, and not the top of its tree. ok; lost; system_error.
    Status take_over(Failure& why) noexcept;

  private:
    friend class NewSegment;
    friend void release_segments(const char* directory) noexcept;
    bool still_named(int directory) const noexcept;
    Status try_unlink(Failure& why);
    void close() noexcept;
    std::string directory_, name_;
    os::PoolFile file_;
    u64 size_;
    u32 mode_;
};

// A segment in the making. A fork leaves nothing of it in the child.
class NewSegment {
  public:
    // ok; no_memory, out_of_memory, not_allowed, system_error, interrupted. Its memory is zero and
    // reserved. Not without room: beyond the limit of the control group the kernel kills.
    Status make(const std::string& directory, u64 bytes, bool persistent, Failure& why,
                WaitPolicy& p);
    // To map and fill it, before anybody can attach; -1: it has its name, or a fork's child has it.
    int number() const noexcept { return file_.get(); }
    // COMMIT. `parent`: the process that has started this one, or 0. ok; exists: something has the
    // name, and not only the dead.
    Status publish(const std::string& name, u32 parent, std::shared_ptr<Segment>& out,
                   Failure& why);
    // Gives it up, if it has no name yet.
    void discard() noexcept;

  private:
    Status open(u32 mode, Failure& why);
    Status reserve(u64 bytes, Failure& why, WaitPolicy& p);
    std::string directory_;
    Fd folder_;
    std::unique_ptr<storage::NewFile> new_;
    PoolFd file_;
};

// ok; no_entry: there is none, or it was stale, and is removed; corrupt: it is something else, and
// `why.what` says what; bad_argument: it has no size yet; not_allowed; system_error; interrupted.
Status attach_segment(const std::string& directory, const std::string& name,
                      std::shared_ptr<Segment>& out, Failure& why, WaitPolicy& p);

// Looks at all names, and removes what is stale. False: there is no such directory (errno).
bool sweep_segments(const std::string& directory, bool remove, std::vector<SegmentInfo>& out);

// What `owner_of_new` finds, before a fork: the child cannot find out any more.
void note_owner(u32 parent) noexcept;

// From now on `release_segments` also looks for segments that this process owns without holding
// them, as those that its children made.
void keep_segments() noexcept;
// For a process that is about to end: releases all segments, and removes the names of those that
// nobody holds any more, and that this process owns or whose owner has ended. Without a descriptor,
// or a /proc, to find that out, the name stays, and the next process that uses segments
// removes it. In one step: a thread that goes on attaching waits, and then there is no such name.
void release_segments(const char* directory = kSegmentDirectory) noexcept;

}  // namespace onecopy
