// A dict of values by keys; a key is a run of bytes that means the same in every process.
//
//   table.main -> buckets   u32 each, a power of two of them; derived, as `next` of the records is
//   entry                   cells: value, long key; record: DictRecord
//
// An entry whose value is null is free. All else of it was written before its value was.
//
// COMMITS   new:     record, key, then value: 0 -> new; then the derived links
//           replace: value: old -> new, in its place in the order
//           delete:  value: old -> 0; then its key is cleared, and it is unlinked
#pragma once
#include "containers/container.hpp"

namespace onecopy {

constexpr u32 kInlineKey = 64;

// A key as it is written: `canonical` bytes, equal for equal keys, by which it is found. If the key
// has another form that is to come back (True, 1.0), that one follows, and then, in four bytes, how
// many the first are.
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
};
static_assert(sizeof(DictRecord) == 96);

// Keys one after the other, and the values, held.
struct DictItems {
    std::string keys;
    std::vector<u32> lengths;  // with kTwoForms
    std::vector<Handle> values;
};

// Where one is in a dict, between two looks.
struct DictCursor {
    Handle table = 0;  // 0: before the first entry
    u32 link = 0;      // of the entry that was looked at last
    u64 ordinal = 0;   // its
    bool at_end = false;
};

class Dict final : public Container {
  public:
    Dict() noexcept;
    static Status create(Member& m, WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, Dict& out) noexcept;

    // All: would_block when somebody else has the users' lock; no_entry when there is no such key.
    // Values that come out are held for the caller; those that go in are held by it.
    Status size(WaitPolicy& p, u64& out) noexcept;
    Status get(const DictKey& key, WaitPolicy& p, Handle& out) noexcept;
    Status contains(const DictKey& key, WaitPolicy& p) noexcept;
    // `only_new`: exists, and `found` is what is there.
    Status set(const DictKey& key, Handle value, bool only_new, WaitPolicy& p,
               Handle& found) noexcept;
    Status erase(const DictKey& key, WaitPolicy& p) noexcept;
    // The entry that was added last.
    Status last(WaitPolicy& p, DictItems& out) noexcept;
    // stale: the key has not that value any more, or (`last`) it is not the last any more.
    Status erase_if(const DictKey& key, Handle only, bool last, WaitPolicy& p) noexcept;
    // In the order of insertion.
    Status items(bool keys, bool values, WaitPolicy& p, DictItems& out) noexcept;
    // The next values, `most` of them at most. stale: where it was is not there any more.
    Status values(DictCursor& at, u32 most, WaitPolicy& p, std::vector<Handle>& out) noexcept;

    static std::vector<std::string> validate(Member& m, u32 index);

  private:
    Status rebuild() override;
    Status is_empty(bool& out) noexcept override;
    static const Shape kShape;
    u64 hash_of(const unsigned char* bytes, u32 n) const noexcept;

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
    // The key where it lies; false: it makes no sense.
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
