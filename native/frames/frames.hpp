// A set of equal blocks, the frames, which a body refers to. A frame is free if it has no holder
// bit and only the body refers to it; no other store says so.
//
//|  Body (a block of kind frames):
//|    0    line 0  magic, frame bytes, count, meta length           fixed
//|    64   line 1  lock
//|    128  meta    up to kFrameMetaBytes: what a frame is (dtype, shape), encoded by the binding
//|    1024 cells   u64[count]: reference cells to the frames. Only the index in a cell counts:
//|                 to acquire a frame gives it a new generation.
//
// COMMIT of acquire: word := LIVE(gen+1).
#pragma once
#include <string>
#include <vector>

#include "body/observed.hpp"

namespace onecopy {

constexpr u32 kFrameMetaBytes = 896;  // the encoded dtype of a structured array is a pickle

// How many frames a process has. slot kNoSlot: how many no process has, because a message, an item
// of a container or a name refers to them.
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
    // A frame under a new generation, held once for the caller. timed_out or would_block: none is
    // free. While it waits, it looks for dead holders.
    Status acquire(WaitPolicy& p, Handle& out) noexcept;
    // Waits until one is free, and does not take it.
    Status wait_ready(WaitPolicy& p) noexcept;
    u32 count() const noexcept;
    u32 available() const noexcept;
    // The processes that hold the frames that are not free, the one with the most first. It is
    // shown to people: it takes no lock, and looks at the first `kMostLookedAt` frames.
    static constexpr u32 kMostLookedAt = 1024;
    std::vector<FrameHolder> holders() const;
    u64 frame_bytes() const noexcept;
    const unsigned char* meta() const noexcept;
    u32 meta_length() const noexcept;
    static std::vector<std::string> validate(Member& m, u32 index);
    static void observe(Member& m, u32 index, Observed& out);
    static void repair(Member& m, u32 index, WaitPolicy& p) noexcept;
    static u64 layout() noexcept;

  private:
    struct Body;
    shm_atomic<u64>& cell(u32 i) const noexcept;
    bool any_free() const noexcept;
    Status try_acquire(WaitPolicy& p, Handle& out) noexcept;
    void repair_frames() noexcept;
    Member* m_ = nullptr;
    Body* b_ = nullptr;
    u32 index_ = 0;
    u32 count_ = 0;
    u32 meta_length_ = 0;
    u64 frame_bytes_ = 0;
};

}  // namespace onecopy
