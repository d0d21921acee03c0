#include "containers/container.hpp"

#include <cstddef>

namespace onecopy {

// ---- blocks on their way in --------------------------------------------------------------------

Status Spare::get(u64 bytes, BodyKind kind, bool zero) noexcept {
    release();
    Allocated block;
    if (Status s = allocate(m_, {.bytes = bytes, .flags = kFlagBody, .kind = kind, .zero = zero},
                            policy_, block);
        s != Status::ok)
        return s;
    index_ = block.index;
    handle_ = handle_of(m_, block.index);
    data_ = block.data;
    bytes_ = bytes;
    return Status::ok;
}

void Spare::release() noexcept {
    if (index_ == 0) return;
    UninterruptibleWait uninterruptible(policy_);
    drop(m_, index_, uninterruptible);
    index_ = 0;
}

// ---- making and opening ------------------------------------------------------------------------

namespace {

constexpr u32 kBodyCells = 2, kTableCells = 1 + kChunks;

Status make_table(Spare& spare, Member& m, BodyKind kind) noexcept {
    Status s = spare.get(sizeof(ContainerTable), kind, true);
    if (s == Status::ok)
        declare_cells(m, spare.index(), offsetof(ContainerTable, main), 8, kTableCells);
    return s;
}

}  // namespace

Status Container::make(Member& m, const Shape& shape, WaitPolicy& p, Handle& out) noexcept {
    static_assert(sizeof(ContainerBody) <= 64, "one cache line");
    static_assert(offsetof(ContainerBody, mutex) == offsetof(ContainerBody, root) + 8);
    static_assert(offsetof(ContainerTable, chunks) == offsetof(ContainerTable, main) + 8);
    if (Status s = usable(m); s != Status::ok) return s;
    // Until the end, only this process holds all of it: a death leaves blocks that go with its
    // holds.
    Spare table(m, p), body(m, p);
    if (Status s = make_table(table, m, shape.table); s != Status::ok) return s;
    if (Status s = body.get(sizeof(ContainerBody), shape.body, true); s != Status::ok) return s;
    Handle mutex = 0;
    if (Status s = Mutex::create(m, true, p, mutex); s != Status::ok) return s;
    auto& b = *reinterpret_cast<ContainerBody*>(body.data());
    u64 seeds[2] = {};
    os::random_bytes(seeds, sizeof seeds);
    for (u32 i = 0; i < 2; ++i)
        b.seeds[i].store_relaxed(seeds[i]);
    declare_cells(m, body.index(), offsetof(ContainerBody, root), 8, kBodyCells);
    Status s = swap_cell(m, b.mutex, 0, mutex);
    UninterruptibleWait uninterruptible(p);
    drop(m, handle_index(mutex), uninterruptible);
    if (s == Status::ok) s = swap_cell(m, b.root, 0, table.handle());
    if (s != Status::ok) return s;
    finish_body(b);
    out = body.handle();
    hold_again(m, body.index());  // the caller's
    return Status::ok;
}

Status Container::open_as(Member& m, Handle h) noexcept {
    ContainerBody* b = nullptr;
    if (Status s = open_body(m, h, shape_->body, sizeof(ContainerBody), b); s != Status::ok)
        return s;
    const Handle mutex = b->mutex.load_acquire();  // [block.cell]
    // The cell of the body keeps it, as long as the caller keeps the body.
    if (Status s = Mutex::open(m, mutex, mutex_); s != Status::ok || !mutex_.recursive())
        return Status::corrupt;
    m_ = &m;
    b_ = b;
    mutex_handle_ = mutex;
    return Status::ok;
}

// ---- the lock ----------------------------------------------------------------------------------

Status Container::enter(WaitPolicy& p, bool look) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    Status s = lock(b_->lock, *m_, p);
    if (!good(s)) return s;
    const bool died = s == Status::owner_died;
    s = find_table();
    if (s == Status::ok && died) s = within_memory([&] { return rebuild(); });
    if (s == Status::out_of_memory) {
        unlock_damaged(b_->lock);
        return s;
    }
    // A thread that has the users' lock and has come out of `pass` is seen here. One that is still
    // in `pass` waits for us there. [container.users]
    if (s == Status::ok && look && mutex_.is_anothers()) s = Status::would_block;
    if (s != Status::ok) unlock(b_->lock);
    return s;
}

Status Container::pass(WaitPolicy& p) noexcept {
    return Inside(*this, p, Inside::kPass).status;  // [container.users]
}

// ---- parts -------------------------------------------------------------------------------------

Status Container::look_up(Part& part, Handle h, BodyKind kind, u64 least) noexcept {
    if (h == part.handle && h != 0) [[likely]]
        return Status::ok;
    part.handle = 0;
    BlockInfo info;
    if (find_part(*m_, h, kind, least, info) != Status::ok || (info.flags & kFlagBody) == 0)
        return broken();
    part = {h, info.data, info.length};
    return Status::ok;
}

Status Container::find_table() noexcept {
    if (tag_ != m_->tag()) table_.handle = main_.handle = 0;
    const Handle before = table_.handle;
    if (Status s = look_up(table_, b_->root.load_relaxed(), shape_->table, sizeof(ContainerTable));
        s != Status::ok)
        return s;
    if (table_.handle != before) chunk_count_ = capacity_ = 0;
    tag_ = m_->tag();
    return Status::ok;
}

u32 Container::capacity() noexcept {
    while (chunk_count_ < kChunks) {
        const Handle h = table().chunks[chunk_count_].load_relaxed();
        if (h == 0) break;
        Part chunk;
        const u64 n = u64{kFirstChunk} << chunk_count_;
        if (look_up(chunk, h, shape_->chunk, n * shape_->entry_bytes()) != Status::ok) break;
        chunks_[chunk_count_++] = chunk.data;
        capacity_ = start_of(chunk_count_);
    }
    return capacity_;
}

shm_atomic<u64>& Container::cell(u32 slot, u32 which) const noexcept {
    if (slot >= capacity_) [[unlikely]]
        return *reinterpret_cast<shm_atomic<u64>*>(astray());
    const u32 k = chunk_of(slot);
    return reinterpret_cast<shm_atomic<u64>*>(
        chunks_[k])[(slot - start_of(k)) * shape_->cells + which];
}

unsigned char* Container::record(u32 slot) const noexcept {
    if (slot >= capacity_) [[unlikely]]
        return astray();
    const u32 k = chunk_of(slot);
    return chunks_[k] + (u64{kFirstChunk} << k) * shape_->cells * 8 +
           u64{slot - start_of(k)} * shape_->record;
}

u32 Container::next_chunk() noexcept {
    capacity();
    return chunk_count_;
}

Status Container::get_chunk(Spare& spare, u32 number) noexcept {
    if (number >= kChunks) return Status::table_full;
    const u64 n = u64{kFirstChunk} << number;
    const Status s = spare.get(n * shape_->entry_bytes(), shape_->chunk, true);
    if (s == Status::ok)
        declare_cells(*m_, spare.index(), 0, 8, static_cast<u32>(n * shape_->cells));
    return s;
}

Status Container::add_chunk(Spare& spare, u32 number) noexcept {
    if (number != next_chunk()) return Status::ok;                     // another process was faster
    return swap_cell(*m_, table().chunks[number], 0, spare.handle());  // COMMIT
}

// ---- slots -------------------------------------------------------------------------------------

bool Container::room_for(u64 slots) noexcept {
    const u64 free = table().free_count.load_relaxed(), top = table().top.load_relaxed();
    return free >= slots || free + capacity_ >= slots + top || free + capacity() >= slots + top;
}

Status Container::take_slot(u32& out) noexcept {
    ContainerTable& t = table();
    const u32 top = t.top.load_relaxed();
    u32 slot = top;
    if (const u32 link = t.free.load_relaxed(); link != 0) {
        slot = link - 1;
        if (slot >= top || !exists(slot)) return broken();
        t.free.store_relaxed(next_of(slot).load_relaxed());
        t.free_count.store_relaxed(t.free_count.load_relaxed() - 1);
    } else {
        if (!exists(slot)) return broken();  // `room_for` was asked
        t.top.store_relaxed(top + 1);
    }
    for (u32 c = 0; c < shape_->cells; ++c)
        if (cell(slot, c).load_relaxed() != 0) return broken();
    out = slot;
    return Status::ok;
}

void Container::give_slot(u32 slot) noexcept {
    ContainerTable& t = table();
    next_of(slot).store_relaxed(t.free.load_relaxed());
    t.free.store_relaxed(slot + 1);
    t.free_count.store_relaxed(t.free_count.load_relaxed() + 1);
}

void Container::empty(shm_atomic<u64>& which, Dropped& dropped) noexcept {
    const Handle h = which.load_relaxed();
    if (h == 0) return;
    swap_cell(*m_, which, h, 0);
    dropped.add(h);
}

Status Container::hold_value(Handle h, Handle& out) noexcept {
    // The cell keeps its reference while the lock is held. So the block is there, or the pool lies.
    const Status s = hold(*m_, h);
    if (s == Status::ok) out = h;
    return s == Status::stale || s == Status::corrupt ? broken() : s;
}

void Container::rebuild_free(const std::vector<bool>& used) noexcept {
    u32 top = static_cast<u32>(used.size());
    while (top > 0 && !used[top - 1])
        --top;
    u32 free = 0, count = 0;
    for (u32 slot = top; slot-- > 0;) {  // downwards, so that low slots are used first
        if (used[slot]) continue;
        next_of(slot).store_relaxed(free);
        free = slot + 1;
        ++count;
    }
    table().free.store_relaxed(free);
    table().free_count.store_relaxed(count);
    table().top.store_relaxed(top);
}

// ---- clear -------------------------------------------------------------------------------------

Status Container::clear(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    Spare fresh(*m_, p);
    if (Status s = make_table(fresh, *m_, shape_->table); s != Status::ok) return s;
    Dropped dropped(*m_, p);
    Inside in(*this, p);
    if (in.status != Status::ok) return in.status;
    const Handle old = table_.handle;
    const Status s = swap_cell(*m_, b_->root, old, fresh.handle());  // COMMIT
    // The old table goes, with all that is in it. After a death from here on, the sweep frees it.
    if (s == Status::ok) dropped.add(old);
    return s;
}

void Container::tidy(WaitPolicy& p) noexcept {
    UninterruptibleWait uninterruptible(
        p,
        os::monotonic_ns() + kLockGrace);  // it may fail without harm
    Spare fresh(*m_, uninterruptible);
    if (make_table(fresh, *m_, shape_->table) != Status::ok) return;
    Dropped dropped(*m_, uninterruptible);
    Inside in(*this, uninterruptible);
    bool empty = false;
    if (in.status != Status::ok || !has_many_chunks() || is_empty(empty) != Status::ok || !empty)
        return;
    const Handle old = table_.handle;
    if (swap_cell(*m_, b_->root, old, fresh.handle()) == Status::ok) dropped.add(old);  // COMMIT
}

void Container::check_free(const std::vector<bool>& used, Problems& say) {
    const u32 top = table().top.load_relaxed(), all = capacity();
    if (top > all) return say("more slots were used than there are");
    std::vector<bool> seen(top, false);
    u32 listed = 0, in_use = 0;
    for (u32 link = table().free.load_relaxed(); link != 0;
         link = next_of(link - 1).load_relaxed()) {
        if (link > top || seen[link - 1]) return say("its free list has a wrong link");
        seen[link - 1] = true;
        ++listed;
        if (used[link - 1]) return say("a slot is both free and in use");
    }
    for (u32 slot = 0; slot < all; ++slot) {
        if (used[slot]) {
            ++in_use;
            if (slot >= top) return say("a slot is in use that was never taken");
            continue;
        }
        for (u32 c = 0; c < shape_->cells; ++c)
            if (cell(slot, c).load_acquire() != 0)  // [block.cell]
                return say("a slot that is not in use refers to something");
    }
    if (listed != table().free_count.load_relaxed()) say("its free slots are miscounted");
    if (listed + in_use != top) say("a slot is neither free nor in use");
}

void Container::observe(Member& m, u32 index, Observed& out) {
    BlockInfo info;
    if (inspect(m, index, info) != Status::ok || info.length < sizeof(ContainerBody)) return;
    const auto& b = *reinterpret_cast<ContainerBody*>(info.data);
    if (b.magic.load_acquire() != ContainerBody::kMagic) return;  // [body.magic]
    out.readable = true;
    out.fact("lock", handle_index(b.mutex.load_acquire()));  // [block.cell]
    out.owner(m, "inner", b.lock.word.load());
}

}  // namespace onecopy
