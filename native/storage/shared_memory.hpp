// Shared-memory segments: files of /dev/shm with exactly the size that was asked for, as in POSIX
// shared memory. docs/design/0016-storage.md has the states, and a death at every step.
//
// onecopy stores its data about a segment outside of the contents:
//
//|  mode      0600: made by the standard library or another program, and never removed here.
//|            01600 (the sticky bit means nothing else for a file): made by onecopy; it is removed
//|            when it is stale. 01700: made by onecopy; it stays until a process unlinks it.
//|  lock      each holder has kSegmentHoldByte locked, shared. The lock belongs to the open file
//|            description. The kernel drops it with the last descriptor of the holder, so also
//|            after kill -9. A forked child shares it with its parent.
//|  owner     a segment without holders is stale after the end of this process (owner.hpp)
//
// A segment is stale when no process holds it and its owner is dead. Only stale segments are
// removed: by a sweep, by a process that attaches, by the last holder, or by the owner when it
// ends.
//
// Why two processes never disagree:
//
//   * A file gets its name when it is complete, marked, owned and locked.
//   * Only a process that found the owner dead and got the *exclusive* lock removes a stale name:
//     no process holds the segment then, and an attaching process cannot take the shared lock
//     before the remover has released its lock. No process takes that lock for another purpose.
//   * A process that attaches takes the shared lock, and then checks whether the file still has its
//     name. If not, a sweep removed it in between, and the search starts over.
//   * No process unlocks: it closes descriptors. An unlock would also unlock related processes that
//     share the description. Memory is mapped through a separate description.
//   * `unlink` removes the name only while the name leads to this file. During that it has
//     kSegmentUnlinkByte locked exclusively: removers of one file exclude each other, and without a
//     remover the name does not change. (This does not cover programs that call shm_unlink.)
//
// Threads may call all functions here; steps of one process exclude each other.
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

// none: not a segment of this user that onecopy made, or it does not exist any more.
enum class SegmentState { none, in_use, kept, removed, stale, persistent, failed };

struct SegmentInfo {
    std::string name;
    SegmentState state;
    u64 size;
};

// A segment that this process holds. It is held until `release` or `unlink`, or until the process
// ends, also if nothing refers to this object any more. A forked child holds it too. A caller has a
// shared_ptr to it.
class Segment {
  public:
    Segment(std::string directory, std::string name, os::SharedFile file,
            const os::FileStatus& status) noexcept;
    const std::string& name() const noexcept { return name_; }
    u64 size() const noexcept { return size_; }
    bool made_here() const noexcept { return (mode_ & kSegmentMadeHere) != 0; }
    bool persistent() const noexcept { return (mode_ & kSegmentStays) != 0; }
    const os::FileIdentity& identity() const noexcept { return file_.identity(); }
    int number() const noexcept { return file_.number(); }  // -1: it was released
    // False: code of this process closed the descriptor, so this process does not count as a
    // holder.
    bool is_ours() const noexcept { return file_.is_ours(); }
    // Whether processes can still attach to it.
    bool has_name() const noexcept;

    // COMMIT: the name is removed for all processes; mappings stay valid. The segment is released.
    // ok; no_entry: it has no name any more, and a new segment of the same name is not removed;
    // system_error (EBUSY: another process was stopped while it unlinked it); interrupted.
    Status unlink(Failure& why, WaitPolicy& p);
    // Releases it. If that makes it stale, its name is removed. Idempotent.
    void release() noexcept;
    // Releases it if no process can attach to it any more. Returns whether it is released.
    bool release_unnamed() noexcept;
    // Makes this process the owner, instead of the top of its tree. ok; lost; system_error.
    Status take_over(Failure& why) noexcept;

  private:
    friend class NewSegment;
    friend void release_segments(const char* directory) noexcept;
    bool still_named(int directory) const noexcept;
    Status try_unlink(Failure& why);
    void close() noexcept;
    std::string directory_, name_;
    os::SharedFile file_;
    u64 size_;
    u32 mode_;
};

// A segment that is being made. A forked child does not have it.
class NewSegment {
  public:
    // ok; no_memory, out_of_memory, not_allowed, system_error, interrupted. Its memory is zero and
    // reserved. It is not reserved beyond the limit of the control group: the kernel would kill.
    Status make(const std::string& directory, u64 bytes, bool persistent, Failure& why,
                WaitPolicy& p);
    // To map and fill it, before another process can attach. -1: it has its name, or this is a
    // forked child.
    int number() const noexcept { return file_.get(); }
    // COMMIT. `parent`: the process that has started this one, or 0. ok; exists: another file has
    // the name, and it is not stale.
    Status publish(const std::string& name, u32 parent, std::shared_ptr<Segment>& out,
                   Failure& why);
    // Drops it if it has no name yet.
    void discard() noexcept;

  private:
    Status open(u32 mode, Failure& why);
    Status reserve(u64 bytes, Failure& why, WaitPolicy& p);
    std::string directory_;
    Fd folder_;
    std::unique_ptr<storage::NewFile> new_;
    PoolFd file_;
};

// ok; no_entry: there is no segment, or it was stale and is removed now; corrupt: it is another
// kind of file, and `why.what` names the kind; bad_argument: it has no size yet; not_allowed;
// system_error; interrupted.
Status attach_segment(const std::string& directory, const std::string& name,
                      std::shared_ptr<Segment>& out, Failure& why, WaitPolicy& p);

// Checks all names, and removes stale segments. False: there is no such directory (errno).
bool sweep_segments(const std::string& directory, bool remove, std::vector<SegmentInfo>& out);

// The result of `owner_of_new`, before a fork: the child cannot find it out any more.
void note_owner(u32 parent) noexcept;

// After this call, `release_segments` also looks for segments that this process owns and does not
// hold, for example those that its children made.
void keep_segments() noexcept;
// For a process that is about to end: releases all segments. It removes the name of each segment
// that no process holds any more, if this process owns it or its owner has ended. If there is no
// free descriptor or no /proc to find that out, the name stays, and the next process that uses
// segments removes it. All is one step: a thread that attaches in the meantime waits, and then
// finds no name.
void release_segments(const char* directory = kSegmentDirectory) noexcept;

}  // namespace onecopy
