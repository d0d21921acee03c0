// The body of frames in shared memory, for the files of this folder. Drawn in frames.hpp.
#pragma once
#include "frames/frames.hpp"

namespace onecopy {

struct Frames::Body {
    static constexpr u64 kMagic = 0x31'65'6d'61'72'66'63'6fULL;  // "ocframe1"
    static constexpr u64 kCellsOffset = 1024;
    // line 0: fixed
    shm_atomic<u64> magic;
    shm_atomic<u64> frame_bytes;
    shm_atomic<u32> count;
    shm_atomic<u32> meta_length;
    // line 1
    alignas(64) LockWord lock;
    // line 2
    alignas(64) unsigned char meta[kFrameMetaBytes];
    ONECOPY_SHARED_STRUCT(Body, magic, frame_bytes, count, meta_length, lock, meta)
};

// Entries below this exist.
inline u32 table_top(Member& m) noexcept {
    const u32 top = m.header().blocks_top.load_relaxed();
    return top <= m.geo().max_blocks ? top : 0;
}

inline shm_atomic<u64>& Frames::cell(u32 i) const noexcept {
    return reinterpret_cast<shm_atomic<u64>*>(reinterpret_cast<unsigned char*>(b_) +
                                              Body::kCellsOffset)[i];
}

}  // namespace onecopy
