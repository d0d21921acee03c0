// A dict of values by keys. A key is a run of bytes that means the same in every process.
//
//|  table.main -> buckets   u32 each, a power of two of them; derived, as `next` of the records is
//|  entry                   cells: value, long key; record: DictRecord
//
// An entry whose value is null is free. All other fields of an entry were written before its value.
//
//|  COMMITS   new:     record, key, then value: 0 -> new; then the derived links
//|            replace: value: old -> new, in its place in the order
//|            delete:  value: old -> 0; then its key is cleared, and it is unlinked
#pragma once
#include "containers/container.hpp"

namespace onecopy {

constexpr u32 kInlineKey = 64;

// A key as it is written. Its first `canonical` bytes are equal for equal keys; the key is found by
// them. Some keys come back in another form (True, 1.0). Then that form follows, and behind it, in
// four bytes, how many the first bytes are.
struct DictKey {
    const unsigned char* bytes = nullptr;
    u32 length = 0;
    u32 canonical = 0;
};
constexpr u32 kTwoForms = 1u << 31;
constexpr u32 kLongestKey = kTwoForms - 1;

struct DictRecord {
    shm_atomic<u64> hash;
    shm_atomic<u64> ordinal;
    // Derived; links are slot+1, 0 ends.
    shm_atomic<u32> next;           // of the chain, or of the free list
    shm_atomic<u32> before, after;  // in the order of insertion
    shm_atomic<u32> key;  // two forms:1 | length:31; longer than the bytes here: in a block
    unsigned char bytes[kInlineKey];
    ONECOPY_SHARED_STRUCT(DictRecord, hash, ordinal, next, before, after, key, bytes)
};
static_assert(sizeof(DictRecord) == 96);

// Keys one after the other, and the values, held.
struct DictItems {
    std::string keys;
    std::vector<u32> lengths;  // with kTwoForms
    std::vector<Handle> values;
};

// A position in a dict, between two calls.
struct DictCursor {
    Handle table = 0;  // 0: before the first entry
    u32 link = 0;      // of the entry that was looked at last
    u64 ordinal = 0;   // the ordinal of that entry
    bool at_end = false;
};

class Dict final : public Container {
  public:
    Dict() noexcept;
    static Status create(Member& m, WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, Dict& out) noexcept;

    // All of them: would_block: another thread has the users' lock. no_entry: there is no such key.
    // Values that come out are held for the caller. The caller holds those that go in.
    Status size(WaitPolicy& p, u64& out) noexcept;
    Status get(const DictKey& key, WaitPolicy& p, Handle& out) noexcept;
    Status contains(const DictKey& key, WaitPolicy& p) noexcept;
    // exists: `only_new`, and the key is there; `found` is its value.
    Status set(const DictKey& key, Handle value, bool only_new, WaitPolicy& p,
               Handle& found) noexcept;
    Status erase(const DictKey& key, WaitPolicy& p) noexcept;
    // The entry that was added last.
    Status last(WaitPolicy& p, DictItems& out) noexcept;
    // stale: the key has another value by now, or (`last`) is not the last any more.
    Status erase_if(const DictKey& key, Handle only, bool last, WaitPolicy& p) noexcept;
    // In the order of insertion.
    Status items(bool keys, bool values, WaitPolicy& p, DictItems& out) noexcept;
    // The next values, at most `most`. stale: the entry of the cursor is gone.
    Status values(DictCursor& at, u32 most, WaitPolicy& p, std::vector<Handle>& out) noexcept;

    static std::vector<std::string> validate(Member& m, u32 index);
    static void repair(Member& m, u32 index, WaitPolicy& p) noexcept;
    static u64 layout() noexcept;

  private:
    Status rebuild() override;
    Status is_empty(bool& out) noexcept override;
    static const Shape kShape;
    u64 hash_of(const unsigned char* bytes, u32 n) const noexcept;

    enum Cell : u32 { kValue = 0, kKey = 1 };

    // Lock held.
    struct Found {
        u32 slot = 0;
        u32 before = kNil;  // slot whose `next` leads here; kNil: the bucket does
    };
    DictRecord& entry(u32 slot) const noexcept {
        return *reinterpret_cast<DictRecord*>(record(slot));
    }
    Status find_buckets() noexcept;
    shm_atomic<u32>* buckets() const noexcept {
        return reinterpret_cast<shm_atomic<u32>*>(main_.data);
    }
    u32 bucket_count() const noexcept { return static_cast<u32>(main_.length / sizeof(u32)); }
    shm_atomic<u32>& bucket(u64 hash) const noexcept {
        return buckets()[(hash ^ hash >> 32) & (bucket_count() - 1)];
    }
    // The key in place; false: it is damaged.
    bool key_of(u32 slot, DictKey& out) noexcept;
    Status find(const DictKey& key, u64 hash, Found& out) noexcept;
    bool link_is_sound(u32 link) noexcept;
    void link_last(u32 slot, u32 last) noexcept;
    void unlink(const Found& at, u32 left, u32 right) noexcept;
    Status remove(const Found& at, Dropped& dropped, bool& emptied) noexcept;
    Status add_value(u32 slot, std::vector<Handle>& out);
    Status add_item(u32 slot, bool keys, bool values, DictItems& out);
    Status relink_into(shm_atomic<u32>* fresh, u32 count) noexcept;

    u64 seeds_[2] = {};
};

}  // namespace onecopy
