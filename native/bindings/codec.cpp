#include "bindings/codec.hpp"

#include "bindings/codec_envelope.hpp"
#include "bindings/codec_packed.hpp"
#include "bindings/errors.hpp"
#include "bindings/objects.hpp"
#include "bindings/ref.hpp"
#include "bindings/wait_policy.hpp"

namespace onecopy::py {

Hooks hooks;

Status AtOnce::allocate(const PoolPtr& pool, const BlockSpec& spec, Allocated& out) noexcept {
    GilWaitPolicy policy;  // for the heap's lock: `allocate` itself does not wait for memory
    return onecopy::allocate(pool->core(), spec, policy, out);
}

// ---- encoding -----------------------------------------------------------------------------------

Encoding::~Encoding() {
    Py_XDECREF(array_);
    Py_XDECREF(sent_);
    Py_XDECREF(buffers_);
}

bool Encoding::encode(PyObject* object) noexcept {
    if (encode_small(object, message)) return true;
    Done done = Done::no;
    if (PyArray_CheckExact(object)) {
        done = encode_array(reinterpret_cast<PyArrayObject*>(object));
    } else if (PyBytes_CheckExact(object) || PyUnicode_CheckExact(object)) {
        done = encode_long(object);
    } else if (is_ref(object)) {
        done = encode_ref(object);
    } else if (PyMemoryView_Check(object)) {
        done = encode_view(object);
    }
    if (done == Done::no) done = py::pack(pool_, *this, object);
    if (done == Done::no && plain_only) return raise_needs_pickle() != nullptr;
    return done == Done::no ? encode_pickle(object) : done == Done::yes;
}

PyObject* raise_needs_pickle() noexcept {
    PyErr_SetString(PyExc_TypeError,
                    "a part of the message can only be sent by pickle, and messages of a typed "
                    "channel are never pickled");
    return nullptr;
}

unsigned char* Encoding::claim(u64 bytes) noexcept {
    unsigned char* data = claim_only(prefix_ + bytes);
    return data == nullptr ? nullptr : data + prefix_;
}

unsigned char* Encoding::claim_only(u64 bytes) noexcept {
    Allocated block;
    const Status s = memory_.allocate(pool_, {.bytes = bytes, .flags = flags_}, block);
    if (s != Status::ok) {
        raise_claim(s, bytes);
        return nullptr;
    }
    take(block);
    return block.data;
}

void Encoding::take(const Allocated& block) noexcept {
    held = Held(pool_, block.index);
    message.block = handle_of(pool_->core(), block.index);
    new_block = true;
}

void Encoding::raise_claim(Status s, u64 bytes) const noexcept {
    if (s == Status::timed_out || s == Status::would_block) {
        raise_pool_full(pool_, bytes);
    } else {
        raise_status(s, "the pool", pool_, bytes);
    }
}

void Encoding::go_by(Place&& place) noexcept {
    message.block = place.handle;
    held = std::move(place.held);
}

void Encoding::keep(PyObject* object, bool seal_it) noexcept {
    if (seal_it) array_ = Py_NewRef(object);
}

bool Encoding::also_seal(PyObject* array) noexcept {
    if (array_ == nullptr) {
        array_ = Py_NewRef(array);
        return true;
    }
    if (sent_ == nullptr && (sent_ = PyList_New(0)) == nullptr) return false;
    return PyList_Append(sent_, array) == 0;
}

void Encoding::seal_sent() noexcept {
    if (array_ != nullptr) seal(array_);
    if (sent_ == nullptr) return;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(sent_); ++i)
        seal(PyList_GET_ITEM(sent_, i));
}

Done Encoding::encode_ref(PyObject* object) noexcept {
    RefObject& ref = ref_of(object);
    auto&& seen = look(ref.held);
    if (!seen) {
        raise(Error::stale, "the reference was released; it refers to nothing");
        return Done::failed;
    }
    if (seen.pool() != pool_) return Done::no;  // its pickle names its own pool
    held = own(static_cast<decltype(seen)>(seen));
    message.block = ref.handle;
    message.bytes[0] = static_cast<unsigned char>(Tag::ref);
    message.length = 1;
    return Done::yes;
}

// ---- decoding -----------------------------------------------------------------------------------

PyObject* decode_ref(const PoolPtr& pool, Held block) noexcept {
    if (!block || !is_envelope(block)) return raise_corrupt(pool, "a reference");
    return make_ref(std::move(block));
}

PyObject* decode(const PoolPtr& pool, const unsigned char* bytes, u32 length, Held block,
                 Copy how) noexcept {
    Reader from(bytes, length);
    u8 tag_byte;
    if (!from.get(tag_byte)) return raise_corrupt(pool, "a message");
    const auto tag = static_cast<Tag>(tag_byte);
    switch (tag) {
        case Tag::array:
            return decode_array(pool, from, std::move(block), how);
        case Tag::view:
            return decode_view(pool, from, std::move(block), how);
        case Tag::long_text:
        case Tag::long_bytes:
            return decode_long(pool, tag, from, std::move(block));
        case Tag::ref:
            return decode_ref(pool, std::move(block));
        case Tag::pickle:
            return decode_pickle(pool, from, std::move(block), how);
        case Tag::pickle_block:
            return decode_pickle_block(pool, from, std::move(block), how);
        case Tag::packed:
            return decode_packed(pool, from, std::move(block), how);
        case Tag::packed_block:
            return decode_packed_block(pool, from, std::move(block), how);
        default:
            return decode_small(pool, tag, from);
    }
}

// ---- envelopes ----------------------------------------------------------------------------------

namespace {

constexpr u32 kChildCell = offsetof(Envelope, child);
constexpr u32 kEnvelopeHead = offsetof(Envelope, bytes);

shm_atomic<u64>& child_cell(unsigned char* data) noexcept {
    return *reinterpret_cast<shm_atomic<u64>*>(data + kChildCell);
}

}  // namespace

Held put(const PoolPtr& pool, Memory& memory, PyObject* object) noexcept {
    Member& m = pool->core();
    Message message;
    Encoding encoding(pool, memory, message, sizeof(Envelope), kFlagEnvelope);
    if (!encoding.encode(object)) return {};
    Inside inside = Inside::own;
    Handle child = 0, kept = 0;
    Held held_child;
    // A queue, a lock, ... by itself is pickled by reference, which keeps nothing; the envelope
    // keeps it.
    const auto tag = static_cast<Tag>(message.bytes[0]);
    if (tag == Tag::pickle || tag == Tag::pickle_block) {
        Channel* channel = channel_behind(object);
        Held its = channel == nullptr ? Held() : channel->hold();
        if (its && its.pool() == pool) {
            held_child = std::move(its);
            kept = channel->handle;
        }
    }
    if (!encoding.new_block) {
        child = std::exchange(message.block, 0);
        if (child != 0) held_child = std::move(encoding.held);
        inside = child != 0 ? Inside::child : Inside::none;
        if (encoding.claim_only(kEnvelopeHead + message.length) == nullptr) return {};
    }
    BlockInfo info;
    if (inspect(m, encoding.held.index(), info) != Status::ok) {
        raise_corrupt(pool, "a new block");
        return {};
    }
    Envelope envelope;
    envelope.length = message.length;
    envelope.inside = inside;
    envelope.child = 0;
    std::memcpy(envelope.bytes, message.bytes, message.length);
    copy_in(info.data, &envelope, kEnvelopeHead + message.length);
    if (child == 0 && m.block(encoding.held.index()).cells_count.load_relaxed() == 0)
        child = std::exchange(kept, 0);
    if (child != 0) {
        shm_atomic<u64>& cell = child_cell(info.data);
        cell.store_relaxed(0);
        declare_cells(m, encoding.held.index(), kChildCell, 8, 1);
        if (const Status s = swap_cell(m, cell, 0, child); s != Status::ok) {
            raise_status(s, "a reference");
            return {};
        }
    }
    encoding.seal_sent();
    return std::move(encoding.held);
}

bool is_envelope(const Held& held) noexcept {
    BlockInfo info;
    return inspect(held.core(), held.index(), info) == Status::ok &&
           (info.flags & (kFlagEnvelope | kFlagBody)) == kFlagEnvelope &&
           info.length >= kEnvelopeHead;
}

namespace {

// The message of an envelope, and the block that it refers to. False with an exception set.
bool read_envelope(const Held& held, Envelope& envelope, Held& block) noexcept {
    const PoolPtr& pool = held.pool();
    const auto corrupt = [&] { return raise_corrupt(pool, "an object in the pool") != nullptr; };
    if (held.core().corrupt()) return raise_status(Status::corrupt, "the pool") != nullptr;
    BlockInfo info;
    if (!is_envelope(held) || inspect(held.core(), held.index(), info) != Status::ok)
        return corrupt();
    std::memcpy(&envelope, info.data, kEnvelopeHead);
    if (envelope.length > kInlineBytes || kEnvelopeHead + envelope.length > info.length)
        return corrupt();
    std::memcpy(envelope.bytes, info.data + kEnvelopeHead, envelope.length);
    switch (envelope.inside) {
        case Inside::none:
            return true;
        case Inside::own:
            block = held.again();
            return true;
        case Inside::child: {
            const Handle child = child_cell(info.data).load_acquire();  // [block.cell]
            // The envelope's reference keeps the child alive: it exists, or the pool is damaged.
            if (const Status s = hold(held.core(), child); s != Status::ok)
                return s == Status::closed ? raise_status(s, "the pool") != nullptr : corrupt();
            block = Held(pool, handle_index(child));
            return true;
        }
        default:
            return corrupt();
    }
}

}  // namespace

PyObject* open_envelope(const Held& held, Copy how) noexcept {
    Envelope envelope;
    Held block;
    if (!read_envelope(held, envelope, block)) return nullptr;
    return decode(held.pool(), envelope.bytes, envelope.length, std::move(block), how);
}

bool glance(const Held& held, Glance& out) noexcept {
    Envelope envelope;
    Held block;
    if (!read_envelope(held, envelope, block)) return false;
    Reader from(envelope.bytes, envelope.length);
    bool sound = from.get(out.tag);
    out.bytes = from.left();
    out.pickled = false;
    u8 byte = 0;
    u64 at = 0;
    switch (out.tag) {
        case Tag::array:
            sound = sound && from.get(byte);
            out.pickled = is_pickled_dtype(byte);
            break;
        case Tag::long_text:
        case Tag::long_bytes:
            sound = sound && from.get(at) && from.get(out.bytes);
            break;
        case Tag::pickle:
        case Tag::pickle_block:
            out.pickled = true;
            break;
        case Tag::packed:
            sound = sound && from.get(byte) && from.get(byte);  // the version, the flags
            out.pickled = (byte & kHasPickle) != 0;
            break;
        case Tag::packed_block: {
            PackedHead head{};
            BlockInfo info;
            sound = sound && from.get(at) && block &&
                    inspect(held.core(), block.index(), info) == Status::ok && at <= info.length &&
                    Reader(info.data + at, info.length - at).get(head);
            out.pickled = (head.flags & kHasPickle) != 0;
            out.bytes = head.body_bytes;
            break;
        }
        default:
            break;
    }
    return sound || raise_corrupt(held.pool(), "an object in the pool") != nullptr;
}

// The object's bytes, not those of what it is wrapped in: its data and what it refers to, or, for
// one that lies wholly in the envelope, its message.
u64 envelope_bytes(const Held& held) noexcept {
    Member& m = held.core();
    BlockInfo info, child;
    if (!is_envelope(held) || inspect(m, held.index(), info) != Status::ok) return 0;
    u64 bytes = info.length > sizeof(Envelope) ? info.length - sizeof(Envelope) : 0;
    const Block& block = m.block(held.index());
    // [block.cells]
    const u64 count = block.cells_count.load_acquire(), stride = block.cells_stride.load_relaxed(),
              first = block.cells_offset.load_relaxed();
    const bool sound = count != 0 && stride != 0 && stride % 8 == 0 && first % 8 == 0 &&
                       first <= info.size && (count - 1) * stride + 8 <= info.size - first;
    for (u64 i = 0; sound && i < count; ++i) {
        const unsigned char* cell = info.data + first + i * stride;
        // [block.cell]
        const Handle h = reinterpret_cast<const shm_atomic<u64>*>(cell)->load_acquire();
        if (h != 0 && inspect(m, handle_index(h), child) == Status::ok) bytes += child.length;
    }
    if (bytes != 0) return bytes;
    u32 length;
    std::memcpy(&length, info.data, sizeof length);
    return std::min(length, kInlineBytes);
}

}  // namespace onecopy::py
