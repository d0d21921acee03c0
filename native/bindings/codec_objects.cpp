// Objects without a form of their own: a pickle, with the large buffers outside of the pickle.
//
// A message that is too large for a slot is a block:
//
//|  PickleHead    16 bytes
//|  PickleBuffer  24 bytes each: in which child, where in it, how long
//|  cells         u64 each: references to the children
//|  the pickle
//
// A child is a block that has buffers: a block that was in the pool before, or a new block with the
// copy of a buffer. Each copy has a block of its own. So a receiver that keeps one part of a
// message keeps only the memory of that part.
#include <unordered_map>

#include "base/private_memory.hpp"
#include "bindings/codec.hpp"
#include "bindings/codec_buffers.hpp"
#include "bindings/errors.hpp"
#include "bindings/pool.hpp"

namespace onecopy::py {
namespace {

PyObject* wrong_object(const PoolPtr& pool) noexcept {
    return raise_corrupt(pool, "a pickled object");
}

// pickle.dumps and pickle.loads, found once.
PyObject* pickle_function(const char* name, Kept& cache) noexcept {
    PyObject* known = cache.get();
    if (known == nullptr) {
        PyObject* module = PyImport_ImportModule("pickle");
        if (module == nullptr) return nullptr;
        known = cache.keep(PyObject_GetAttrString(module, name));
        Py_DECREF(module);
    }
    return known;
}

// It contains no arrays, so the codec hook (written in Python) would do nothing.
bool is_plain(PyObject* object, int& budget, int depth, Stills& stills) noexcept {
    if (--budget < 0 || depth > 8) return false;
    PyTypeObject* type = Py_TYPE(object);
    if (type == &PyLong_Type || type == &PyFloat_Type || type == &PyUnicode_Type ||
        type == &PyBool_Type || type == &PyBytes_Type || object == Py_None ||
        type == &PyComplex_Type) {
        return true;
    }
    if (type == &PyDict_Type) {
        if (PyDict_GET_SIZE(object) > budget) return false;  // before it is copied
        PyObject *key, *value, *still = stills.of(object);
        Py_ssize_t at = 0;
        while (still != nullptr && PyDict_Next(still, &at, &key, &value)) {
            if (!is_plain(key, budget, depth + 1, stills) ||
                !is_plain(value, budget, depth + 1, stills))
                return false;
        }
        return still != nullptr;
    }
    if (type == &PyList_Type) {
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(object); ++i) {
            const Item item = item_of(object, i);
            if (Stills::kCopies && item.get() == nullptr) return false;
            if (!is_plain(item.get(), budget, depth + 1, stills)) return false;
        }
        return true;
    }
    if (type == &PyTuple_Type) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i) {
            if (!is_plain(PyTuple_GET_ITEM(object, i), budget, depth + 1, stills)) return false;
        }
        return true;
    }
    return false;
}

// A block for each size, without waiting for memory. If it fails, `parts` keeps the blocks so far.
Status claim_at_once(const PoolPtr& pool, const std::vector<u64>& sizes, std::vector<Held>& parts,
                     std::vector<unsigned char*>& data) noexcept {
    for (const u64 size : sizes) {
        Allocated block;
        const Status s = AtOnce().allocate(pool, {.bytes = size}, block);
        if (s != Status::ok) return s;
        parts.emplace_back(pool, block.index);
        data.push_back(block.data);
    }
    return Status::ok;
}

}  // namespace

Copy of_part(Copy how, bool fresh) noexcept {
    if (how != Copy::fresh) return as_said(how);
    return fresh ? Copy::all : as_said(Copy::unsaid);
}

PyObject* part(Held block, u64 offset, u64 bytes, Copy how) noexcept {
    const PoolPtr pool = block.pool();
    // A complete envelope is not data: it means a reference to an object (pickles of `Executor`).
    if (how != Copy::none && offset == 0 && is_envelope(block)) how = Copy::none;
    LeaseObject* lease = make_lease(std::move(block), false);
    if (lease == nullptr) return nullptr;
    if (bytes > lease->block_length || offset > lease->block_length - bytes) {
        Py_DECREF(lease);
        return wrong_object(pool);
    }
    if (how != Copy::none && !lease->shared) {
        PyObject* memory = memory_of(lease, offset, bytes, how);
        Py_DECREF(lease);
        return memory;
    }
    narrow(lease, offset, bytes);
    return reinterpret_cast<PyObject*>(lease);
}

bool fill_part(const Held& held, u64 offset, unsigned char* data, PyObject* buffer,
               const Py_buffer& view) noexcept {
    if (!PyTuple_CheckExact(buffer)) {
        copy_into_pool(held.core(), data, view.buf, static_cast<u64>(view.len));
        return true;
    }
    LeaseObject* lease = make_lease(held.again(), true);
    if (lease == nullptr) return false;
    narrow(lease, offset, static_cast<u64>(view.len));
    PyObject* result =
        PyObject_CallOneArg(PyTuple_GET_ITEM(buffer, 1), reinterpret_cast<PyObject*>(lease));
    lease->readonly = true;
    Py_DECREF(lease);
    Py_XDECREF(result);
    crash_point();
    return result != nullptr;
}

namespace {

// pickle.loads. `buffers`: a list.
PyObject* loads(PyObject* pickle, PyObject* buffers) noexcept {
    static Kept kept, kept_names;
    PyObject* function = pickle_function("loads", kept);
    if (function == nullptr) return nullptr;
    if (PyList_GET_SIZE(buffers) == 0) return PyObject_CallOneArg(function, pickle);
    PyObject* names = kept_names.get();
    if (names == nullptr) names = kept_names.keep(Py_BuildValue("(s)", "buffers"));
    PyObject* arguments[] = {pickle, buffers};
    return names == nullptr ? nullptr : PyObject_Vectorcall(function, arguments, 1, names);
}

}  // namespace

void explain() noexcept {
    const bool is_missing =
        hooks.missing != nullptr && PyErr_ExceptionMatches(PyExc_ModuleNotFoundError);
    SavedError error;
    if (is_missing) {
        Py_XDECREF(PyObject_CallOneArg(hooks.missing, error.value()));  // it raises
    } else {
        Py_XDECREF(PyObject_CallMethod(error.value(), "add_note", "s",
                                       "(raised while an object was rebuilt from a pool)"));
        PyErr_Clear();
    }
    if (PyErr_Occurred() == nullptr) error.restore();
}

PyObject* rebuild(PyObject* pickle, PyObject* buffers, Copy how) noexcept {
    PyObject* result = nullptr;
    if (pickle != nullptr && buffers != nullptr) {
        const Rebuilding privately(how == Copy::all || how == Copy::on_write);
        result = loads(pickle, buffers);
        if (result == nullptr) explain();
    }
    Py_XDECREF(pickle);
    Py_XDECREF(buffers);
    return result;
}

bool Views::add(PyObject* buffer) noexcept {
    Py_buffer view{};
    if (PyTuple_CheckExact(buffer)) {
        Py_ssize_t bytes = -1;
        if (PyTuple_GET_SIZE(buffer) == 2) bytes = PyLong_AsSsize_t(PyTuple_GET_ITEM(buffer, 0));
        if (bytes < 0) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError,
                                "a buffer to be written is a tuple (bytes, write), bytes >= 0");
            return false;
        }
        view.len = bytes;
    } else if (PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE) != 0) {
        return false;
    }
    all.push_back(view);  // there is room
    return true;
}

bool is_plain(PyObject* object) noexcept {
    int budget = 64;
    Stills stills;
    const bool plain = is_plain(object, budget, 0, stills);
    if (Stills::kCopies && !plain) PyErr_Clear();  // no memory for a copy
    return plain;
}

PyObject* plain_dumps(PyObject* object) noexcept {
    static Kept kept, kept_protocol;
    PyObject* dumps = pickle_function("dumps", kept);
    PyObject* protocol = kept_protocol.get();
    if (protocol == nullptr) protocol = kept_protocol.keep(PyLong_FromLong(5));
    if (dumps == nullptr || protocol == nullptr) return nullptr;
    PyObject* arguments[] = {object, protocol};
    PyObject* data = PyObject_Vectorcall(dumps, arguments, 2, nullptr);
    if (data != nullptr && !PyBytes_CheckExact(data)) {
        Py_CLEAR(data);
        PyErr_SetString(PyExc_TypeError, "pickle.dumps did not return bytes");
    }
    return data;
}

PyObject* plain_loads(PyObject* bytes) noexcept {
    static Kept kept;
    PyObject* loads = pickle_function("loads", kept);
    return loads == nullptr ? nullptr : PyObject_CallOneArg(loads, bytes);
}

// ---- encoding -----------------------------------------------------------------------------------

bool Encoding::encode_pickle(PyObject* object) noexcept {
    if (hooks.encode == nullptr || is_plain(object)) {
        PyObject* pickle = plain_dumps(object);
        if (pickle == nullptr) return false;
        const bool done = pack(pickle, nullptr);
        Py_DECREF(pickle);
        return done;
    }
    PyObject* member = member_object(pool_);
    if (member == nullptr) return false;
    PyObject* arguments[] = {object, member};
    PyObject* parts = PyObject_Vectorcall(hooks.encode, arguments, 2, nullptr);
    Py_DECREF(member);
    if (parts == nullptr) return false;
    PyObject *pickle = nullptr, *buffers = nullptr;
    const bool done = take_pickle(parts, pickle, buffers) && pack(pickle, buffers);
    Py_XDECREF(pickle);
    Py_XDECREF(buffers);
    Py_DECREF(parts);
    return done;
}

bool Encoding::take_pickle(PyObject* parts, PyObject*& pickle, PyObject*& buffers) noexcept {
    const Py_ssize_t n = PyTuple_Check(parts) ? PyTuple_GET_SIZE(parts) : 0;
    if ((n != 2 && n != 3) || !PyBytes_Check(PyTuple_GET_ITEM(parts, 0)) ||
        !PyList_Check(PyTuple_GET_ITEM(parts, 1)) ||
        (n == 3 && !PyList_Check(PyTuple_GET_ITEM(parts, 2)))) {
        PyErr_SetString(
            PyExc_TypeError,
            "the encode hook must return (bytes, list of buffers, list of arrays to seal)");
        return false;
    }
    pickle = Py_NewRef(PyTuple_GET_ITEM(parts, 0));
    buffers = Py_NewRef(PyTuple_GET_ITEM(parts, 1));
    Py_XSETREF(buffers_, Py_NewRef(buffers));
    for (Py_ssize_t i = 0; n == 3 && i < PyList_GET_SIZE(PyTuple_GET_ITEM(parts, 2)); ++i) {
        if (!also_seal(PyList_GET_ITEM(PyTuple_GET_ITEM(parts, 2), i))) return false;
    }
    return true;
}

bool Encoding::pack(PyObject* pickle, PyObject* buffers) noexcept {
    Views views;
    std::vector<Place> places;
    const Py_ssize_t n = buffers == nullptr ? 0 : PyList_GET_SIZE(buffers);
    if (!has_room([&] {
            views.all.reserve(static_cast<std::size_t>(n));
            places.reserve(static_cast<std::size_t>(n));
        }))
        return false;
    for (Py_ssize_t i = 0; i < n; ++i) {
        PyObject* buffer = PyList_GET_ITEM(buffers, i);
        if (!views.add(buffer)) return false;
        const Py_buffer& view = views.all.back();
        Place& place = places.emplace_back();
        if (view.len > 0 && view.buf != nullptr)
            locate(pool_, buffer, static_cast<const unsigned char*>(view.buf),
                   static_cast<u64>(view.len), place);
    }
    const auto pickle_bytes = static_cast<std::size_t>(PyBytes_GET_SIZE(pickle));
    if (n > 1 || pickle_bytes + 2 + (n == 1 ? 16 : 0) > kInlineBytes)
        return pack_block(pickle, buffers, views.all, places);

    u64 offset = 0, bytes = 0;
    if (n == 1) {
        bytes = static_cast<u64>(views.all[0].len);
        if (places[0].held) {
            offset = places[0].offset;
            go_by(std::move(places[0]));
        } else {
            unsigned char* data = claim(bytes);
            if (data == nullptr) return false;
            offset = prefix_;
            if (!fill_part(held, offset, data, PyList_GET_ITEM(buffers, 0), views.all[0]))
                return false;
        }
    }
    Writer to(message.bytes, message.bytes + kInlineBytes);
    to.put(Tag::pickle);
    to.put(static_cast<u8>(n | (new_block ? kFresh : 0)));
    if (n == 1) {
        to.put(offset);
        to.put(bytes);
    }
    to.put(PyBytes_AS_STRING(pickle), pickle_bytes);
    message.length = static_cast<u32>(to.at() - message.bytes);
    return true;
}

// Memory for a message of several parts. A sender that waits for room holds none of it. Otherwise
// two senders, each with half of its blocks, could wait for each other.
bool Encoding::claim_parts(u64 bytes, const std::vector<u64>& sizes, std::vector<Held>& parts,
                           std::vector<unsigned char*>& data) noexcept {
    u64 together = prefix_ + bytes;
    for (const u64 size : sizes)
        together = round_up(together, kUnit) + size;
    for (;;) {
        Status s = claim_at_once(pool_, sizes, parts, data);
        Allocated block;
        if (s == Status::ok)
            s = AtOnce().allocate(pool_, {.bytes = prefix_ + bytes, .flags = flags_}, block);
        if (s == Status::ok) {
            take(block);
            return true;
        }
        parts.clear();
        data.clear();
        if (s == Status::no_memory) s = memory_.allocate(pool_, {.bytes = together}, block);
        if (s != Status::ok) {
            raise_claim(s, together);
            return false;
        }
        const Held room(pool_, block.index);  // there is room now: release it, and take the parts
    }
}

bool Encoding::pack_block(PyObject* pickle, PyObject* buffers, std::vector<Py_buffer>& views,
                          std::vector<Place>& places) noexcept {
    const auto pickle_bytes = static_cast<u64>(PyBytes_GET_SIZE(pickle));
    if (views.size() > 1u << 24) {
        PyErr_SetString(PyExc_ValueError, "the object consists of more than 16 million buffers");
        return false;
    }
    // Children: each block once, however many buffers it has.
    std::vector<Handle> children;
    std::vector<PickleBuffer> table;
    std::vector<u64> sizes;
    std::vector<Held> parts;
    std::vector<unsigned char*> memory;
    u32 old = 0;  // children that were in the pool before
    const bool described = has_room([&] {
        std::unordered_map<Handle, u32> known;
        std::size_t copies = 0;
        table.resize(views.size());
        for (std::size_t i = 0; i < table.size(); ++i) {
            table[i] = {kNoChild, 0, 0, static_cast<u64>(views[i].len)};
            if (places[i].held) {
                const auto [at, is_new] =
                    known.try_emplace(places[i].handle, static_cast<u32>(children.size()));
                if (is_new) children.push_back(places[i].handle);
                table[i].child = at->second;
                table[i].offset = places[i].offset;
            } else {
                table[i].fresh = 1;
                if (table[i].bytes != 0) ++copies;
            }
        }
        old = static_cast<u32>(children.size());
        const std::size_t per_part = (copies + kMostParts - 1) / kMostParts;
        std::size_t copy = 0;
        for (PickleBuffer& buffer : table) {
            if (buffer.fresh == 0 || buffer.bytes == 0) continue;
            if (copy++ % per_part == 0) sizes.push_back(0);
            buffer.child = old + static_cast<u32>(sizes.size() - 1);
            buffer.offset = round_up(sizes.back(), kUnit);
            sizes.back() = buffer.offset + buffer.bytes;
        }
        children.reserve(children.size() + sizes.size());
        parts.reserve(sizes.size());
        memory.reserve(sizes.size());
    });
    if (!described) return false;
    const std::size_t count = children.size() + sizes.size();
    const u64 cells_at = sizeof(PickleHead) + table.size() * sizeof(PickleBuffer);
    const u64 pickle_at = cells_at + count * 8;
    if (!claim_parts(pickle_at + pickle_bytes, sizes, parts, memory)) return false;

    Member& m = pool_->core();
    BlockInfo info;
    if (inspect(m, held.index(), info) != Status::ok) {
        wrong_object(pool_);
        return false;
    }
    unsigned char* data = info.data + prefix_;
    for (const Held& part : parts)
        children.push_back(handle_of(m, part.index()));
    const PickleHead head{static_cast<u32>(table.size()), static_cast<u32>(count), pickle_bytes};
    copy_in(data, &head, sizeof head);
    copy_in(data + sizeof head, table.data(), table.size() * sizeof(PickleBuffer));
    copy_into_pool(m, data + pickle_at, PyBytes_AS_STRING(pickle), pickle_bytes);
    for (std::size_t i = 0; i < table.size(); ++i) {
        if (table[i].fresh == 0 || table[i].bytes == 0) continue;
        const std::size_t part = table[i].child - old;
        if (!fill_part(parts[part], table[i].offset, memory[part] + table[i].offset,
                       PyList_GET_ITEM(buffers, static_cast<Py_ssize_t>(i)), views[i]))
            return false;
    }
    if (!children.empty()) {
        auto* cells = reinterpret_cast<shm_atomic<u64>*>(data + cells_at);
        for (std::size_t i = 0; i < children.size(); ++i)
            cells[i].store_relaxed(0);
        declare_cells(m, held.index(), static_cast<u32>(prefix_ + cells_at), 8,
                      static_cast<u32>(children.size()));
        for (std::size_t i = 0; i < children.size(); ++i) {
            if (const Status s = swap_cell(m, cells[i], 0, children[i]); s != Status::ok) {
                raise_status(s, "an array in the pool");
                return false;
            }
        }
    }
    Writer to(message.bytes, message.bytes + kInlineBytes);
    to.put(Tag::pickle_block);
    to.put(u64{prefix_});
    message.length = static_cast<u32>(to.at() - message.bytes);
    return true;
}

// ---- decoding -----------------------------------------------------------------------------------

PyObject* decode_pickle(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept {
    if (pool->others_may_write) return raise_untrusted();
    u8 n;
    u64 offset = 0, bytes = 0;
    const bool known = from.get(n);
    const bool fresh = known && (n & kFresh) != 0;
    n &= static_cast<u8>(~kFresh);
    if (!known || n > 1 || (n == 1 && (!from.get(offset) || !from.get(bytes) || !block)))
        return wrong_object(pool);
    const std::size_t length = from.left();
    PyObject* pickle = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(from.take(length)),
                                                 static_cast<Py_ssize_t>(length));
    PyObject* buffers = pickle == nullptr ? nullptr : PyList_New(n);
    if (buffers != nullptr && n == 1) {
        PyObject* buffer = part(std::move(block), offset, bytes, of_part(how, fresh));
        if (buffer != nullptr) {
            PyList_SET_ITEM(buffers, 0, buffer);
        } else {
            Py_CLEAR(buffers);
        }
    }
    return rebuild(pickle, buffers, how);
}

PyObject* decode_pickle_block(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept {
    if (pool->others_may_write) return raise_untrusted();
    Member& m = pool->core();
    u64 at;
    BlockInfo info;
    if (!from.get(at) || !block || inspect(m, block.index(), info) != Status::ok || at % 8 != 0 ||
        at > info.length)
        return wrong_object(pool);
    Reader body(info.data + at, info.length - at);
    PickleHead head;
    if (!body.get(head) || u64{head.buffers} * sizeof(PickleBuffer) > body.left())
        return wrong_object(pool);
    const unsigned char* table = body.take(u64{head.buffers} * sizeof(PickleBuffer));
    if (table == nullptr || u64{head.children} * 8 > body.left()) return wrong_object(pool);
    const unsigned char* cells = body.take(u64{head.children} * 8);
    if (cells == nullptr || head.pickle_bytes > body.left()) return wrong_object(pool);
    const auto pickle_at = static_cast<u64>(cells - info.data) + u64{head.children} * 8;

    PyObject* buffers = PyList_New(static_cast<Py_ssize_t>(head.buffers));
    for (u32 i = 0; buffers != nullptr && i < head.buffers; ++i) {
        PickleBuffer buffer;
        std::memcpy(&buffer, table + u64{i} * sizeof buffer, sizeof buffer);
        Held source;
        if (buffer.child < head.children) {
            // [block.cell]
            const Handle child =
                reinterpret_cast<const shm_atomic<u64>*>(cells)[buffer.child].load_acquire();
            if (hold(m, child) == Status::ok) source = Held(pool, handle_index(child));
        } else if (buffer.child == kNoChild && buffer.bytes == 0) {
            source = block.again();
        }
        PyObject* item = source ? part(std::move(source), buffer.offset, buffer.bytes,
                                       of_part(how, buffer.fresh != 0))
                                : wrong_object(pool);
        if (item != nullptr) {
            PyList_SET_ITEM(buffers, i, item);
        } else {
            Py_CLEAR(buffers);
        }
    }
    // Not copied: pickle reads it where it is.
    PyObject* pickle =
        buffers == nullptr ? nullptr : part(std::move(block), pickle_at, head.pickle_bytes);
    return rebuild(pickle, buffers, how);
}

}  // namespace onecopy::py
