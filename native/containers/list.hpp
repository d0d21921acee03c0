// A list of values.
//
//|  table.main -> order   count:u64, then capacity x u32: the slots, in the order of the list
//|  entry                 cell: the value; record: next (free list)
//
// A slot that is not in the order (below `count`) has no owner. What its cell refers to is
// garbage. The operation that left it clears it, or the rebuild does after a death.
//
//|  COMMITS   append, extend:  cells of new slots, order beyond count; then count := n+k
//|            item:            cell: old -> new
//|            pop at the end:  count := n-1, then the cell is cleared
//|            all others:      table.main := a new order; then dropped slots are cleared
//
// table_full: more items than there can be, or more references to one value.
#pragma once
#include "containers/container.hpp"

namespace onecopy {

// As in `list[start:stop:step]`; step is not 0. `adjust` fits it to a list, and answers how many
// items it selects.
struct Slice {
    std::int64_t start, stop, step;
    u64 adjust(u64 count) noexcept;
};

class List final : public Container {
  public:
    List() noexcept;
    static Status create(Member& m, WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, List& out) noexcept;

    // All of them: would_block: another thread has the users' lock. Values that come out are held
    // for the caller. The caller holds those that go in.
    Status size(WaitPolicy& p, u64& out) noexcept;
    Status extend(const Handle* items, u32 n, WaitPolicy& p) noexcept;
    // All of them: no_entry: out of range. Negative indices count from the end.
    Status get(std::int64_t index, WaitPolicy& p, Handle& out) noexcept;
    Status set(std::int64_t index, Handle item, WaitPolicy& p) noexcept;
    Status erase_at(std::int64_t index, WaitPolicy& p) noexcept;
    // `order`: as long as it is the same, no item has moved.
    Status get(Slice slice, WaitPolicy& p, std::vector<Handle>& out,
               Handle* order = nullptr) noexcept;
    // bad_argument: a step other than 1, and `selected` is not n.
    Status assign(Slice slice, const Handle* items, u32 n, WaitPolicy& p, u64& selected) noexcept;
    Status erase(Slice slice, WaitPolicy& p) noexcept;
    Status reverse(WaitPolicy& p) noexcept;
    Status repeat(u64 times, WaitPolicy& p) noexcept;
    // stale: `only` is not at that index any more. A negative index counts from the present end.
    Status erase_if(std::int64_t index, Handle only, WaitPolicy& p) noexcept;
    // The item at from[i] goes to i. stale: the list is not what `before` says, or no longer.
    Status reorder(const Handle* before, const u32* from, u32 n, WaitPolicy& p) noexcept;

    static std::vector<std::string> validate(Member& m, u32 index);
    static void repair(Member& m, u32 index, WaitPolicy& p) noexcept;
    static u64 layout() noexcept;

  private:
    struct Room;
    Status rebuild() override;
    Status is_empty(bool& out) noexcept override;
    static const Shape kShape;

    // Lock held.
    Status find_order(u64& count) noexcept;
    u64 order_room() const noexcept { return (main_.length - kOrderHead) / sizeof(u32); }
    shm_atomic<u64>& order_count() const noexcept {
        return *reinterpret_cast<shm_atomic<u64>*>(main_.data);
    }
    shm_atomic<u32>* order() const noexcept {
        return main_.data == nullptr ? nullptr
                                     : reinterpret_cast<shm_atomic<u32>*>(main_.data + kOrderHead);
    }
    // The slot at a position; false: it is damaged.
    bool slot_at(u64 position, u32& slot) noexcept;
    Status can_refer(u64 count, u64 times);
    Status fill_slots(const Handle* items, u32 n, shm_atomic<u32>* slots,
                      Dropped& dropped) noexcept;
    void clear_slot(u32 slot, Dropped& dropped) noexcept;
    Status cut(u64 start, u64 count, Dropped& dropped) noexcept;
    Status put_order(Room& room, Dropped& dropped) noexcept;
    static constexpr u64 kOrderHead = 8;
};

}  // namespace onecopy
