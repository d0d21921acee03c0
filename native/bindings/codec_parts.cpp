// The parts of a packed message: arrays, and the one pickle of the objects that the core does not
// know. Also the layout of a message, in its slot or in a block, and how a reader finds its parts.
#include <tuple>

#include "base/private_memory.hpp"
#include "bindings/codec_buffers.hpp"
#include "bindings/codec_packed.hpp"
#include "bindings/errors.hpp"

namespace onecopy::py {
namespace {

constexpr std::size_t kShortDtype = 64;
constexpr std::size_t kLongestDtype = 0x10000 + 16;

}  // namespace

// ---- arrays -------------------------------------------------------------------------------------

// Kind, child if it has one, and the dtype. `too_long`: no message has room for the dtype.
bool Packer::write_head_of_array(PyArrayObject* array, PartKind kind, bool& too_long) noexcept {
    too_long = false;
    for (const std::size_t longest : {kShortDtype, kLongestDtype}) {
        if (!parts_.room(5 + longest)) return false;
        unsigned char* before = parts_.data() + parts_.size();
        parts_.byte(static_cast<u8>(kind));
        if (kind != PartKind::inside) parts_.value(u32{0});
        Writer to = parts_.writer();
        if (write_dtype(PyArray_DESCR(array), to)) {
            parts_.advance_to(to.at());
            return true;
        }
        parts_.advance_to(before);
        if (PyErr_Occurred()) return false;
    }
    too_long = true;
    return true;
}

bool Packer::child_of(Place&& place, u32& child) noexcept {
    for (std::size_t i = children_.size(); i > 0; --i) {  // neighbours are often in one block
        if (children_[i - 1].handle == place.handle) {
            child = static_cast<u32>(i - 1);
            return true;
        }
        if (children_.size() - i == 64) break;
    }
    // A block that was met much earlier may get two cells. That takes a little room, and is
    // correct.
    child = static_cast<u32>(children_.size());
    return children_.add({place.handle, std::move(place.held)});
}

Done Packer::add_array(PyArrayObject* array) noexcept {
    PyArray_Descr* dtype = PyArray_DESCR(array);
    const int ndim = PyArray_NDIM(array);
    const npy_intp itemsize = PyArray_ITEMSIZE(array);
    if (!can_share(dtype) || itemsize <= 0 || ndim > kMaxDims) return Done::no;
    const npy_intp* shape = PyArray_DIMS(array);
    const npy_intp* strides = PyArray_STRIDES(array);
    const auto rank = static_cast<std::size_t>(ndim);
    const bool c_order = PyArray_IS_C_CONTIGUOUS(array);
    Order order = c_order                          ? Order::c
                  : PyArray_IS_F_CONTIGUOUS(array) ? Order::fortran
                                                   : Order::strided;
    auto* first = static_cast<unsigned char*>(PyArray_DATA(array));
    std::int64_t low = 0, high = 0;
    if (!extent(ndim, shape, strides, itemsize, low, high)) return Done::no;
    const auto bytes = static_cast<u64>(PyArray_NBYTES(array));
    const std::size_t start = parts_.size();

    Place place;
    const bool in_pool = high != 0 && locate(pool_, reinterpret_cast<PyObject*>(array), first + low,
                                             static_cast<u64>(high - low), place);
    // A shared array elsewhere (or one that is a copy under this class) says itself what it is.
    const bool is_shared = !PyArray_CheckExact(array);
    if (is_shared && !(in_pool && place.shared)) return Done::no;
    if (!in_pool && high != 0 && !encoding_.plain_only) {
        const int named = goes_by_name(pool_, array, first + low, high - low);
        if (named != 0) return named < 0 ? Done::failed : Done::no;
    }
    const bool is_inside = !in_pool && bytes < kOutOfBand;
    bool too_long;
    const PartKind kind = is_shared   ? PartKind::shared
                          : is_inside ? PartKind::inside
                                      : PartKind::in_child;
    if (!write_head_of_array(array, kind, too_long)) return Done::failed;
    if (too_long) return Done::no;
    if (!parts_.room(2 + 8 + 16 * rank + (is_inside ? bytes : 0))) return Done::failed;
    parts_.byte(static_cast<u8>(ndim));
    if (is_inside) {
        if (order == Order::strided) order = Order::c;
        parts_.byte(static_cast<u8>(order));
        parts_.run(shape, 8 * rank);
        Writer to = parts_.writer();
        if (bytes != 0 && !fill(array, to.at())) return Done::failed;
        parts_.advance_to(to.at() + bytes);
        return Done::yes;
    }
    if (in_pool) {
        if (!is_canonical(order, ndim, shape, strides, itemsize)) order = Order::strided;
        const u64 offset = place.offset + static_cast<u64>(-low);
        const bool shared = place.shared;
        u32 child;
        if (!child_of(std::move(place), child)) return Done::failed;
        parts_.patch(start + 1, child);
        parts_.byte(static_cast<u8>(order));
        parts_.value(offset);
        parts_.run(shape, 8 * rank);
        if (order == Order::strided) parts_.run(strides, 8 * rank);
        if (!shared && !encoding_.also_seal(reinterpret_cast<PyObject*>(array)))
            return Done::failed;
        return Done::yes;
    }
    if (order == Order::strided) order = Order::c;
    parts_.byte(static_cast<u8>(static_cast<u8>(order) | kFresh));
    const std::size_t offset_at = parts_.size();
    parts_.value(u64{0});
    parts_.run(shape, 8 * rank);
    return copies_.add({array, start + 1, offset_at, bytes}) ? Done::yes : Done::failed;
}

// Writes an array's elements: in their order in memory if they are contiguous, else in C order.
bool Packer::fill(PyArrayObject* array, unsigned char* to) noexcept {
    const auto bytes = static_cast<u64>(PyArray_NBYTES(array));
    if (PyArray_IS_C_CONTIGUOUS(array) || PyArray_IS_F_CONTIGUOUS(array)) {
        if (pool_->core().contains(to)) {
            copy_into_pool(pool_->core(), to, PyArray_DATA(array), bytes);
        } else {
            std::memcpy(to, PyArray_DATA(array), bytes);
        }
        return true;
    }
    PyArray_Descr* dtype = PyArray_DESCR(array);
    Py_INCREF(dtype);
    PyObject* copy = PyArray_NewFromDescr(&PyArray_Type, dtype, PyArray_NDIM(array),
                                          PyArray_DIMS(array), nullptr, to, 0, nullptr);
    if (copy == nullptr) return false;
    auto* written = reinterpret_cast<PyArrayObject*>(copy);
    PyArray_ENABLEFLAGS(written, NPY_ARRAY_WRITEABLE);
    PyArray_UpdateFlags(written, NPY_ARRAY_ALIGNED);
    const int failed = PyArray_CopyInto(written, array);
    Py_DECREF(copy);
    crash_point();
    return failed == 0;
}

// ---- pickled objects ----------------------------------------------------------------------------

// A set of the addresses of objects that have an identity and were met outside of the pickle. A new
// reference, None if there are no such objects, or nullptr.
PyObject* Packer::met_outside() noexcept {
    PyObject* all = nullptr;
    const auto add = [&all](PyObject* object) {
        if (all == nullptr && (all = PySet_New(nullptr)) == nullptr) return false;
        PyObject* address = PyLong_FromVoidPtr(object);
        const int failed = address == nullptr ? -1 : PySet_Add(all, address);
        Py_XDECREF(address);
        if (failed != 0) Py_CLEAR(all);
        return failed == 0;
    };
    for (PyObject* zone : zones_) {
        if (!add(zone)) return nullptr;
    }
    for (std::size_t i = 0; i < memo_.size(); ++i) {
        const Memo::Seen& seen = memo_[i];
        if ((seen.where & kPartOfMemo) != 0) {
            // Objects of the pickle itself do not belong to the set.
            const u64 index = seen.where & ~kPartOfMemo;
            if (objects_[index].in_pickle) continue;
        } else if (const auto node =
                       static_cast<Node>(nodes_.data()[seen.where] & static_cast<u8>(~kShared));
                   node == Node::latin1 || node == Node::ucs2 || node == Node::ucs4 ||
                   node == Node::bytes) {
            continue;
        }
        if (!add(seen.object)) return nullptr;
    }
    return all == nullptr ? Py_NewRef(Py_None) : all;
}

Done Packer::pickle_rest() noexcept {
    if (encoding_.plain_only) {
        raise_needs_pickle();
        return Done::failed;
    }
    if (hooks.encode == nullptr) return Done::no;
    PyObject* member = member_object(pool_);
    PyObject* outside = member == nullptr ? nullptr : met_outside();
    PyObject* found = nullptr;
    if (outside != nullptr) {
        PyObject* arguments[] = {rest_, member, outside};
        found = PyObject_Vectorcall(hooks.encode, arguments, 3, nullptr);
    }
    Py_XDECREF(member);
    Py_XDECREF(outside);
    if (found == nullptr) return Done::failed;
    Done done = Done::no;  // None: it shares objects with the rest of the message
    if (found != Py_None) {
        done = encoding_.take_pickle(found, pickle_, buffers_) ? Done::yes : Done::failed;
    }
    Py_DECREF(found);
    return done;
}

Done Packer::add_object(PyObject* object) noexcept {
    return PyArray_CheckExact(object) || Py_TYPE(object) == hooks.shared_array
               ? add_array(reinterpret_cast<PyArrayObject*>(object))
               : add_standard(object);
}

bool Packer::settle_parts() noexcept {
    for (std::size_t i = settled_; i < objects_.size(); ++i) {
        PyObject* object = objects_[i].object;
        const Done added = add_object(object);
        if (added == Done::failed) return false;
        if (added == Done::yes) continue;
        objects_[i].in_pickle = true;
        if (rest_ == nullptr && (rest_ = PyList_New(0)) == nullptr) return false;
        if (!parts_.room(5)) return false;
        parts_.byte(static_cast<u8>(PartKind::pickled));
        parts_.value(static_cast<u32>(PyList_GET_SIZE(rest_)));
        if (PyList_Append(rest_, object) != 0) return false;
    }
    if (rest_ == nullptr) return true;
    const Done done = pickle_rest();
    if (done == Done::no) whole_ = true;
    if (done == Done::yes && PyList_GET_SIZE(buffers_) == 0) Py_CLEAR(buffers_);
    return done == Done::yes;
}

// ---- layout -------------------------------------------------------------------------------------

std::size_t Packer::body_bytes() const noexcept {
    const auto pickle = pickle_ == nullptr ? u64{0} : static_cast<u64>(PyBytes_GET_SIZE(pickle_));
    return count_bytes(objects_.size()) + count_bytes(pickle) + parts_.size() +
           static_cast<std::size_t>(pickle) + nodes_.size();
}

bool Packer::lay_inline() noexcept {
    if (children_.size() != 0) {
        encoding_.message.block = children_[0].handle;
        encoding_.held = std::move(children_[0].held);
    } else if (copies_.size() != 0) {
        const Copied& copied = copies_[0];
        unsigned char* data = encoding_.claim(copied.bytes);
        if (data == nullptr || !fill(copied.array, data)) return false;
        parts_.patch(copied.offset_at, u64{encoding_.prefix_});
    }
    Bytes head;
    head.count(objects_.size());
    const auto pickle = pickle_ == nullptr ? u64{0} : static_cast<u64>(PyBytes_GET_SIZE(pickle_));
    head.count(pickle);
    Message& message = encoding_.message;
    Writer to(message.bytes, message.bytes + kInlineBytes);
    to.put(Tag::packed);
    to.put(kPackedVersion);
    to.put(flags());
    to.put(head.data(), head.size());
    to.put(parts_.data(), parts_.size());
    if (pickle_ != nullptr) to.put(PyBytes_AS_STRING(pickle_), static_cast<std::size_t>(pickle));
    to.put(nodes_.data(), nodes_.size());
    message.length = static_cast<u32>(to.at() - message.bytes);
    return true;
}

namespace {

// The new blocks, and the copies in each: if there are very many copies, neighbours share a block.
struct Blocks {
    std::vector<u64> sizes;
    std::size_t per_block;
    std::size_t copies = 0;

    explicit Blocks(std::size_t count) noexcept
        : per_block((count + kMostParts - 1) / kMostParts) {}
    // The place of the next copy; throws bad_alloc.
    std::pair<u32, u64> add(u64 bytes) {
        if (copies++ % per_block == 0) sizes.push_back(0);
        const u64 offset = round_up(sizes.back(), kUnit);
        sizes.back() = offset + bytes;
        return {static_cast<u32>(sizes.size() - 1), offset};
    }
};

}  // namespace

bool Packer::lay_in_block() noexcept {
    Views views;
    std::vector<PickleBuffer> table;
    std::vector<std::pair<u32, u64>> places;  // of the arrays that are copied
    const std::size_t buffers =
        buffers_ == nullptr ? 0 : static_cast<std::size_t>(PyList_GET_SIZE(buffers_));
    if (buffers > 1u << 24) {
        PyErr_SetString(PyExc_ValueError, "the object consists of more than 16 million buffers");
        return false;
    }
    std::size_t count = copies_.size();
    if (!has_room([&] {
            views.all.reserve(buffers);
            table.resize(buffers);
        }))
        return false;
    for (std::size_t i = 0; i < buffers; ++i) {
        PyObject* buffer = PyList_GET_ITEM(buffers_, static_cast<Py_ssize_t>(i));
        if (!views.add(buffer)) return false;
        const Py_buffer& view = views.all.back();
        const auto bytes = static_cast<u64>(view.len);
        table[i] = {kNoChild, 0, 0, bytes};
        Place place;
        if (bytes != 0 && view.buf != nullptr &&
            locate(pool_, buffer, static_cast<const unsigned char*>(view.buf), bytes, place)) {
            table[i].offset = place.offset;
            if (!child_of(std::move(place), table[i].child)) return false;
        } else {
            table[i].fresh = 1;
            if (bytes != 0) ++count;
        }
    }
    const auto old = static_cast<u32>(children_.size());
    Blocks blocks(count);
    std::vector<Held> parts;
    std::vector<unsigned char*> memory;
    if (count != 0 && !has_room([&] {
            for (const Copied& copied : copies_)
                places.push_back(blocks.add(copied.bytes));
            for (PickleBuffer& buffer : table) {
                if (buffer.fresh == 0 || buffer.bytes == 0) continue;
                std::tie(buffer.child, buffer.offset) = blocks.add(buffer.bytes);
                buffer.child += old;
            }
            parts.reserve(blocks.sizes.size());
            memory.reserve(blocks.sizes.size());
        }))
        return false;
    for (std::size_t i = 0; i < copies_.size(); ++i) {
        parts_.patch(copies_[i].child_at, old + places[i].first);
        parts_.patch(copies_[i].offset_at, places[i].second);
    }

    const std::size_t all = old + blocks.sizes.size();
    const u64 table_at = sizeof(PackedHead);
    const u64 cells_at = table_at + buffers * sizeof(PickleBuffer);
    const u64 body_at = cells_at + all * 8;
    if (!encoding_.claim_parts(body_at + body_bytes(), blocks.sizes, parts, memory)) return false;
    Member& m = pool_->core();
    BlockInfo info;
    if (inspect(m, encoding_.held.index(), info) != Status::ok) {
        raise_corrupt(pool_, "a new block");
        return false;
    }
    unsigned char* data = info.data + encoding_.prefix_;
    const PackedHead head{
        kPackedVersion, flags(), 0, static_cast<u32>(all), static_cast<u32>(buffers), 0,
        body_bytes()};
    Bytes counts;
    counts.count(objects_.size());
    const auto pickle = pickle_ == nullptr ? u64{0} : static_cast<u64>(PyBytes_GET_SIZE(pickle_));
    counts.count(pickle);
    copy_in(data, &head, sizeof head);
    if (buffers != 0) copy_in(data + table_at, table.data(), buffers * sizeof(PickleBuffer));
    unsigned char* to = data + body_at;
    const auto append = [&](const void* from, u64 bytes) {
        if (bytes != 0) copy_into_pool(m, to, from, bytes);
        to += bytes;
    };
    append(counts.data(), counts.size());
    append(parts_.data(), parts_.size());
    if (pickle_ != nullptr) append(PyBytes_AS_STRING(pickle_), pickle);
    append(nodes_.data(), nodes_.size());
    for (std::size_t i = 0; i < copies_.size(); ++i) {
        if (!fill(copies_[i].array, memory[places[i].first] + places[i].second)) return false;
    }
    for (std::size_t i = 0; i < buffers; ++i) {
        if (table[i].fresh == 0 || table[i].bytes == 0) continue;
        const std::size_t part = table[i].child - old;
        if (!fill_part(parts[part], table[i].offset, memory[part] + table[i].offset,
                       PyList_GET_ITEM(buffers_, static_cast<Py_ssize_t>(i)), views.all[i]))
            return false;
    }
    if (all != 0) {
        auto* cells = reinterpret_cast<shm_atomic<u64>*>(data + cells_at);
        for (std::size_t i = 0; i < all; ++i)
            cells[i].store_relaxed(0);
        declare_cells(m, encoding_.held.index(), static_cast<u32>(encoding_.prefix_ + cells_at), 8,
                      static_cast<u32>(all));
        for (std::size_t i = 0; i < all; ++i) {
            const Handle child =
                i < old ? children_[i].handle : handle_of(m, parts[i - old].index());
            if (const Status s = swap_cell(m, cells[i], 0, child); s != Status::ok) {
                raise_status(s, "an array in the pool");
                return false;
            }
        }
    }
    Writer end(encoding_.message.bytes, encoding_.message.bytes + kInlineBytes);
    end.put(Tag::packed_block);
    end.put(u64{encoding_.prefix_});
    encoding_.message.length = static_cast<u32>(end.at() - encoding_.message.bytes);
    return true;
}

// ---- reading ------------------------------------------------------------------------------------

PyObject* decode_packed(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept {
    u8 version, flags;
    if (!from.get(version) || !from.get(flags) || version != kPackedVersion ||
        (flags & ~kPackedFlags) != 0)
        return raise_corrupt(pool, "a packed message");
    if (flags != 0 && pool->others_may_write) return raise_untrusted();
    const std::size_t n = from.left();
    Unpacker::Children children;
    children.one = std::move(block);
    return Unpacker(pool, from.take(n), n, flags, how, children).unpack(nullptr);
}

PyObject* decode_packed_block(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept {
    Member& m = pool->core();
    u64 at;
    BlockInfo info;
    if (!from.get(at) || !block || inspect(m, block.index(), info) != Status::ok || at % 8 != 0 ||
        at > info.length)
        return raise_corrupt(pool, "a packed message");
    Reader all(info.data + at, info.length - at);
    PackedHead head;
    const unsigned char *table = nullptr, *cells = nullptr, *body = nullptr;
    if (all.get(head) && head.version == kPackedVersion && (head.flags & ~kPackedFlags) == 0 &&
        head.zero == 0 && (head.buffers == 0 || (head.flags & kHasPickle) != 0)) {
        table = all.take(u64{head.buffers} * sizeof(PickleBuffer));
        if (table != nullptr) cells = all.take(u64{head.children} * 8);
        if (cells != nullptr) body = all.take(head.body_bytes);
    }
    if (body == nullptr) return raise_corrupt(pool, "a packed message");
    if (head.flags != 0 && pool->others_may_write) return raise_untrusted();

    Unpacker::Children children;
    children.cells = reinterpret_cast<const shm_atomic<u64>*>(cells);
    children.count = head.children;
    PyObject* buffers = nullptr;
    if (head.buffers != 0 && (buffers = PyList_New(head.buffers)) == nullptr) return nullptr;
    for (u32 i = 0; i < head.buffers; ++i) {
        PickleBuffer buffer;
        std::memcpy(&buffer, table + u64{i} * sizeof buffer, sizeof buffer);
        Held source;
        if (buffer.child < head.children) {
            const Handle child = children.cells[buffer.child].load_acquire();  // [block.cell]
            if (hold(m, child) == Status::ok) source = Held(pool, handle_index(child));
        } else if (buffer.child == kNoChild && buffer.bytes == 0) {
            source = block.again();
        }
        PyObject* item = source ? part(std::move(source), buffer.offset, buffer.bytes,
                                       of_part(how, buffer.fresh != 0))
                                : raise_corrupt(pool, "a packed message");
        if (item == nullptr) {
            Py_DECREF(buffers);
            return nullptr;
        }
        PyList_SET_ITEM(buffers, static_cast<Py_ssize_t>(i), item);
    }
    const auto n = static_cast<std::size_t>(head.body_bytes);
    if (!pool->others_may_write) {
        children.whole = std::move(block);
        children.whole_at = info.data;
        return Unpacker(pool, body, n, head.flags, how, children).unpack(buffers);
    }
    // Another user may change it while it is read.
    auto* copy = static_cast<unsigned char*>(PyMem_Malloc(n));
    if (copy == nullptr) {
        Py_XDECREF(buffers);
        return PyErr_NoMemory();
    }
    std::memcpy(copy, body, n);
    PyObject* made = Unpacker(pool, copy, n, head.flags, how, children).unpack(buffers);
    PyMem_Free(copy);
    return made;
}

}  // namespace onecopy::py
