// Looking at a pool, and cleaning up in it.
#include <algorithm>
#include <bit>

#include "bindings/member.hpp"
#include "directory/things.hpp"
#include "heap/heap.hpp"
#include "recovery/recovery.hpp"

namespace onecopy::py {

namespace {

// What these functions answer depends on the pool's descriptor, so that is checked first.
Status look_at_first(const Member& m) noexcept {
    if (!m.joined.load()) return Status::closed;
    return m.readonly || m.file.is_ours() ? Status::ok : Status::lost;
}

PyObject* refuse(const Member& m, Status s) noexcept {
    return s == Status::closed ? raise_closed(m, "the pool") : raise_status(s, "the pool");
}

u32 rows_used(const Member& m) noexcept {
    return std::min(m.header().rows_used.load_acquire(),
                    m.geo().max_processes);  // [pool.rows_used]
}
bool is_taken(const Member& m, u32 slot) noexcept {
    return m.row(slot).state.load_acquire() != static_cast<u32>(RowState::free);  // [row.state]
}

struct Holder {
    u32 slot = 0;
    u32 pid = 0;
    bool alive = false;
    u64 start_ticks = 0, born_ns = 0, blocks = 0, bytes = 0;
    u64 share = 0;  // of each block, its bytes divided by the number of its holders
};

struct Fill {
    HeapStats heap{};
    unsigned long long processes = 0;
    unsigned max_processes = 0;
};

Fill look_at_fill(Member& m) noexcept {
    Fill fill{heap_stats(m), 0, m.geo().max_processes};
    for (u32 i = 0; i < rows_used(m); ++i)
        fill.processes += is_taken(m, i) && m.is_alive(i) ? 1 : 0;
    return fill;
}

std::vector<Holder> look_at_holders(Member& m) {
    std::vector<Holder> all(rows_used(m));
    // [pool.blocks_top]
    const u32 top = std::min(m.header().blocks_top.load_acquire(), m.geo().max_blocks);
    for (u32 i = 1; i < top; ++i) {
        Block& b = m.block(i);
        const BlockWord w{b.word.load_acquire()};  // [block.word]
        if (w.state() != BlockState::live || (w.flags() & kFlagBody) != 0) continue;
        const u64 size = b.size.load_relaxed() - b.slack.load_relaxed();  // as `used` counts
        u64 words[kHolderWords];  // read once, so that what is counted is what is divided by
        u64 holders = 0;
        for (u32 word = 0; word < kHolderWords; ++word) {
            words[word] = b.holder_word(word).load_relaxed();
            holders += static_cast<u64>(std::popcount(words[word]));
        }
        for (u32 word = 0; word < kHolderWords; ++word) {
            for (u64 bits = words[word]; bits != 0; bits &= bits - 1) {
                const u32 slot = word * 64 + static_cast<u32>(std::countr_zero(bits));
                if (slot >= all.size()) continue;
                ++all[slot].blocks;
                all[slot].bytes += size;
                all[slot].share += size / holders;
            }
        }
    }
    for (u32 i = 0; i < all.size(); ++i) {
        const Row& row = m.row(i);
        all[i].slot = i;
        all[i].pid = row.pid.load_relaxed();
        all[i].start_ticks = row.start_ticks.load_relaxed();
        all[i].born_ns = row.born_ns.load_relaxed();
        all[i].alive = m.is_alive(i);
    }
    std::erase_if(all, [&](const Holder& h) { return !is_taken(m, h.slot); });
    std::stable_sort(all.begin(), all.end(),
                     [](const Holder& a, const Holder& b) { return a.bytes > b.bytes; });
    return all;
}

PyObject* as_dict(const Fill& fill) noexcept {
    auto number = [](u64 n) { return static_cast<unsigned long long>(n); };
    const HeapStats& heap = fill.heap;
    return Py_BuildValue("{sKsKsKsKsKsKsKsKsI}", "capacity", number(heap.capacity), "used",
                         number(heap.used), "body_bytes", number(heap.body_bytes), "committed",
                         number(heap.committed), "heap_top", number(heap.heap_top), "blocks",
                         number(heap.blocks), "bodies", number(heap.bodies), "processes",
                         fill.processes, "max_processes", fill.max_processes);
}

PyObject* as_list(const std::vector<Holder>& all) noexcept {
    PyObject* list = PyList_New(0);
    auto number = [](u64 n) { return static_cast<unsigned long long>(n); };
    for (const Holder& h : all) {
        if (list == nullptr) break;
        PyObject* one =
            Py_BuildValue("{sIsIsKsOsKsKsKsK}", "slot", h.slot, "pid", h.pid, "start_ticks",
                          number(h.start_ticks), "alive", h.alive ? Py_True : Py_False, "blocks",
                          number(h.blocks), "bytes", number(h.bytes), "born_ns", number(h.born_ns),
                          "share", number(h.share));
        if (one == nullptr || PyList_Append(list, one) != 0) Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

}  // namespace

PyObject* stats(Member& m) noexcept {
    if (Status s = look_at_first(m); s == Status::lost || m.excluded != Status::ok)
        return refuse(m, s);
    Fill fill;
    {
        Outside outside;
        fill = look_at_fill(m);
    }
    return as_dict(fill);
}

PyObject* holders(Member& m) {
    if (Status s = look_at_first(m); s == Status::lost || m.excluded != Status::ok)
        return refuse(m, s);
    std::vector<Holder> all;
    {
        Outside outside;
        all = look_at_holders(m);
    }
    return as_list(all);
}

PyObject* things(Member& m) {
    if (Status s = look_at_first(m); s == Status::lost || m.excluded != Status::ok)
        return refuse(m, s);
    std::vector<directory::Thing> all;
    Status s;
    {
        WaitOutside p;
        s = directory::things(m, p, all);
    }
    if (PyErr_Occurred()) return nullptr;
    if (s != Status::ok) return raise_status(s, "the pool's directory");
    PyObject* list = PyList_New(0);
    for (const directory::Thing& thing : all) {
        if (list == nullptr) break;
        const std::string& name = thing.name;
        // The text as it was given: what another process has written may not be UTF-8.
        PyObject* text = name.empty()
                             ? Py_NewRef(Py_None)
                             : PyUnicode_DecodeUTF8(
                                   name.data(), static_cast<Py_ssize_t>(name.size()), "replace");
        PyObject* one = text == nullptr
                            ? nullptr
                            : Py_BuildValue("(INKKII)", static_cast<unsigned>(thing.kind), text,
                                            static_cast<unsigned long long>(thing.bytes),
                                            static_cast<unsigned long long>(thing.blocks),
                                            thing.processes, thing.index);
        if (one == nullptr || PyList_Append(list, one) != 0) Py_CLEAR(list);
        Py_XDECREF(one);
    }
    return list;
}

PyObject* look_at(Through way, const std::string& directory, const std::string& name) {
    Fill fill;
    std::vector<Holder> all;
    Failure why;
    Status s;
    {
        Outside outside;
        s = look_at_pool(
            way, directory, name,
            [&](Member& m) {
                fill = look_at_fill(m);
                all = look_at_holders(m);
            },
            why);
    }
    if (s != Status::ok) return raise_for_pool(s, why, directory + "/" + name);
    PyObject* dict = as_dict(fill);
    PyObject* list = dict == nullptr ? nullptr : as_list(all);
    if (list == nullptr) {
        Py_XDECREF(dict);
        return nullptr;
    }
    return Py_BuildValue("(NN)", dict, list);
}

PyObject* validate_pool(Member& m) {
    if (Status s = look_at_first(m); s != Status::ok) return refuse(m, s);
    std::vector<std::string> wrong;
    {
        WaitOutside p;
        wrong = validate(m, p);
    }
    if (PyErr_Occurred()) return nullptr;
    return strings(wrong);
}

PyObject* collect(Member& m) noexcept {
    if (Status s = look_at_first(m); s != Status::ok) return refuse(m, s);
    if (m.corrupt()) return raise_status(Status::corrupt, "the pool");
    u32 before, after;
    {
        WaitOutside p;
        announce(m, p);  // at the fork there may have been no free descriptor for it
        before = m.header().live_blocks.load_relaxed();
        collect_dead(m);
        give_back_left(m, p);
        after = m.header().live_blocks.load_relaxed();
    }
    if (PyErr_Occurred()) return nullptr;
    return PyLong_FromUnsignedLong(before > after ? before - after
                                                  : 0);  // others may have allocated meanwhile
}

PyObject* trim_pool(Member& m) noexcept {
    if (Status s = look_at_first(m); s != Status::ok) return refuse(m, s);
    if (m.corrupt()) return raise_status(Status::corrupt, "the pool");
    u64 bytes;
    {
        WaitOutside p;
        bytes = trim(m, p);
    }
    if (PyErr_Occurred()) return nullptr;
    return PyLong_FromUnsignedLongLong(bytes);
}

}  // namespace onecopy::py
