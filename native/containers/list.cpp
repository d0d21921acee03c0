#include "containers/list.hpp"

#include <algorithm>

namespace onecopy {

const Container::Shape List::kShape = {.body = BodyKind::list,
                                       .table = BodyKind::list_table,
                                       .main = BodyKind::list_order,
                                       .chunk = BodyKind::list_chunk,
                                       .cells = 1,
                                       .record = sizeof(u32),
                                       .next = 0};

List::List() noexcept : Container(kShape) {}

namespace {
constexpr u64 kMostItems = u64{kFirstChunk} * ((u64{1} << kChunks) - 1);
}

u64 Slice::adjust(u64 count) noexcept {
    const auto n = static_cast<std::int64_t>(count);
    auto fit = [&](std::int64_t at) {
        if (at < 0) at += n;
        if (at < 0) return step < 0 ? std::int64_t{-1} : std::int64_t{0};
        return at < n ? at : (step < 0 ? n - 1 : n);
    };
    start = fit(start);
    stop = fit(stop);
    if (step < 0) return stop < start ? static_cast<u64>((start - stop - 1) / -step + 1) : 0;
    return start < stop ? static_cast<u64>((stop - start - 1) / step + 1) : 0;
}

Status List::create(Member& m, WaitPolicy& p, Handle& out) noexcept {
    return make(m, kShape, p, out);
}
Status List::open(Member& m, Handle h, List& out) noexcept {
    return out.open_as(m, h);
}

// ---- under the lock ----------------------------------------------------------------------------

Status List::find_order(u64& count) noexcept {
    const Handle h = table().main.load_relaxed();
    if (h == 0) {
        main_ = {};
        count = 0;
        return Status::ok;
    }
    if (Status s = look_up(main_, h, BodyKind::list_order, kOrderHead); s != Status::ok) return s;
    count = order_count().load_acquire();  // [list.count], where its last owner died
    return count <= order_room() ? Status::ok : broken();
}

bool List::slot_at(u64 position, u32& slot) noexcept {
    slot = order()[position].load_relaxed();
    return exists(slot);
}

void List::clear_slot(u32 slot, Dropped& dropped) noexcept {
    empty(cell(slot), dropped);
    give_slot(slot);
}

// A slot for each item. If one item cannot be referred to, none is.
Status List::fill_slots(const Handle* items, u32 n, shm_atomic<u32>* slots,
                        Dropped& dropped) noexcept {
    for (u32 i = 0; i < n; ++i) {
        u32 slot = 0;
        Status s = take_slot(slot);
        if (s == Status::ok) {
            s = swap_cell(*m_, cell(slot), 0, items[i]);
            if (s != Status::ok) give_slot(slot);
        }
        if (s != Status::ok) {
            while (i-- > 0 && s != Status::corrupt) {
                slot = slots[i].load_relaxed();
                if (!exists(slot)) return broken();
                clear_slot(slot, dropped);
            }
            return s;
        }
        slots[i].store_relaxed(slot);
    }
    return Status::ok;
}

// ---- room --------------------------------------------------------------------------------------

// What an operation has to allocate before it takes the lock. The operation finds that out under
// the lock, releases the lock, allocates, and tries again.
struct List::Room {
    Room(List& of, WaitPolicy& p) noexcept : list(of), chunk(*of.m_, p), order(*of.m_, p) {}

    // Lock held. ok; would_block: `fetch` first.
    Status slots(u64 n) noexcept {
        while (!list.room_for(n)) {
            const u32 next = list.next_chunk();
            if (next >= kChunks) return Status::table_full;
            number_wanted = next;
            if (!chunk || number != next) return Status::would_block;
            if (Status s = list.add_chunk(chunk, number); s != Status::ok) return s;
            number = kNil;
        }
        return Status::ok;
    }
    // A block for an order of that length, with some room to spare.
    Status order_for(u64 n) noexcept {
        if (n > kMostItems) return Status::table_full;
        const u64 least = kOrderHead + n * sizeof(u32);
        if (order && order.bytes() >= least) return Status::ok;
        order_wanted = round_up(kOrderHead + (n + n / 2 + 8) * sizeof(u32), kUnit);
        return Status::would_block;
    }
    // Not under the lock.
    Status fetch() noexcept {
        Status s = Status::ok;
        if (number_wanted != kNil) {
            s = list.get_chunk(chunk, number_wanted);
            number = number_wanted;
            number_wanted = kNil;
        }
        if (s == Status::ok && order_wanted != 0) {
            s = order.get(order_wanted, BodyKind::list_order, false);
            order_wanted = 0;
        }
        return s;
    }
    shm_atomic<u32>* positions() const noexcept {
        return reinterpret_cast<shm_atomic<u32>*>(order.data() + kOrderHead);
    }
    void set_count(u64 n) const noexcept {
        reinterpret_cast<shm_atomic<u64>*>(order.data())->store_relaxed(n);
    }

    List& list;
    Spare chunk, order;
    u32 number = kNil, number_wanted = kNil;
    u64 order_wanted = 0;
};

Status List::put_order(Room& room, Dropped& dropped) noexcept {
    const Handle old = table().main.load_relaxed();
    const Status s = swap_cell(*m_, table().main, old, room.order.handle());  // COMMIT
    if (s == Status::ok && old != 0) dropped.add(old);
    return s;
}

namespace {
void copy_order(shm_atomic<u32>* to, const shm_atomic<u32>* from, u64 n) noexcept {
    if (n != 0) copy_in(to, from, n * sizeof(u32));
}
}  // namespace

// Runs `act(lacks)`, which takes the lock, again each time it has told the room what it `lacks`. If
// it answers `would_block` for another reason (the users' lock), the caller gets that.
template <class Act>
static Status with_room(Act act, auto& room) noexcept {
    for (;;) {
        bool lacks = false;
        const Status s = within_memory([&] { return act(lacks); });
        if (!lacks) return s;
        if (Status got = room.fetch(); got != Status::ok) return got;
    }
}

// ---- operations --------------------------------------------------------------------------------

Status List::size(WaitPolicy& p, u64& out) noexcept {
    Inside in(*this, p);
    return in.status == Status::ok ? find_order(out) : in.status;
}

Status List::is_empty(bool& out) noexcept {
    u64 count = 0;
    const Status s = find_order(count);
    out = count == 0;
    return s;
}

Status List::extend(const Handle* items, u32 n, WaitPolicy& p) noexcept {
    Room room(*this, p);
    const Status done = with_room(
        [&](bool& lacks) {
            Dropped dropped(*m_, p);
            Inside in(*this, p);
            if (in.status != Status::ok) return in.status;
            u64 count = 0;
            if (Status s = find_order(count); s != Status::ok) return s;
            if (count + n > kMostItems) return Status::table_full;
            Status s = room.slots(n);
            if (s == Status::ok && (main_.data == nullptr || order_room() < count + n)) {
                s = room.order_for(count + n);
                if (s == Status::ok) {  // a larger one, with the same list in it
                    if (count != 0) copy_order(room.positions(), order(), count);
                    room.set_count(count);
                    s = put_order(room, dropped);
                    if (s == Status::ok) s = find_order(count);
                }
            }
            lacks = s == Status::would_block;
            if (s != Status::ok) return s;
            s = fill_slots(items, n, order() + count, dropped);
            if (s == Status::ok) order_count().store_release(count + n);  // COMMIT [list.count]
            return s;
        },
        room);
    if (done == Status::no_memory || done == Status::table_full) tidy(p);
    return done;
}

Status List::get(std::int64_t index, WaitPolicy& p, Handle& out) noexcept {
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    u64 count = 0;
    if (Status s = find_order(count); s != Status::ok) return s;
    if (index < 0) index += static_cast<std::int64_t>(count);
    if (index < 0 || static_cast<u64>(index) >= count) return Status::no_entry;
    u32 slot = 0;
    if (!slot_at(static_cast<u64>(index), slot)) return broken();
    return hold_value(cell(slot).load_relaxed(), out);
}

Status List::set(std::int64_t index, Handle item, WaitPolicy& p) noexcept {
    Dropped dropped(*m_, p);
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    u64 count = 0;
    if (Status s = find_order(count); s != Status::ok) return s;
    if (index < 0) index += static_cast<std::int64_t>(count);
    if (index < 0 || static_cast<u64>(index) >= count) return Status::no_entry;
    u32 slot = 0;
    if (!slot_at(static_cast<u64>(index), slot)) return broken();
    const Handle old = cell(slot).load_relaxed();
    const Status s = swap_cell(*m_, cell(slot), old, item);  // COMMIT
    if (s == Status::ok) dropped.add(old);
    return s;
}

// Removes the items from `start` to the end, in place.
Status List::cut(u64 start, u64 count, Dropped& dropped) noexcept {
    for (u64 i = start; i < count; ++i) {
        u32 slot = 0;
        if (!slot_at(i, slot)) return broken();
    }
    order_count().store_release(start);  // COMMIT [list.count]
    for (u64 i = count; i-- > start;) {  // backwards: the first slot is the first to be used again
        u32 slot = 0;
        if (!slot_at(i, slot)) return broken();
        clear_slot(slot, dropped);
    }
    return Status::ok;
}

Status List::erase_at(std::int64_t index, WaitPolicy& p) noexcept {
    const Status s = erase_if(index, 0, p);
    return s == Status::stale ? Status::no_entry : s;
}

// `only`: the item that must be there; 0: any.
Status List::erase_if(std::int64_t index, Handle only, WaitPolicy& p) noexcept {
    Room room(*this, p);
    bool emptied = false;
    const Status done = with_room(
        [&](bool& lacks) {
            Dropped dropped(*m_, p);
            Inside in(*this, p);
            if (in.status != Status::ok) return in.status;
            u64 count = 0;
            if (Status s = find_order(count); s != Status::ok) return s;
            const std::int64_t at = index < 0 ? index + static_cast<std::int64_t>(count) : index;
            if (at < 0 || static_cast<u64>(at) >= count) return Status::stale;
            const auto place = static_cast<u64>(at);
            u32 slot = 0;
            if (!slot_at(place, slot)) return broken();
            if (only != 0 && cell(slot).load_relaxed() != only) return Status::stale;
            if (place + 1 == count) {
                emptied = place == 0 && has_many_chunks();
                return cut(place, count, dropped);
            }
            Status s = room.order_for(count - 1);
            if (s != Status::ok) {
                lacks = s == Status::would_block;
                return s;
            }
            copy_order(room.positions(), order(), place);
            copy_order(room.positions() + place, order() + place + 1, count - place - 1);
            room.set_count(count - 1);
            s = put_order(room, dropped);
            if (s == Status::ok) clear_slot(slot, dropped);
            return s;
        },
        room);
    if (emptied) tidy(p);
    return done;
}

Status List::get(Slice slice, WaitPolicy& p, std::vector<Handle>& out, Handle* order) noexcept {
    out.clear();
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    u64 count = 0;
    if (Status s = find_order(count); s != Status::ok) return s;
    if (order != nullptr) *order = main_.handle;
    const u64 n = slice.adjust(count);
    if (Status s = within_memory([&] { return out.reserve(n), Status::ok; }); s != Status::ok)
        return s;
    for (u64 i = 0; i < n; ++i) {
        const std::int64_t at = slice.start + static_cast<std::int64_t>(i) * slice.step;
        u32 slot = 0;
        Status s = slot_at(static_cast<u64>(at), slot) ? Status::ok : broken();
        Handle item = 0;
        if (s == Status::ok) s = hold_value(cell(slot).load_relaxed(), item);
        if (s != Status::ok) return s;  // the caller drops what it has got
        out.push_back(item);
    }
    return Status::ok;
}

Status List::assign(Slice asked, const Handle* items, u32 n, WaitPolicy& p,
                    u64& selected) noexcept {
    Room room(*this, p);
    bool emptied = false;
    const Status done = with_room(
        [&](bool& lacks) {
            Dropped dropped(*m_, p);
            Inside in(*this, p);
            if (in.status != Status::ok) return in.status;
            u64 count = 0;
            if (Status s = find_order(count); s != Status::ok) return s;
            Slice slice = asked;
            selected = slice.adjust(count);
            if (slice.step != 1 && selected != n) return Status::bad_argument;
            const u64 after = count - selected + n;
            Status s = after > kMostItems ? Status::table_full : room.slots(n);
            // Also if a chunk is missing: both are allocated at once.
            if (s == Status::ok || s == Status::would_block) {
                if (Status o = room.order_for(after); o != Status::ok) s = o;
            }
            lacks = s == Status::would_block;
            if (s != Status::ok) return s;
            const auto first = static_cast<u64>(slice.start);
            std::vector<u32> gone(selected);
            for (u64 i = 0; i < selected; ++i) {
                const std::int64_t at = slice.start + static_cast<std::int64_t>(i) * slice.step;
                if (!slot_at(static_cast<u64>(at), gone[i])) return broken();
            }
            shm_atomic<u32>* fresh = room.positions();
            if (slice.step == 1) {
                copy_order(fresh, order(), first);
                copy_order(fresh + first + n, order() + first + selected, count - first - selected);
                s = fill_slots(items, n, fresh + first, dropped);
            } else {
                std::vector<shm_atomic<u32>> taken(n);
                s = fill_slots(items, n, taken.data(), dropped);
                copy_order(fresh, order(), count);
                for (u32 i = 0; i < n && s == Status::ok; ++i)
                    fresh[slice.start + i * slice.step].store_relaxed(taken[i].load_relaxed());
            }
            if (s != Status::ok) return s;
            room.set_count(after);
            s = put_order(room, dropped);
            if (s != Status::ok) return s;
            for (u64 i = selected; i-- > 0;)
                clear_slot(gone[i], dropped);
            emptied = after == 0 && has_many_chunks();
            return Status::ok;
        },
        room);
    if (emptied || done == Status::no_memory || done == Status::table_full) tidy(p);
    return done;
}

Status List::erase(Slice asked, WaitPolicy& p) noexcept {
    Room room(*this, p);
    bool emptied = false;
    const Status done = with_room(
        [&](bool& lacks) {
            Dropped dropped(*m_, p);
            Inside in(*this, p);
            if (in.status != Status::ok) return in.status;
            u64 count = 0;
            if (Status s = find_order(count); s != Status::ok) return s;
            Slice slice = asked;
            const u64 selected = slice.adjust(count);
            if (selected == 0) return Status::ok;
            if (slice.step < 0) {
                slice.start += static_cast<std::int64_t>(selected - 1) * slice.step;
                slice.step = -slice.step;
            }
            const auto first = static_cast<u64>(slice.start), step = static_cast<u64>(slice.step);
            emptied = selected == count && has_many_chunks();
            if (first + selected == count) return cut(first, count, dropped);  // its tail
            if (Status s = room.order_for(count - selected); s != Status::ok) {
                lacks = s == Status::would_block;
                return s;
            }
            std::vector<u32> gone(selected);
            shm_atomic<u32>* fresh = room.positions();
            copy_order(fresh, order(), first);
            u64 to = first;
            for (u64 i = 0; i < selected; ++i) {
                const u64 at = first + i * step, next = i + 1 < selected ? at + step : count;
                if (!slot_at(at, gone[i])) return broken();
                copy_order(fresh + to, order() + at + 1, next - at - 1);
                to += next - at - 1;
            }
            room.set_count(to);
            if (Status s = put_order(room, dropped); s != Status::ok) return s;
            for (u64 i = selected; i-- > 0;)
                clear_slot(gone[i], dropped);
            return Status::ok;
        },
        room);
    if (emptied) tidy(p);
    return done;
}

Status List::reverse(WaitPolicy& p) noexcept {
    Room room(*this, p);
    return with_room(
        [&](bool& lacks) {
            Dropped dropped(*m_, p);
            Inside in(*this, p);
            if (in.status != Status::ok) return in.status;
            u64 count = 0;
            if (Status s = find_order(count); s != Status::ok || count < 2) return s;
            if (Status s = room.order_for(count); s != Status::ok) {
                lacks = s == Status::would_block;
                return s;
            }
            for (u64 i = 0; i < count; ++i)
                room.positions()[i].store_relaxed(order()[count - 1 - i].load_relaxed());
            room.set_count(count);
            return put_order(room, dropped);
        },
        room);
}

Status List::reorder(const Handle* before, const u32* from, u32 n, WaitPolicy& p) noexcept {
    Room room(*this, p);
    return with_room(
        [&](bool& lacks) {
            Dropped dropped(*m_, p);
            Inside in(*this, p);
            if (in.status != Status::ok) return in.status;
            u64 count = 0;
            if (Status s = find_order(count); s != Status::ok) return s;
            if (count != n) return Status::stale;
            // The caller holds the blocks, so no handle can mean another block by now.
            for (u64 i = 0; i < count; ++i) {
                u32 slot = 0;
                if (!slot_at(i, slot)) return broken();
                if (cell(slot).load_relaxed() != before[i]) return Status::stale;
            }
            if (count < 2) return Status::ok;
            if (Status s = room.order_for(count); s != Status::ok) {
                lacks = s == Status::would_block;
                return s;
            }
            for (u64 i = 0; i < count; ++i)
                room.positions()[i].store_relaxed(order()[from[i]].load_relaxed());
            room.set_count(count);
            return put_order(room, dropped);
        },
        room);
}

// Whether each value can be referred to so many times. Asked before anything grows for it.
Status List::can_refer(u64 count, u64 times) {
    std::vector<Handle>
        doubtful;  // nearly always empty: counted as if all references to a value were from here
    for (u64 i = 0; i < count; ++i) {
        u32 slot = 0;
        if (!slot_at(i, slot)) return broken();
        const Handle item = cell(slot).load_relaxed();
        BlockInfo info;
        if (inspect(*m_, handle_index(item), info) != Status::ok) return broken();
        const RefsWord refs{m_->block(handle_index(item)).refs.load_relaxed()};
        if (refs.count() * times > kMaxRefs) doubtful.push_back(item);
    }
    std::sort(doubtful.begin(), doubtful.end());
    for (std::size_t i = 0, next; i < doubtful.size(); i = next) {
        for (next = i + 1; next < doubtful.size() && doubtful[next] == doubtful[i];)
            ++next;
        const RefsWord refs{m_->block(handle_index(doubtful[i])).refs.load_relaxed()};
        if (refs.count() + (next - i) * (times - 1) > kMaxRefs) return Status::table_full;
    }
    return Status::ok;
}

Status List::repeat(u64 times, WaitPolicy& p) noexcept {
    if (times == 0) return clear(p);
    Room room(*this, p);
    bool asked = false;
    return with_room(
        [&](bool& lacks) {
            Dropped dropped(*m_, p);
            Inside in(*this, p);
            if (in.status != Status::ok) return in.status;
            u64 count = 0;
            if (Status s = find_order(count); s != Status::ok || count == 0 || times == 1) return s;
            if (times > kMostItems / count) return Status::table_full;
            const u64 after = count * times;
            Status s = asked ? Status::ok : can_refer(count, times);
            if (s != Status::ok) return s;
            asked = true;
            s = room.slots(after - count);
            if (s == Status::ok || s == Status::would_block) {
                if (Status o = room.order_for(after); o != Status::ok) s = o;
            }
            lacks = s == Status::would_block;
            if (s != Status::ok) return s;
            std::vector<Handle> items(after - count);
            for (u64 i = 0; i < count; ++i) {
                u32 slot = 0;
                if (!slot_at(i, slot)) return broken();
                const Handle item = cell(slot).load_relaxed();
                for (u64 t = 1; t < times; ++t)
                    items[(t - 1) * count + i] = item;
            }
            copy_order(room.positions(), order(), count);
            s = fill_slots(items.data(), static_cast<u32>(items.size()), room.positions() + count,
                           dropped);
            if (s != Status::ok) return s;
            room.set_count(after);
            return put_order(room, dropped);
        },
        room);
}

}  // namespace onecopy
