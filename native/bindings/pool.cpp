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

Table table;  // guards `pools`, and the Python objects of Pools

// Never destroyed: leases may be dropped after static destructors ran.
std::unordered_map<const Member*, Pool*>& pools() {
    static auto& all = *new std::unordered_map<const Member*, Pool*>;
    return all;
}

// A share in a Pool of the table. Empty: another thread is destroying it.
PoolPtr shared(Pool* known) noexcept {
#ifdef Py_GIL_DISABLED
    return PoolPtr::taking_over(add_one_to_some(known->users) ? known : nullptr);
#else
    return PoolPtr(known);
#endif
}

}  // namespace

PoolPtr pool_of(std::shared_ptr<Member> member) {
    const Member* key = member.get();
    const Table::Inside inside(table);
    if (const auto known = pools().find(key); known != pools().end()) {
        if (PoolPtr found = shared(known->second); found != PoolPtr()) return found;
    }
    auto fresh = std::make_unique<Pool>(Pool{.member = std::move(member)});
    fresh->others_may_write = fresh->core().others_may_write;
    pools()[key] = fresh.get();
    return PoolPtr(fresh.release());
}

void PoolPtr::destroy(Pool* pool) noexcept {
    // First: leaving the pool may release the GIL, and no thread may find this object then.
    {
        const Table::Inside inside(table);
        const auto known = pools().find(pool->member.get());
        // Without the GIL, there may be a younger one.
        if (known != pools().end() && known->second == pool) pools().erase(known);
    }
#ifdef Py_GIL_DISABLED
    Py_XDECREF(pool->wrapper);
#endif
    delete pool;
}

#ifdef Py_GIL_DISABLED

namespace {

// The object of a weak reference: new, or nullptr without an exception.
PyObject* behind(PyObject* weak) noexcept {
    PyObject* found = nullptr;
    if (weak != nullptr && PyWeakref_GetRef(weak, &found) < 0) PyErr_Clear();
    return found;
}

}  // namespace

PyObject* member_object(const PoolPtr& given) noexcept {
    const PoolPtr pool = given;  // the object with `given` may lose it
    for (;;) {
        PyObject* known;
        {
            const Table::Inside inside(table);
            known = Py_XNewRef(pool->wrapper);
        }
        if (PyObject* found = behind(known); found != nullptr) {
            Py_DECREF(known);
            return found;
        }
        PyObject* object = new_instance(nb::type<MemberObject>());
        PyObject* weak = nullptr;
        if (object != nullptr) {
            new (nb::inst_ptr<MemberObject>(object)) MemberObject(pool);
            nb::inst_mark_ready(object);
            weak = PyWeakref_NewRef(object, nullptr);
            if (weak == nullptr) Py_CLEAR(object);
        }
        bool first = false;
        if (object != nullptr) {
            const Table::Inside inside(table);
            first = pool->wrapper == known;
            if (first) std::swap(pool->wrapper, weak);
        }
        Py_XDECREF(weak);  // the one before, or this one
        Py_XDECREF(known);
        if (object == nullptr || first) return object;
        Py_DECREF(object);  // another thread was faster
    }
}

MemberObject::~MemberObject() {}

#else

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

#endif

namespace {

// A copy: pools may come and go meanwhile.
std::vector<PoolPtr> all_pools() {
    std::vector<PoolPtr> all;
    const Table::Inside inside(table);
    all.reserve(pools().size());
    for (const auto& [key, known] : pools()) {
        if (PoolPtr found = shared(known); found != PoolPtr()) all.push_back(std::move(found));
    }
    return all;
}

}  // namespace

void for_each_pool(const std::function<void(Member&)>& act) {
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

namespace {

// Keeps another thread from releasing a memoryview. An object that exports none is left alone.
#ifdef Py_GIL_DISABLED
class Exported {
  public:
    explicit Exported(PyObject* object) noexcept {
        if (PyMemoryView_Check(object) && PyObject_GetBuffer(object, &view_, PyBUF_FULL_RO) != 0)
            PyErr_Clear();
    }
    ~Exported() { PyBuffer_Release(&view_); }
    Exported(const Exported&) = delete;
    Exported& operator=(const Exported&) = delete;

  private:
    Py_buffer view_{};
};
#else
struct Exported {
    explicit Exported(PyObject*) noexcept {}
    ~Exported() {}
};
#endif

}  // namespace

Held held_by(const PoolPtr& pool, PyObject* object, Handle& handle) noexcept {
    Held held;
    if (is_ref(object)) {
        held = own(look(ref_of(object).held));
        handle = ref_of(object).handle;
    } else if (nb::isinstance<HoldObject>(object)) {
        held = own(look(nb::inst_ptr<HoldObject>(object)->held));
        handle = nb::inst_ptr<HoldObject>(object)->handle;
    } else if (Channel* c = channel_behind(object)) {
        held = c->hold();
        handle = c->handle;
    } else if (const Exported exported(object); LeaseObject* lease = lease_behind(object)) {
        held = lease->held.again();
        handle = lease->handle;
    } else {
        PyErr_Format(PyExc_TypeError, "an object of type %.200s stands for nothing in a pool",
                     Py_TYPE(object)->tp_name);
        return {};
    }
    if (!held) {
        raise(is_ref(object) ? Error::stale : Error::root,
              "the %.200s was released or closed in this process", Py_TYPE(object)->tp_name);
        return {};
    }
    if (held.pool() != pool) {
        PyErr_Format(PyExc_ValueError, "the %.200s belongs to another pool",
                     Py_TYPE(object)->tp_name);
        return {};
    }
    return held;
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
