// The map of a pool. Every struct at a fixed place in shared memory is here, with its
// size asserted.
//
//|  0           Header        4 KiB
//|  rows_off    Row[P]        512 B each      P = max_processes
//|  heads_off   HeapIndex     2.7 KiB         derived: free lists
//|  buckets_off u32[B]        64 KiB          derived: hash chains of the names
//|  extents_off u64[]         1 bit per 2 MiB of heap: has memory or not
//|  names_off   NameEntry[N]  256 B each      reserved up to header.names_reserved
//|  blocks_off  Block[M]      128 B each      reserved up to header.blocks_reserved
//|  heap_off    bytes         capacity        reserved where the extents say so
//
// docs/design/0001-the-heart.md says which process may write what, and which store commits. The
// note has the same map; tests/structure/test_native_layout.py compares both.
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/bits.hpp"
#include "base/shm_atomic.hpp"
#include "layout/shared_struct.hpp"

namespace onecopy {

using u8 = std::uint8_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using Handle = u64;  // generation:32 | index:32; 0 is null (generations start at 1)

constexpr u64 kMagic = 0x31'79'70'6f'63'65'6e'6fULL;  // "onecopy1", little endian
constexpr u32 kVersion = 6;
// Of the bytes by which containers travel (bindings/codec_packed.hpp). A part of the layout hash:
// builds that differ in it refuse each other's pools.
constexpr u8 kPackedVersion = 2;
// Of the structs and tags of all messages; bindings/message_layout.cpp compares it with them.
constexpr u64 kMessageLayout = 7490859608709571110ULL;
constexpr u32 kMaxProcesses = 512;
constexpr u32 kHolderWords = kMaxProcesses / 64;
constexpr u32 kNoSlot = 0xffff;
constexpr u64 kUnit = 64;          // payload alignment and heap granularity
constexpr u64 kExtent = 2 * kMiB;  // memory is given back in pieces of this size
constexpr u32 kNil = 0xffffffff;
constexpr u32 kNameBytes = 200;
constexpr u64 kHeaderBytes = 4096;
// So no sum in `geometry` overflows, and no offset in the file comes near the lock bytes.
constexpr u64 kMaxCapacity = u64{1} << 46;

// Byte of slot i: kSlotByte + i; its lock says that the member lives
constexpr u64 kSlotByte = u64{1} << 62;
// Every member has a shared lock on it. A process that gets an exclusive one knows that it is
// alone.
constexpr u64 kMemberByte = kSlotByte - 1;

constexpr Handle make_handle(u32 gen, u32 index) noexcept {
    return u64{gen} << 32 | index;
}
constexpr u32 handle_gen(Handle h) noexcept {
    return static_cast<u32>(h >> 32);
}
constexpr u32 handle_index(Handle h) noexcept {
    return static_cast<u32>(h);
}

// ---- lock word and event count (sync/) ----------------------------------------------------------
struct LockWord {
    shm_atomic<u32> word;
    ONECOPY_SHARED_STRUCT(LockWord, word)
};  // waiters:1 | generation:20 | slot+1:11; 0 is free
struct EventCount {
    shm_atomic<u32> word;
    ONECOPY_SHARED_STRUCT(EventCount, word)
};  // sequence:31 | sleepers:1

// ---- block (heap/) ------------------------------------------------------------------------------
enum class BlockState : u8 { unused = 0, span = 1, live = 2, tentative = 3, freeing = 4 };
// tentative: the process of that slot is finding out whether the block can be freed; any process
// may set it back to live. freeing: that is decided, and never taken back.
enum BlockFlags : u8 {
    kFlagEnvelope = 1,  // starts with an encoded object: a Ref or a name may point at it
    kFlagShared = 2,    // writable by everyone (shared_array)
    kFlagBody = 4,      // the body of a structure; not counted as user memory
};
enum class BodyKind : u8 {
    none = 0,
    queue = 1,
    queue_chunk = 2,
    stream = 3,
    frames = 4,
    mutex = 5,
    rwlock = 6,
    semaphore = 7,
    event = 8,
    condition = 9,
    barrier = 10,
    condition_places = 11,
    list = 16,
    dict = 17,
    list_table = 18,
    dict_table = 19,
    list_order = 20,
    dict_buckets = 21,
    list_chunk = 22,
    dict_chunk = 23,
    dict_key = 24
};

// word: generation:32 | state:8 | slot:16 | flags:8
struct BlockWord {
    u64 raw;
    static constexpr BlockWord make(u32 gen, BlockState s, u32 slot, u8 flags) noexcept {
        return {u64{gen} << 32 | u64{static_cast<u8>(s)} << 24 | u64{slot & 0xffff} << 8 | flags};
    }
    constexpr u32 gen() const noexcept { return static_cast<u32>(raw >> 32); }
    constexpr BlockState state() const noexcept {
        return static_cast<BlockState>(raw >> 24 & 0xff);
    }
    constexpr u32 slot() const noexcept { return static_cast<u32>(raw >> 8 & 0xffff); }
    constexpr u8 flags() const noexcept { return static_cast<u8>(raw & 0xff); }
};

// refs: count:20 | slot:10 | tag:34, tag = op*4 + step of the slot's row
struct RefsWord {
    u64 raw;
    static constexpr u64 kTagMask = (u64{1} << 34) - 1;
    static constexpr RefsWord make(u64 count, u64 slot, u64 tag) noexcept {
        return {count << 44 | slot << 34 | (tag & kTagMask)};
    }
    constexpr u32 count() const noexcept { return static_cast<u32>(raw >> 44); }
    constexpr u32 slot() const noexcept { return static_cast<u32>(raw >> 34 & 0x3ff); }
    constexpr u64 tag() const noexcept { return raw & kTagMask; }
};
constexpr u32 kMaxRefs = (1u << 20) - 1;

struct Block {
    // line 0: written by holders
    shm_atomic<u64> word;
    shm_atomic<u64> refs;
    shm_atomic<u64> holders[kHolderWords - 2];  // the first words; the last two are in line 1
    // line 1
    shm_atomic<u64> holders_tail[2];
    shm_atomic<u64> offset;        // bytes from heap_off; truth while live or freeing
    shm_atomic<u64> size;          // bytes, a multiple of kUnit; truth while live or freeing
    shm_atomic<u32> slack;         // bytes asked for = size - slack
    shm_atomic<u32> cells_offset;  // first reference cell, in bytes from the start of the payload
    shm_atomic<u32> cells_stride;
    shm_atomic<u32> cells_count;  // 0: refers to nothing. Stored last.
    // Derived: previous and next neighbour, previous and next in the free list. While live: [2] is
    // the home (kNil: none), [3] the kind.
    shm_atomic<u32> links[4];

    shm_atomic<u64>& holder_word(u32 w) noexcept {
        return w < kHolderWords - 2 ? holders[w] : holders_tail[w - (kHolderWords - 2)];
    }
    ONECOPY_SHARED_STRUCT(Block, word, refs, holders, holders_tail, offset, size, slack,
                          cells_offset, cells_stride, cells_count, links)
};
static_assert(sizeof(Block) == 128);
enum BlockLink : u32 {
    kPrevNeighbour = 0,
    kNextNeighbour = 1,
    kPrevFree = 2,
    kNextFree = 3,
    kHome = 2,
    kKind = 3
};

// ---- row: a member's slot (segment/) ------------------------------------------------------------
// What a thread waits for. The subject of the wait is in brackets.
enum class WaitPurpose : u8 {
    none = 0,
    lock = 1,         // a lock word [the word]: a user's lock, or the inner lock of a structure
    get = 2,          // [queue]
    put = 3,          // [queue]
    join = 4,         // all that was put is done [queue]
    read = 5,         // [stream]
    publish = 6,      // the slowest reader of a lossless stream [stream]
    frame = 7,        // [frames]
    read_lock = 8,    // [rwlock]
    drain = 9,        // the readers of a lock that this thread wants to write under [rwlock]
    semaphore = 10,   // [semaphore]
    event = 11,       // [event]
    condition = 12,   // [condition]
    barrier = 13,     // [barrier]
    memory = 14,      // memory in a full pool [`memory_freed` of the header]
    read_or_end = 15  // a message, which this thread does not take [queue]
};
constexpr u32 kWaitPurposes = 15;

// A thread that waits. It is written before the first sleep of a wait, and emptied after the wait,
// by threads of the process of the row only. Nobody acts on it: it is shown to people.
//
//|  who     since:42 | thread:22     0: the place is empty. since: CLOCK_MONOTONIC in units of
//|                                   2^20 ns; thread: the kernel's number of the thread
//|  what    purpose:8 | subject:56   segment offset of the subject
//
// `what` is written first, while `who` is 0. So a reader that finds the same `who` before and after
// it has read `what` has a pair that was true. What a dead process leaves is void with its row, and
// the next owner of the row empties it.
struct WaitRecord {
    shm_atomic<u64> who;
    shm_atomic<u64> what;
    ONECOPY_SHARED_STRUCT(WaitRecord, who, what)
};
constexpr u32 kWaitThreadBits = 22;  // the largest pid of Linux
constexpr u32 kWaitTimeShift = 20;
constexpr u32 kWaitSubjectBits = 56;
constexpr u32 kWaitRecords = 20;  // further threads of a process wait without a record

enum class RowState : u32 { free = 0, live = 1, embryo = 2, reaping = 3 };
enum class IntentKind : u32 { none = 0, plain = 1, put = 2, take = 3, undo = 4 };

struct Row {
    shm_atomic<u32> state;
    shm_atomic<u32> gen;  // lock words contain 20 bits of it
    shm_atomic<u32> pid;
    shm_atomic<u32> parent_pid;
    shm_atomic<u64> start_ticks;
    shm_atomic<u64> pid_namespace;
    shm_atomic<u64> born_ns;  // CLOCK_REALTIME
    char pad0[24];
    // line 1: reference operations
    shm_atomic<u64> op;      // running number; continues when the slot gets another owner
    shm_atomic<u32> intent;  // IntentKind: the store of it arms the record
    shm_atomic<u32> unused;
    shm_atomic<u64> intent_cell;  // segment offset of the cell
    shm_atomic<u64> intent_old;
    shm_atomic<u64> intent_new;
    shm_atomic<u64> intent_mark;  // segment offset of the tail or head (put, take)
    shm_atomic<u64> intent_position;
    // Recovery. For people: how often this slot was cleaned after a death.
    shm_atomic<u64> swept;
    // line 2: written by other processes
    shm_atomic<u64> ack;
    char pad2[56];
    // line 3 and on: threads that wait
    WaitRecord waits[kWaitRecords];
    ONECOPY_SHARED_STRUCT(Row, state, gen, pid, parent_pid, start_ticks, pid_namespace, born_ns,
                          pad0, op, intent, unused, intent_cell, intent_old, intent_new,
                          intent_mark, intent_position, swept, ack, pad2, waits)
};
static_assert(sizeof(Row) == 512);

// ---- directory ----------------------------------------------------------------------------------
enum class NameKind : u8 {
    object = 1,
    queue = 2,
    stream = 3,
    frames = 4,
    array = 5,
    lock = 6,
    rlock = 7,
    rwlock = 8,
    semaphore = 9,
    bounded_semaphore = 10,
    event = 11,
    condition = 12,
    barrier = 13,
    value = 14,
    // Behind `value`, because names are deleted in this order. If a value lost its lock first, its
    // next user would get another lock than the users that have it.
    value_lock = 15,
    list = 16,
    dict = 17,
};
constexpr u32 kNameKinds = 17;

struct NameEntry {
    shm_atomic<u64> value;    // reference cell; null: the entry is free
    shm_atomic<u64> hash;     // of kind and name
    shm_atomic<u64> ordinal;  // insertion order
    shm_atomic<u32> next;     // derived: hash chain, or list of free entries
    shm_atomic<u8> kind;
    shm_atomic<u8> name_len;
    char pad[2];
    char name[kNameBytes];
    char tail[24];
    ONECOPY_SHARED_STRUCT(NameEntry, value, hash, ordinal, next, kind, name_len, pad, name, tail)
};
static_assert(sizeof(NameEntry) == 256);
constexpr u32 kBuckets = 16384;

// ---- heap index (derived) -----------------------------------------------------------------------
constexpr u32 kFirstLevels = 40;   // spans of up to 2^40 units
constexpr u32 kSecondLevels = 16;  // steps between powers of two
struct HeapIndex {
    shm_atomic<u64> first;
    shm_atomic<u32> second[kFirstLevels];
    shm_atomic<u32> heads[kFirstLevels][kSecondLevels];
    ONECOPY_SHARED_STRUCT(HeapIndex, first, second, heads)
};

// ---- header -------------------------------------------------------------------------------------
struct alignas(64) Header {
    // line 0: fixed at creation
    u64 magic;
    u64 layout_hash;
    u32 version;
    u32 max_processes;
    u64 id[2];     // random; what handles carry
    u64 capacity;  // bytes of heap
    u64 file_size;
    u64 flags;  // HeaderFlags
    // line 1
    u64 rows_off, heads_off, buckets_off, extents_off, names_off, blocks_off, heap_off;
    u32 max_names, max_blocks;
    // line 2
    u64 created_ns;
    u32 creator_pid, creator_uid;
    shm_atomic<u32> corrupt;      // set once and never cleared: the pool is refused from then on
    shm_atomic<u32> rows_used;    // no slot at or above it was ever used
    shm_atomic<u64> death_epoch;  // moves after the generation of a row has moved, by a death or a
                                  // leave [pool.death_epoch]
    char pad2[32];
    // line 3: heap, under heap_lock
    alignas(64) LockWord heap_lock;
    shm_atomic<u32> free_entries;  // derived: list of unused block entries
    shm_atomic<u32> last_entry;    // derived: the entry whose span ends at heap_top, or kNil
    // Entries below it are reserved, and belong to the tiling or to the free list.
    shm_atomic<u32> blocks_top;
    shm_atomic<u64> heap_top;     // truth: bytes of heap that are tiled
    shm_atomic<u64> used;         // derived: bytes asked for, of live user blocks
    shm_atomic<u64> body_bytes;   // derived: bytes of live structure bodies
    shm_atomic<u32> live_blocks;  // derived: user blocks
    shm_atomic<u32> live_bodies;  // derived
    // line 4
    alignas(64) EventCount memory_freed;
    // "A frame is free again", by the index of the body modulo 15. These words are not in the
    // bodies, so a late wake cannot write into memory that has become the payload of a message.
    EventCount frame_home[15];
    // line 5: directory, under names_lock
    alignas(64) LockWord names_lock;
    shm_atomic<u32> free_names;      // derived
    shm_atomic<u32> names_top;       // entries below it are reserved
    shm_atomic<u32> names_reserved;  // entries whose memory is reserved
    shm_atomic<u64> ordinal;
    shm_atomic<u64> blocks_reserved;  // block entries whose memory is reserved
    ONECOPY_SHARED_STRUCT(Header, magic, layout_hash, version, max_processes, id, capacity,
                          file_size, flags, rows_off, heads_off, buckets_off, extents_off,
                          names_off, blocks_off, heap_off, max_names, max_blocks, created_ns,
                          creator_pid, creator_uid, corrupt, rows_used, death_epoch, pad2,
                          heap_lock, free_entries, last_entry, blocks_top, heap_top, used,
                          body_bytes, live_blocks, live_bodies, memory_freed, frame_home,
                          names_lock, free_names, names_top, names_reserved, ordinal,
                          blocks_reserved)
};
static_assert(sizeof(Header) <= kHeaderBytes);
enum HeaderFlags : u64 { kPersistent = 1, kMemfd = 2, kOthersMayWrite = 4 };

// The places of all parts for given limits. The same computation creates a pool and checks one.
struct Geometry {
    u64 rows_off, heads_off, buckets_off, extents_off, names_off, blocks_off, heap_off, file_size;
    u64 capacity;
    u32 max_processes, max_names, max_blocks;
};
Geometry geometry(u64 capacity, u32 max_processes) noexcept;

// A number that differs between builds whose pools must not be mixed. It covers every struct that
// stands in shared memory. It is defined where all structures are known (structures/).
u64 layout_hash() noexcept;
// The part of it that this file knows.
u64 fixed_layout() noexcept;

}  // namespace onecopy
