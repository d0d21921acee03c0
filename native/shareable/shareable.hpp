// A list of fixed length in a shared memory segment of its own: items are replaced one by one, and
// read whole or not at all.
//
//   0    magic             the list is finished
//   8    version
//   16   count
//   24   bytes             of all that follows from count and rooms
//   64   Entry[count]      32 bytes each: state, claim, where, spare
//   ...  buffers           A and B of each item, `room` bytes each, one behind the other
//
//   state   length:24 | kind:4 | active:1 | sequence:35     all that a reader must know; the
//   sequence moves with every change claim   pid:22 | start:24 | namespace:18                who is
//   writing the item; 0: nobody where   offset/8:40 | room/8:24                         of A; B is
//   `room` bytes further. Fixed, as are count and bytes
//
// A writer claims the item, fills the buffer that is not active, publishes it by one store of the
// state, and gives the claim back:
//
//   died before the claim, after giving it back    nothing to do
//   claimed, or halfway through the buffer         the old item stands; the next writer takes the
//   claim over and fills the same buffer anew published, but the claim not given back        the
//   new item stands; the next writer takes the claim over
//
// COMMIT of a set: state := new [shareable.state]. A reader takes no lock: state, copy, state
// again; what it copied is whole if the state is the same, because the active buffer is written
// only after another state was published. One that is overtaken again and again takes the claim
// instead.
//
// Claims name processes: of one process, one thread at a time (in Python the GIL sees to that); a
// second one waits like another process's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/bits.hpp"
#include "base/shm_atomic.hpp"
#include "base/status.hpp"
#include "sync/wait_policy.hpp"

namespace onecopy {

enum class ItemKind : std::uint8_t {
    none_yet = 0,
    integer = 1,
    real = 2,
    boolean = 3,
    text = 4,
    bytes = 5,
    null = 6
};

class ShareableList {
  public:
    using u64 = std::uint64_t;
    static constexpr u64 kMostRoom = 10'000'000;  // bytes of one item
    // For a claim of a process that cannot be seen from here.
    static constexpr std::int64_t kForeignWait = 5'000'000'000;

    // What a list of n items needs; `data` is twice the sum of all rooms. 0: more than can be.
    static u64 bytes_for(u64 n, u64 data) noexcept;
    // What an item gets, a multiple of 8: by the characters of a text as in the standard library,
    // so that the same assignments fit, but at least its bytes.
    static constexpr u64 room_for(u64 characters, u64 bytes) noexcept {
        const u64 usual = characters / 8 * 8 + 8, needed = round_up(bytes, 8);
        return usual > needed ? usual : needed;
    }

    // Lays an empty list out in zeroed memory that nobody else can reach yet: `next_room()` is
    // called n times. The items are set by `write`, and `finish` makes it a list. False: the rooms
    // do not fit `length`.
    template <class NextRoom>
    static bool format(unsigned char* base, u64 length, u64 n, NextRoom next_room) noexcept {
        if (length < bytes_for(n, 0)) return false;
        u64 at = bytes_for(n, 0);
        for (u64 i = 0; i < n; ++i) {
            const u64 room = next_room();
            if (room == 0 || room % 8 != 0 || room > kMostRoom || length - at < 2 * room)
                return false;
            place(base, i, at, room);
            at += 2 * room;
        }
        return head(base, n, at), true;
    }
    static void finish(unsigned char* base) noexcept;

    // bad_argument: no list; bad_version; corrupt: not as long as it says.
    static Status open(unsigned char* base, u64 length, ShareableList& out) noexcept;

    u64 size() const noexcept { return count_; }
    // Bytes that an item can have. 0: what stands there is impossible.
    u64 room(u64 i) const noexcept;

    struct Item {
        ItemKind kind = ItemKind::none_yet;
        std::uint32_t length = 0;
    };
    // The item's bytes to `to`, which has room(i) of them. ok; corrupt; and, only if others keep
    // overtaking it, what `write` answers.
    Status read(u64 i, void* to, u64 to_bytes, Item& out, WaitPolicy& p) const noexcept;
    // What it is, without its bytes. corrupt.
    Status look(u64 i, Item& out) const noexcept;
    // ok; too_large: more than its room; corrupt; interrupted; timed_out: a process that cannot be
    // seen from here has it (`holder`).
    Status write(u64 i, ItemKind kind, const void* from, u64 length, WaitPolicy& p) const noexcept;
    static std::uint32_t holder(u64 claim) noexcept {
        return static_cast<std::uint32_t>(claim & kPidMask);
    }
    u64 claim_of(u64 i) const noexcept { return entry(i).claim.load_relaxed(); }

    static u64 own_claim() noexcept;  // this process's mark

  private:
    struct Head {
        shm_atomic<u64> magic, version, count, bytes;
        u64 spare[4];
    };
    struct Entry {
        shm_atomic<u64> state, claim, where, spare;
    };
    static_assert(sizeof(Head) == 64 && sizeof(Entry) == 32);
    // NUL "oclist1", little endian: as a count of items it is impossible.
    static constexpr u64 kMagic = 0x31'74'73'69'6c'63'6f'00ULL;
    static constexpr u64 kVersion = 1;
    static constexpr u64 kPidMask = (u64{1} << 22) - 1;

    struct Place {
        u64 offset, room;  // room 0: impossible
    };
    struct Word;

    Entry& entry(u64 i) const noexcept { return reinterpret_cast<Entry*>(base_ + sizeof(Head))[i]; }
    Place place_of(u64 i) const noexcept;
    Status claim(Entry& e, WaitPolicy& p) const noexcept;
    bool copy(u64 word, const Place& at, void* to, Item& out) const noexcept;
    static void place(unsigned char* base, u64 i, u64 at, u64 room) noexcept;
    static void head(unsigned char* base, u64 n, u64 bytes) noexcept;

    unsigned char* base_ = nullptr;
    u64 length_ = 0, count_ = 0;
};

}  // namespace onecopy
