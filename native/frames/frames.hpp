// A pool of equal blocks with a home. Free is derived: no holder bit, and only the home refers to
// it.
//
// Body (a block of kind frames):
//   0    line 0  magic, count, frame bytes, meta length           fixed
//   64   line 1  lock
//   128  meta    up to kFrameMetaBytes: what a frame is (dtype, shape), encoded by the binding
//   1024 cells   u64[count]: reference cells to the frames. Only the index part counts: acquiring
//   gives the block a new generation.
//
// COMMIT of acquire: word := LIVE(gen+1).
#pragma once
#include <string>
#include <vector>

#include "heap/heap.hpp"

namespace onecopy {

constexpr u32 kFrameMetaBytes = 896;  // a structured dtype is a pickle

// The frames that a process has, or (slot: kNoSlot) that no process has: a message, an
// item of a container or a name refers to them.
struct FrameHolder {
    u32 slot, pid;
    bool alive;
    u32 frames;
};

class Frames {
  public:
    static Status create(Member& m, u32 count, u64 frame_bytes, const void* meta, u32 meta_len,
                         WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, Frames& out) noexcept;
    // A frame, held once for the caller, under a new generation. timed_out/would_block: all are
    // out. Looks for dead holders while it waits.
    Status acquire(WaitPolicy& p, Handle& out) noexcept;
    u32 count() const noexcept;
    u32 available() const noexcept;
    // Who has those that are out, the one with the most first. A look for people: it takes no lock,
    // and looks at the first `kMostLookedAt` frames.
    static constexpr u32 kMostLookedAt = 1024;
    std::vector<FrameHolder> holders() const;
    u64 frame_bytes() const noexcept;
    const unsigned char* meta() const noexcept;
    u32 meta_length() const noexcept;
    static std::vector<std::string> validate(Member& m, u32 index);

  private:
    struct Body;
    Status usable() const noexcept;
    shm_atomic<u64>& cell(u32 i) const noexcept;
    bool any_free() const noexcept;
    Status try_acquire(WaitPolicy& p, Handle& out) noexcept;
    void repair() noexcept;
    Member* m_ = nullptr;
    Body* b_ = nullptr;
    u32 index_ = 0;
    u32 count_ = 0;
    u32 meta_length_ = 0;
    u64 frame_bytes_ = 0;
};

}  // namespace onecopy
