// Writing 100 MB of new memory through the mapping is 25000 page faults, each of which also clears
// a page that is then overwritten: four times the work of the copy itself. So there are
// three kinds of pages:
//
//|  nobody has written them    pwrite, which neither clears nor maps
//|  a process has              mapped ahead, which takes a sixteenth of the faults, then copied
//|  mapped by us before        copied. No system call asks for its state: the call would cost time
//|                             each time that the memory is used again
//
// What was written by pwrite is of the second kind, for its writer too. What is
// noted as mapped may not be any more (its memory was given back, or it was mapped for a part
// only): then there are faults, and nothing else.
#include "segment/fill.hpp"

#include <algorithm>

namespace onecopy {
namespace {

constexpr u64 kPiece = kMiB;  // what is decided by a look at one page of it

class Filling {
  public:
    explicit Filling(Member& m) noexcept : m_(m) {}

    // One piece at most.
    void copy(unsigned char* to, const unsigned char* from, u64 bytes) noexcept {
        u64 done = 0;
        if (!m_.mapped.has(m_.offset_of(to), bytes)) {
            // Nothing is written through a descriptor that was lost: the mapping outlives it.
            if (!os::is_written(to + bytes / 2) && may_write_)
                done = m_.file.write_at(m_.offset_of(to), from, bytes);
            if (done < bytes) {
                os::map_ahead(to + done, bytes - done);
                m_.mapped.add(m_.offset_of(to + done), bytes - done);
            }
        }
        std::memcpy(to + done, from + done, bytes - done);
    }

  private:
    Member& m_;
    const bool may_write_ = os::files_may_grow();
};

}  // namespace

void fill(Member& m, unsigned char* to, const unsigned char* from, u64 bytes) noexcept {
    if (bytes < kLargeCopy || !m.file.identity().in_memory ||
        m.mapped.has(m.offset_of(to), bytes)) {
        copy_in(to, from, bytes);
        return;
    }
    Filling filling(m);
    for (u64 at = 0; at < bytes;) {
        u64 piece = std::min(bytes - at, kPiece - m.offset_of(to + at) % kPiece);
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
        if (at == 0) piece = std::min(piece, bytes / 2);  // a death halfway is tried in any case
#endif
        filling.copy(to + at, from + at, piece);
        crash_point();
        at += piece;
    }
}

}  // namespace onecopy
