// Objects to messages and back.
//
//|  object                                        message
//|  None, bool, int64, float, str, bytes, tuple   inline
//|  ndarray in the pool                           inline: dtype, shape, place; block: its own
//|  ndarray elsewhere                             same; block: a new one, with a copy
//|  memoryview, long bytes, long str              as arrays
//|  Ref                                           block: what it refers to
//|  dict, list, set and what is in them           packed: codec_packed.hpp
//|  anything else                                 pickle protocol 5, inline if it fits; buffers in
//|                                                the pool by reference, others copied once,
//|                                                or written there by a function of their
//|                                                codec (`later` in _codec/packing.py)
//
// An envelope is a block that begins with a message (what Pool.put makes): the message's own block
// is the envelope itself, or its child. Encoding may run Python code (pickle) and ends before any
// shared lock is taken; if it fails, destructors release what it has acquired. Decoding trusts
// nothing: every number that came out of the pool is copied once and checked.
#pragma once
#include <vector>

#include "base/never_destroyed.hpp"
#include "bindings/lease.hpp"
#include "bindings/private_memory.hpp"
#include "bindings/wire.hpp"
#include "heap/heap.hpp"
#include "queue/message.hpp"

namespace onecopy::py {

// Where memory for copies comes from, and what happens when there is none: a queue may wait, a put
// may not.
class Memory {
  public:
    virtual ~Memory() = default;
    virtual Status allocate(const PoolPtr& pool, const BlockSpec& spec,
                            Allocated& out) noexcept = 0;
};
// Does not wait for memory, only for the heap's lock.
class AtOnce final : public Memory {
  public:
    Status allocate(const PoolPtr& pool, const BlockSpec& spec, Allocated& out) noexcept override;
};

enum class Done {
    yes,
    no,
    failed
};  // no: not of this kind, try another way. failed: an exception is set

// The place of memory in a pool.
struct Place {
    Held held;  // of its own, because the object behind it may release it while the message waits
    Handle handle = 0;
    u64 offset = 0;  // in the block's payload
    bool shared = false;
};
// Whether [memory, memory+length) lies in one block of this pool that this process holds. `object`
// is what exports it.
bool locate(const PoolPtr& pool, PyObject* object, const unsigned char* memory, u64 length,
            Place& out) noexcept;

// One object on its way into a pool.
class Encoding {
  public:
    // A new block begins with `prefix` bytes for the caller and gets `flags`.
    Encoding(const PoolPtr& pool, Memory& memory, Message& out, u32 prefix = 0,
             u8 flags = 0) noexcept
        : message(out), pool_(pool), memory_(memory), prefix_(prefix), flags_(flags) {}
    ~Encoding();
    Encoding(const Encoding&) = delete;
    Encoding& operator=(const Encoding&) = delete;

    // False with an exception set.
    bool encode(PyObject* object) noexcept;
    // After it was sent: arrays that went by reference become read-only here.
    void seal_sent() noexcept;

    // A new block of prefix+bytes; where the bytes begin, or nullptr with an exception set.
    unsigned char* claim(u64 bytes) noexcept;
    // A new block of so many bytes, all of them the caller's.
    unsigned char* claim_only(u64 bytes) noexcept;

    Message& message;
    Held held;                // on message.block
    bool plain_only = false;  // raises instead of making a pickle; mapped files are copied
    bool new_block = false;   // message.block was made by `claim`

  private:
    friend class Packer;
    Done encode_array(PyArrayObject* array) noexcept;
    Done encode_view(PyObject* view) noexcept;
    Done encode_long(PyObject* object) noexcept;
    Done encode_ref(PyObject* object) noexcept;
    bool encode_pickle(PyObject* object) noexcept;
    // What the hook answered: takes note of what is to be sealed. New references.
    bool take_pickle(PyObject* parts, PyObject*& pickle, PyObject*& buffers) noexcept;
    bool pack(PyObject* pickle, PyObject* buffers) noexcept;
    bool claim_parts(u64 bytes, const std::vector<u64>& sizes, std::vector<Held>& parts,
                     std::vector<unsigned char*>& data) noexcept;
    void take(const Allocated& block) noexcept;
    void raise_claim(Status s, u64 bytes) const noexcept;
    bool pack_block(PyObject* pickle, PyObject* buffers, std::vector<Py_buffer>& views,
                    std::vector<Place>& places) noexcept;
    void go_by(Place&& place) noexcept;
    void keep(PyObject* object, bool seal_it) noexcept;
    bool also_seal(PyObject* array) noexcept;  // one of several

    const PoolPtr& pool_;
    Memory& memory_;
    u32 prefix_;
    u8 flags_;
    PyObject* array_ = nullptr;  // what travels by reference: alive until it is sent, sealed then
    PyObject* sent_ = nullptr;   // a list of such arrays
    PyObject* buffers_ = nullptr;
};

// For `plain_only`.
PyObject* raise_needs_pickle() noexcept;

// None, bool, int64, float, str, bytes, tuples of them, if they fit a message. Never raises.
bool encode_small(PyObject* object, Message& out) noexcept;

// The object of a message; `block` is the hold on message.block. nullptr with an exception set.
// What is shared (kFlagShared) is shared however it is asked for.
PyObject* decode(const PoolPtr& pool, const unsigned char* bytes, u32 length, Held block,
                 Copy how = Copy::unsaid) noexcept;
inline PyObject* decode(const PoolPtr& pool, const Message& m, Copy how = Copy::unsaid) noexcept {
    return decode(pool, m.bytes, m.length,
                  m.block == 0 ? Held() : Held(pool, handle_index(m.block)), how);
}

// ---- envelopes ----------------------------------------------------------------------------------
// One block with the object in it; empty with an exception set.
Held put(const PoolPtr& pool, Memory& memory, PyObject* object) noexcept;
bool is_envelope(const Held& held) noexcept;
PyObject* open_envelope(const Held& held, Copy how = Copy::unsaid) noexcept;
u64 envelope_bytes(const Held& held) noexcept;  // in the pool, with what it refers to
// What an envelope says of its object, which is not built.
struct Glance {
    Tag tag;
    bool pickled;  // to build it runs a pickle; those of dtypes in containers do not count
    u64 bytes;     // that are read to build it; those of arrays and buffers do not count
};
bool glance(const Held& held, Glance& out) noexcept;  // false with an exception set

// ---- arrays -------------------------------------------------------------------------------------
bool write_dtype(PyArray_Descr* dtype,
                 Writer& to) noexcept;  // false: it does not fit, or an exception is set
PyArray_Descr* read_dtype(const PoolPtr& pool,
                          Reader& from) noexcept;  // new reference; nullptr with an exception set
bool is_pickled_dtype(u8 form) noexcept;           // its first byte in a message
bool can_share(PyArray_Descr* dtype) noexcept;     // its elements are plain bytes
// Whether `write_dtype` needs no pickle: 1, 0; -1 with an exception set.
int goes_without_pickle(PyArray_Descr* dtype) noexcept;

constexpr int kMaxDims = 32;  // more never fit a message
// The lowest and one past the highest byte of an array relative to its first element; false:
// overflow.
bool extent(int ndim, const npy_intp* shape, const npy_intp* strides, npy_intp itemsize,
            std::int64_t& low, std::int64_t& high) noexcept;
// shape's product times itemsize; false: overflow or a negative entry.
bool total(int ndim, const npy_intp* shape, npy_intp itemsize, std::int64_t& out) noexcept;
// Whether the strides are those that numpy gives a new array of this shape. numpy's own flags are
// not enough: for them the strides of dimensions of length 1 do not matter. They matter here,
// because an array that is sent keeps its strides.
bool is_canonical(Order order, int ndim, const npy_intp* shape, const npy_intp* strides,
                  npy_intp itemsize) noexcept;
// Memory that needs no copy although it lies in no pool of members: in a pool that was opened for
// reading only, or in a mapped file. Its pickle says where; into a pool that others may write, from
// which nothing is unpickled, it is copied. -1 with an exception set.
int goes_by_name(const PoolPtr& pool, PyArrayObject* array, const unsigned char* memory,
                 std::int64_t length) noexcept;

// ---- the parts of decode ------------------------------------------------------------------------
PyObject* decode_small(const PoolPtr& pool, Tag tag, Reader& from) noexcept;
PyObject* decode_array(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept;
// A SharedArray, which needs a block that processes share.
PyObject* decode_shared_array(const PoolPtr& pool, Reader& from, Held block) noexcept;
PyObject* decode_view(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept;
PyObject* decode_long(const PoolPtr& pool, Tag tag, Reader& from, Held block) noexcept;
PyObject* decode_ref(const PoolPtr& pool, Held block) noexcept;
PyObject* decode_pickle(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept;
PyObject* decode_pickle_block(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept;

// Large copies are made without the GIL. Into a new block of the pool, that is.
void copy_into_pool(Member& m, unsigned char* to, const void* from, u64 bytes) noexcept;
void copy_out_of_pool(void* to, const void* from, u64 bytes) noexcept;
constexpr u64 kCopyOutside = 256 * kKiB;

// pickle.dumps(object, 5) and pickle.loads: for dtypes, and for containers of plain values.
PyObject* plain_dumps(PyObject* object) noexcept;
PyObject* plain_loads(PyObject* bytes) noexcept;
// Whether it is None, a number, text, bytes, or a small container of such: it needs no more than
// pickle.dumps, and rebuilding it runs no code of the sender.
bool is_plain(PyObject* object) noexcept;

struct Hooks {
    PyObject* encode = nullptr;
    PyObject* missing = nullptr;  // gets a ModuleNotFoundError; raises a better one
    PyObject* pool_handle = nullptr;
    PyObject* plan = nullptr;  // how objects of a class are taken apart: onecopy._codec.plans
    // onecopy._codec.built: take_apart(object) -> (builder, arguments) | None, and
    // builder_of(number) -> function.
    PyObject* take_apart = nullptr;
    PyObject* builder_of = nullptr;
    PyTypeObject* shared_array = nullptr;  // onecopy.SharedArray
    // While files are mapped whose memory travels by naming them: in_file(address, nbytes) -> bool.
    NeverDestroyed<Slot> in_file;
};
extern Hooks hooks;

}  // namespace onecopy::py
