// Uses all of a pool that may be damaged: every answer is allowed but a signal or a hang.
#pragma once
#include "tests/hostile_pool.hpp"

namespace onecopy::hostile {

// ---- use

// Touches everything that a pool says is there: a wrong place is a segmentation fault.
inline void read_block(Member& m, Handle h) {
    BlockInfo info;
    if (inspect(m, handle_index(h), info) != Status::ok || info.length == 0) return;
    const volatile unsigned char* data = info.data;
    for (u64 at = 0; at < info.length; at += 4096)
        static_cast<void>(data[at]);
    static_cast<void>(data[info.length - 1]);
}
inline void write_block(const Allocated& a, u64 bytes) {
    std::memset(a.data, 0x5a, bytes);
}

struct Opened {
    Queue queue;
    Stream streams[3];
    Frames frames;
    Handle handles[5] = {};
    bool there[5] = {};
    Queue again;
    Handle again_handle = 0;
    campaign::Locks locks;
    bool locks_there[campaign::kLockCount] = {};
    Handle lock_handles[campaign::kLockCount] = {};
    List list;
    Dict dict;
    Handle list_handle = 0, dict_handle = 0;
};
constexpr NameKind kKinds[] = {NameKind::queue, NameKind::stream, NameKind::stream,
                               NameKind::stream, NameKind::frames};
constexpr const char* kNames[] = {"queue", "lossy", "lossless", "latest", "frames"};

inline void open_all(Member& m, Opened& o) {
    WaitPolicy wait(os::monotonic_ns() + 50'000'000);
    for (int i = 0; i < 5; ++i) {
        if (o.there[i]) continue;
        if (directory::find(m, kKinds[i], kNames[i], wait, o.handles[i]) != Status::ok) continue;
        const Status s = i == 0  ? Queue::open(m, o.handles[0], o.queue)
                         : i < 4 ? Stream::open(m, o.handles[i], o.streams[i - 1])
                                 : Frames::open(m, o.handles[4], o.frames);
        o.there[i] = s == Status::ok;
        if (!o.there[i]) drop(m, handle_index(o.handles[i]), wait);
    }
    auto find = [&](NameKind kind, const char* name, Handle& h, auto& out) {
        if (h != 0 || directory::find(m, kind, name, wait, h) != Status::ok) return false;
        if (std::remove_reference_t<decltype(out)>::open(m, h, out) == Status::ok) return true;
        drop(m, handle_index(h), wait);
        h = 0;
        return false;
    };
    find(NameKind::queue, "again", o.again_handle, o.again);
    find(NameKind::object, "list", o.list_handle, o.list);
    find(NameKind::object, "dict", o.dict_handle, o.dict);
    u32 i = 0;
    o.locks.open([&](const char* name, auto& lock) {
        o.locks_there[i] =
            find(NameKind::object, name, o.lock_handles[i], lock) || o.locks_there[i];
        ++i;
    });
}

inline void use_again(Member& m, Queue& q) {
    auto soon = [] { return os::monotonic_ns() + 2'000'000; };
    UnboundedWait wait;
    q.size();
    q.unfinished();
    q.full();
    for (int i = 0; i < 12; ++i) {
        WaitPolicy p(i % 4 ? 0 : soon()), r(soon()), d(soon());
        Message msg;
        if (i % 3 == 0) {
            msg = text("again");
            q.put(msg, p);
        } else if (q.get(msg, p) == Status::ok) {
            if (msg.block != 0) read_block(m, msg.block), drop(m, handle_index(msg.block), wait);
            if (i % 2)
                q.task_done(msg.position, r);
            else
                q.task_done(d);
        }
    }
    WaitPolicy j(soon());
    q.join(j);
}

// Not `use_locks`, which knows what must come out.
inline void use_locks_somehow(Opened& o) {
    auto soon = [] { return os::monotonic_ns() + 2'000'000; };
    campaign::Locks& l = o.locks;
    for (int round = 0; round < 2; ++round) {
        WaitPolicy p(round == 0 ? 0 : soon()), q(round == 0 ? 0 : soon()), r(soon()), s(soon()),
            t(soon());
        Owner who;
        if (o.locks_there[0] && good(l.mutex.acquire(p)))
            l.mutex.locked(), l.mutex.owner(who), round ? l.mutex.abandon() : l.mutex.release();
        Status again = Status::ok;
        if (o.locks_there[1] && good(l.rmutex.acquire(q))) {
            l.rmutex.acquire(q);
            if (o.locks_there[7]) {
                l.condition.waiting();
                l.condition.notify(l.rmutex, round ? 1000 : 2);
                l.condition.wait(l.rmutex, r, again);
            }
            if (good(again)) l.rmutex.release(), l.rmutex.release();
        }
        for (u32 i = 0; i < 3; ++i) {
            if (!o.locks_there[2 + i]) continue;
            WaitPolicy u(round == 0 ? 0 : soon()), v(round == 0 ? 0 : soon());
            RwLock& rw = l.rw[i];
            const Status in = rw.read(u);
            rw.readers();
            rw.owner(who);
            if (in == Status::owner_died) rw.downgrade();
            if (good(in)) rw.read_release();
            if (good(rw.write(v))) round ? rw.abandon() : rw.write_release();
        }
        u64 value = 0;
        if (o.locks_there[5]) {
            l.semaphore.value(value, s);
            if (l.semaphore.acquire(s) == Status::ok) l.semaphore.release(1, s);
            l.semaphore.release(3, s);
        }
        if (o.locks_there[6]) l.event.set(), l.event.wait(s), l.event.clear(), l.event.wait(s);
        if (o.locks_there[8]) {
            Barrier::Arrival mine;
            l.barrier.waiting();
            if (l.barrier.arrive(t, mine) == Status::ok)
                mine.trips ? l.barrier.trip(t, mine) : l.barrier.wait(t, mine);
            round ? l.barrier.reset(t) : l.barrier.abort(t);
        }
    }
}

inline void use_containers_somehow(Member& m, Opened& o, Handle item) {
    auto soon = [] { return os::monotonic_ns() + 2'000'000; };
    UnboundedWait wait;
    Handle out = 0;
    u64 n = 0;
    std::vector<Handle> all;
    auto release = [&](Status s) {
        if (s == Status::ok && out != 0) read_block(m, out);
        if (out != 0) drop(m, handle_index(out), wait);
        for (Handle each : all)
            read_block(m, each), drop(m, handle_index(each), wait);
        all.clear();
        out = 0;
    };
    if (o.list_handle != 0) {
        List& l = o.list;
        WaitPolicy p(soon());
        const u32 order[] = {2, 0, 1};
        l.size(p, n);
        if (item != 0) l.extend(&item, 1, p), l.set(3, item, p);
        release(l.get(5, p, out));
        release(l.get({0, 1 << 20, 2}, p, all));
        if (l.get(-1, p, out) == Status::ok) l.erase_if(-1, out, p), release(Status::ok);
        out = 0;
        l.erase_at(1, p);
        if (item != 0) l.assign({2, 4, 1}, &item, 1, p, n), l.assign({0, 99, 30}, &item, 1, p, n);
        l.erase({1, 6, 2}, p);
        l.reverse(p);
        l.repeat(2, p);
        if (l.get({0, 3, 1}, p, all) == Status::ok && all.size() == 3)
            l.erase({3, 1 << 20, 1}, p), l.reorder(all.data(), order, 3, p);
        release(Status::ok);
        l.pass(p);
        if (item != 0) l.extend(&item, 1, p);
        l.clear(p);
    }
    if (o.dict_handle != 0) {
        Dict& d = o.dict;
        WaitPolicy p(soon());
        DictItems items;
        d.size(p, n);
        for (u32 i = 0; i < 26; ++i) {
            const campaign::Numbered key(i, i % 4 == 0 ? 90 : 20);
            release(d.get(key.key(), p, out));
            if (item != 0 && i % 2) {
                if (d.set(key.key(), item, i % 3 == 0, p, out) != Status::exists) out = 0;
                release(Status::ok);
            }
            if (i % 7 == 0) d.erase(key.key(), p);
        }
        for (DictCursor at; !at.at_end && d.values(at, 5, p, all) == Status::ok;)
            release(Status::ok);
        release(Status::ok);
        d.items(true, true, p, items);
        all = items.values;
        release(Status::ok);
        items = {};
        if (d.last(p, items) == Status::ok && items.values.size() == 1)
            d.erase_if({reinterpret_cast<const unsigned char*>(items.keys.data()),
                        items.lengths[0] & ~kTwoForms, items.lengths[0] & ~kTwoForms},
                       items.values[0], true, p);
        all = items.values;
        release(Status::ok);
        d.pass(p);
        d.clear(p);
    }
    if (o.list_handle != 0) drop(m, handle_index(o.list_handle), wait);
    if (o.dict_handle != 0) drop(m, handle_index(o.dict_handle), wait);
    o.list_handle = o.dict_handle = 0;
}

inline void use(Member& m, Opened& o) {
    auto soon = [] { return os::monotonic_ns() + 2'000'000; };
    UnboundedWait wait;
    heap_stats(m);
    validate(m);
    collect_dead(m);
    open_all(m, o);
    std::vector<Allocated> mine;
    for (u64 bytes : {64, 100, 5000, 300, 90'000, 3'000'000, 64, 128}) {
        Allocated a;
        if (allocate(m, {.bytes = bytes, .zero = bytes == 300}, wait, a) != Status::ok) continue;
        write_block(a, bytes);
        mine.push_back(a);
    }
    if (o.there[0]) {
        o.queue.size();
        o.queue.unfinished();
        for (int i = 0; i < 140; ++i) {
            Message msg;
            WaitPolicy p(i % 16 ? 0 : soon());
            if (o.queue.get(msg, p) == Status::ok && msg.block != 0) {
                read_block(m, msg.block);
                drop(m, handle_index(msg.block), wait);
            }
            if (i % 2) continue;
            msg = text("again");
            if (!mine.empty() && i % 4) msg.block = handle_of(m, mine[0].index);
            WaitPolicy q(i % 16 ? 0 : soon());
            o.queue.put(msg, q);
        }
        Message many[100];
        u32 n = 0;
        WaitPolicy p(soon()), q(soon()), r(soon());
        o.queue.get_many(many, 100, n, p);
        for (u32 i = 0; i < n; ++i)
            if (many[i].block != 0) drop(m, handle_index(many[i].block), wait);
        for (auto& each : many)
            each = text();
        o.queue.put_many(many, 100, n, q);
        for (int k = 0; k < 3; ++k) {
            WaitPolicy done(soon());
            o.queue.task_done(done);
        }
        o.queue.join(r);
    }
    for (int k = 0; k < 3; ++k) {
        if (!o.there[k + 1]) continue;
        Stream& s = o.streams[k];
        s.subscribers();
        u32 me = 0;
        WaitPolicy p(soon());
        const bool in = s.subscribe(p, me) == Status::ok;
        for (int i = 0; i < 12; ++i) {
            Message msg = text();
            if (!mine.empty() && i % 2) msg.block = handle_of(m, mine.back().index);
            WaitPolicy q(i % 4 ? 0 : soon()), r(i % 4 ? 0 : soon());
            s.publish(msg, q);
            u64 missed = 0;
            if (in && i % 3 && s.read(me, msg, missed, r) == Status::ok && msg.block != 0) {
                read_block(m, msg.block);
                drop(m, handle_index(msg.block), wait);
            }
        }
        if (in) s.unsubscribe(me);
    }
    if (o.there[4]) {
        o.frames.available();
        for (int i = 0; i < 4; ++i) {
            Handle h = 0;
            WaitPolicy p(i % 2 ? 0 : soon());
            if (o.frames.acquire(p, h) != Status::ok) continue;
            read_block(m, h);
            if (i != 1) drop(m, handle_index(h), wait);
        }
    }
    if (o.again_handle != 0) use_again(m, o.again);
    use_locks_somehow(o);
    use_containers_somehow(m, o, mine.empty() ? 0 : handle_of(m, mine[0].index));
    std::vector<directory::Item> items;
    directory::list(m, wait, items);
    directory::count(m, NameKind::object);
    for (const auto& item : items) {
        Handle h = 0, found = 0;
        if (directory::find(m, item.kind, item.name, wait, h) != Status::ok) continue;
        read_block(m, h);
        directory::set(m, item.kind, item.name + "2", h, true, wait, found);
        directory::erase(m, item.kind, item.name, wait);
        drop(m, handle_index(h), wait);
    }
    for (const Allocated& a : mine)
        drop(m, a.index, wait);
    trim(m);
    for (u64 h :
         {u64{0}, u64{1}, ~u64{0}, u64{5} << 32 | 3, u64{1} << 32 | 0x7fffffff, u64{1} << 32 | 2}) {
        if (hold(m, h) == Status::ok) drop(m, handle_index(h), wait);
    }
    for (int i = 0; i < 5; ++i)
        if (o.there[i]) drop(m, handle_index(o.handles[i]), wait);
    for (Handle lock : o.lock_handles)
        if (lock != 0) drop(m, handle_index(lock), wait);
    if (o.again_handle != 0) drop(m, handle_index(o.again_handle), wait);
    validate(m);
}

// When a pool was found corrupt, every operation refuses it.
inline bool is_refused(Member& m, Opened& o) {
    UnboundedWait wait;
    Allocated a;
    Handle h = 0;
    Message msg = text();
    WaitPolicy now(0);
    if (allocate(m, {.bytes = 100}, wait, a) != Status::corrupt) return false;
    if (directory::find(m, NameKind::object, "parent", wait, h) != Status::corrupt) return false;
    if (o.there[0] &&
        (o.queue.put(msg, now) != Status::corrupt || o.queue.get(msg, now) != Status::corrupt))
        return false;
    if (o.there[1] && o.streams[0].publish(msg, now) != Status::corrupt) return false;
    if (o.there[4] && o.frames.acquire(now, h) != Status::corrupt) return false;
    return m.check() != Status::ok;  // its version may be damaged as well
}

}  // namespace onecopy::hostile
