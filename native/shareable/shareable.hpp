// A list of fixed length in a shared-memory segment of its own. Each item is replaced on its own. A
// reader gets a complete item, or none.
//
//|  0    magic             the list is finished
//|  8    version
//|  16   count
//|  24   bytes             of all that follows; count and the rooms determine it
//|  64   Entry[count]      32 bytes each: state, claim, where, spare
//|  ...  buffers           A and B of each item, `room` bytes each, in the order of the items
//|
//|  state   length:24 | kind:4 | active:1 | sequence:35
//|          all that a reader needs; the sequence changes with every change of the item
//|  claim   pid:22 | start:24 | namespace:18
//|          the process that is writing the item; 0: no process
//|  where   offset/8:40 | room/8:24
//|          the place of A; B is `room` bytes further. Fixed, as are count and bytes
//
// A writer claims the item, fills the buffer that is not active, publishes it by one store of the
// state, and releases the claim. If it dies:
//
//|  before the claim, or after the release    nothing to do
//|  after the claim, or halfway through       the old item stays valid. The next writer takes the
//|  the buffer                                claim over, and fills the same buffer again
//|  after the store of the state, before      the new item is valid. The next writer takes the
//|  the release                               claim over
//
// COMMIT of a set: state := new [shareable.state]. A reader takes no lock. It reads the state,
// copies the buffer, and reads the state again. If the state is the same, the copy is complete,
// because the active buffer is written only after another state was published. A reader whose copy
// fails again and again takes the claim.
//
// A claim names a process. One thread of a process has it at a time (in Python the GIL ensures
// that); a second thread waits like a thread of another process.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/bits.hpp"
#include "base/shm_atomic.hpp"
#include "base/status.hpp"
#include "layout/shared_struct.hpp"
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
    // The longest wait for a claim of a process that cannot be seen from here.
    static constexpr std::int64_t kForeignWait = 5'000'000'000;

    // The bytes that a list of n items needs; `data` is twice the sum of all rooms. 0: too many.
    static u64 bytes_for(u64 n, u64 data) noexcept;
    // The room of an item, a multiple of 8. It depends on the number of characters of a text, as in
    // the standard library, so that the same assignments fit. It is at least the number of bytes.
    static constexpr u64 room_for(u64 characters, u64 bytes) noexcept {
        const u64 usual = characters / 8 * 8 + 8, needed = round_up(bytes, 8);
        return usual > needed ? usual : needed;
    }

    // Makes an empty list in zeroed memory that no other process can reach yet; `next_room()` is
    // called n times. After that, `write` sets the items, and `finish` stores the magic. False: the
    // rooms do not fit into `length`.
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

    // bad_argument: not a list; bad_version; corrupt: the length is not the one in the head.
    static Status open(unsigned char* base, u64 length, ShareableList& out) noexcept;

    u64 size() const noexcept { return count_; }
    // Bytes that an item can have. 0: the stored value is impossible.
    u64 room(u64 i) const noexcept;

    struct Item {
        ItemKind kind = ItemKind::none_yet;
        std::uint32_t length = 0;
    };
    // Copies the item's bytes to `to`, which has room(i) bytes. ok; corrupt; and, only if other
    // writers change the item again and again, the results of `write`.
    Status read(u64 i, void* to, u64 to_bytes, Item& out, WaitPolicy& p) const noexcept;
    // The kind of the item, without its bytes. corrupt.
    Status look(u64 i, Item& out) const noexcept;
    // ok; too_large: more than its room; corrupt; interrupted; timed_out: a process that cannot be
    // seen from here has the claim (`holder`).
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
        ONECOPY_SHARED_STRUCT(Head, magic, version, count, bytes, spare)
    };
    struct Entry {
        shm_atomic<u64> state, claim, where, spare;
        ONECOPY_SHARED_STRUCT(Entry, state, claim, where, spare)
    };
    static_assert(sizeof(Head) == 64 && sizeof(Entry) == 32);
    // NUL "oclist1", little endian: as a count of items it is impossible.
    static constexpr u64 kMagic = 0x31'74'73'69'6c'63'6f'00ULL;
    static constexpr u64 kVersion = 1;
    // Of version 1. A segment has no layout hash: the version says it (shareable.cpp compares).
    static constexpr u64 kLayout = 13502921826615482503ULL;
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
