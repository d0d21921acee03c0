// Touching 100 MB of tmpfs for the first time is 25000 page faults, which take five times as long as the copy itself. Three kinds of pages are told apart:
//
//   nobody has written it   pwrite: the kernel neither clears what it then overwrites, nor maps it
//   somebody has            mapped ahead, sixteen pages at a time, then copied
//   mapped here already     copied
//
// What pwrite wrote is mapped when it is written again (or read, which takes few faults), so memory that goes round is soon of the third kind.
#include "segment/fill.hpp"

#include <algorithm>

namespace onecopy {
namespace {

constexpr u64 kPiece = kMiB;           // what is decided by a look at one page of it
constexpr u64 kSample = 64 * kKiB;     // copied to see how many faults it takes
constexpr u64 kPage = 4096;            // of tmpfs; where pages are larger, faults are fewer
constexpr u64 kFewFaults = kSample / kPage / 2;

// Within one piece.
void fill_piece(unsigned char* to, const unsigned char* from, u64 bytes, const Member& m, bool by_file) noexcept {
    u64 done = 0;
    if (by_file && !os::is_written(to + bytes / 2)) done = os::write_at(m.fd, m.offset_of(to), from, bytes);
    if (bytes - done > 2 * kSample) {
        const u64 before = os::faults();
        std::memcpy(to + done, from + done, kSample);
        done += kSample;
        // Also those of the source count: mapping ahead what is mapped costs little.
        if (os::faults() - before > kFewFaults) os::map_ahead(to + done, bytes - done);
    }
    std::memcpy(to + done, from + done, bytes - done);
    crash_point();
}

}  // namespace

void fill(Member& m, unsigned char* to, const unsigned char* from, u64 bytes) noexcept {
    if (bytes < kLargeCopy || !m.file.in_memory) {
        copy_in(to, from, bytes);
        return;
    }
    // The mapping outlives a descriptor that somebody has closed by its number, which may be another file's by now.
    const bool by_file = os::is_same_file(m.fd, m.file) && os::files_may_grow();
    for (u64 at = 0; at < bytes;) {
        u64 piece = std::min(bytes - at, kPiece - m.offset_of(to + at) % kPiece);
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
        if (at == 0) piece = std::min(piece, bytes / 2);  // a death halfway is tried in any case
#endif
        fill_piece(to + at, from + at, piece, m, by_file);
        at += piece;
    }
}

}  // namespace onecopy
