#include "bindings/pool.hpp"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "bindings/instance.hpp"
#include "bindings/lease.hpp"
#include "bindings/objects.hpp"
#include "bindings/ref.hpp"

namespace onecopy::py {
namespace {

// Never destroyed: leases may be dropped after static destructors ran.
std::unordered_map<const Member*, Pool*>& pools() {
    static auto& all = *new std::unordered_map<const Member*, Pool*>;
    return all;
}

}  // namespace

PoolPtr pool_of(std::shared_ptr<Member> member) {
    const Member* key = member.get();
    if (const auto known = pools().find(key); known != pools().end()) return PoolPtr(known->second);
    auto fresh = std::make_unique<Pool>(Pool{.member = std::move(member)});
    fresh->others_may_write = fresh->core().others_may_write;
    pools().emplace(key, fresh.get());
    return PoolPtr(fresh.release());
}

void PoolPtr::destroy(Pool* pool) noexcept {
    // First: leaving the pool may release the GIL, and no thread may find this object then.
    pools().erase(pool->member.get());
    delete pool;
}

PyObject* member_object(const PoolPtr& pool) noexcept {
    // One that is being deleted (its weak references are called) has no references left, and must
    // not be used again.
    if (pool->wrapper != nullptr && Py_REFCNT(pool->wrapper_object) > 0)
        return Py_NewRef(pool->wrapper_object);
    PyObject* object = new_instance(nb::type<MemberObject>());
    if (object == nullptr) return nullptr;
    pool->wrapper = new (nb::inst_ptr<MemberObject>(object)) MemberObject(pool);
    pool->wrapper_object = object;
    nb::inst_mark_ready(object);
    return object;
}

MemberObject::~MemberObject() {
    if (pool->wrapper == this) {
        pool->wrapper = nullptr;
        pool->wrapper_object = nullptr;
    }
}

namespace {

// A copy: pools may come and go meanwhile.
std::vector<PoolPtr> all_pools() {
    std::vector<PoolPtr> all;
    for (const auto& [key, known] : pools())
        all.emplace_back(known);
    return all;
}

}  // namespace

void for_each_pool(void (*act)(Member&)) {
    for (const PoolPtr& pool : all_pools())
        act(pool->core());
}

nb::list all_members() {
    nb::list members;
    for (const PoolPtr& pool : all_pools())
        members.append(result(member_object(pool)));
    return members;
}

MemberObject* as_member(PyObject* object) noexcept {
    if (nb::isinstance<MemberObject>(object) && nb::inst_ready(object))
        return nb::inst_ptr<MemberObject>(object);
    PyErr_Format(PyExc_TypeError, "expected a Member, not %.200s", Py_TYPE(object)->tp_name);
    return nullptr;
}

bool open_channel(Channel& channel, PyObject* hold, PyObject* member, bool& create) noexcept {
    MemberObject* m = as_member(member);
    if (m == nullptr) return false;
    if (m->pool->core().readonly) {
        raise_readonly(m->pool->core().path);
        return false;
    }
    channel.pool = m->pool;
    create = hold == Py_None;
    if (create) return true;
    channel.held = held_by(m->pool, hold, channel.handle);
    return static_cast<bool>(channel.held);
}

std::vector<AsChannel>& channel_kinds() noexcept {
    static auto& all = *new std::vector<AsChannel>;
    return all;
}

Channel* channel_behind(PyObject* object) noexcept {
    for (AsChannel as_channel : channel_kinds()) {
        if (Channel* channel = as_channel(object)) return channel;
    }
    return nullptr;
}

Held held_by(const PoolPtr& pool, PyObject* object, Handle& handle) noexcept {
    const Held* held = nullptr;
    if (is_ref(object)) {
        held = &ref_of(object).held;
        handle = ref_of(object).handle;
    } else if (nb::isinstance<HoldObject>(object)) {
        held = &nb::inst_ptr<HoldObject>(object)->held;
        handle = nb::inst_ptr<HoldObject>(object)->handle;
    } else if (Channel* c = channel_behind(object)) {
        held = &c->held;
        handle = c->handle;
    } else if (LeaseObject* lease = lease_behind(object); lease != nullptr) {
        held = &lease->held;
        handle = lease->handle;
    } else {
        PyErr_Format(PyExc_TypeError, "an object of type %.200s stands for nothing in a pool",
                     Py_TYPE(object)->tp_name);
        return {};
    }
    if (!*held) {
        raise(is_ref(object) ? Error::stale : Error::root,
              "the %.200s was released or closed in this process", Py_TYPE(object)->tp_name);
        return {};
    }
    if (held->pool() != pool) {
        PyErr_Format(PyExc_ValueError, "the %.200s belongs to another pool",
                     Py_TYPE(object)->tp_name);
        return {};
    }
    return held->again();
}

bool others_hold(Member& m) noexcept {
    // [pool.blocks_top]
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    const u32 slot = m.slot;
    for (u32 i = 1; i < top; ++i) {
        Block& b = m.block(i);
        const BlockWord w{b.word.load_acquire()};  // [block.word]
        if (w.state() != BlockState::live || (w.flags() & kFlagBody) != 0) continue;
        for (u32 word = 0; word < kHolderWords; ++word) {
            u64 bits = b.holder_word(word).load_relaxed();
            if (slot / 64 == word) bits &= ~(u64{1} << (slot % 64));
            if (bits != 0) return true;
        }
    }
    return false;
}

}  // namespace onecopy::py
