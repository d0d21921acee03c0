// Packed messages: containers and their contents, without pickle (docs/design/0019). A change needs
// one in message_forms.py and decoding.py of src/onecopy/observer too, which read them for people.
// A test compares the numbers.
//
//|  inline, in the slot   Tag::packed        u8 version, u8 flags, body; message.block: child 0
//|  in a block            Tag::packed_block  u64 the place of the head in the block
//|
//|  body    count           parts
//|          count           bytes of the pickle
//|          part …          u8 kind, then:  in_child  u32 child, as Tag::array from the dtype on
//|                                          inside    dtype, u8 ndim, u8 order, i64 shape[ndim],
//|                                                    the elements
//|                                          pickled   u32 which element of the pickle's list
//|                                          standard  of a class of the standard library:
//|                                                    codec_standard.cpp
//|                                          shared    a SharedArray: as in_child
//|          the pickle      of a list of the objects that the core does not know
//|          node            the object
//|
//|  count   u8 below 254; 254 and u32; 255 and u64
//|  node    u8: kind, and kShared if an `again` refers to it; then what the kind says
#pragma once
#include "bindings/codec.hpp"
#include "bindings/few.hpp"
#include "bindings/free_threading.hpp"
#include "bindings/numpy_api.hpp"

namespace onecopy::py {

enum PackedFlags : u8 {
    kHasPickle = 1,
    kHasClasses = 2,  // classes, zones or builders by name: reading it imports modules
    kPackedFlags = 3,
};
struct PackedHead {
    u8 version;
    u8 flags;
    std::uint16_t zero;
    u32 children;
    u32 buffers;
    u32 spare;
    u64 body_bytes;
    ONECOPY_SHARED_STRUCT(PackedHead, version, flags, zero, children, buffers, spare, body_bytes)
};
static_assert(sizeof(PackedHead) == 24);

enum class Node : u8 {
    none = 1,
    yes,
    no,
    int8,
    int32,
    int64,
    big_int,     // count, two's complement, little endian
    real,        // f64
    complex,     // f64, f64
    latin1,      // count of characters, 1 byte each
    ucs2,        // 2 bytes each
    ucs4,        // 4 bytes each
    bytes,       // count, bytes
    byte_array,  // same
    tuple,       // count, nodes
    list,
    set,
    frozen_set,
    dict,     // count, pairs of nodes
    part,     // count: which
    again,    // count: place of a node with kShared, from the first node on
    scalar,   // numpy's numbers: u8 type number, value
    plain,    // an object, by its class: codec_classes.cpp
    named,    // a named tuple
    member,   // of an enum
    moment,   // datetime64, timedelta64: u8 type number, u8 unit, u32 multiple, i64
    slotted,  // an object with slots: codec_slots.cpp
    frozen,   // a frozen dataclass with slots
    called,   // made by a call of its class
    called_by_name,
    built,  // of a library, taken apart by Python code: codec_built.cpp
    // Short ones take one byte less: the kind says the value, or the length.
    short_text = 64,  // to 95: latin1, of 0 to 31 characters
    short_int = 96,   // to 127: 0 to 31
};
constexpr u8 kShort = 32;
constexpr u8 kShared = 0x80;

enum class PartKind : u8 { in_child = 1, inside, pickled, standard, shared };

constexpr u64 kPartOfMemo = u64{1} << 62;  // in the memo: the number of a part, and no place
constexpr int kDeepest = 100;              // levels; deeper ones are left to pickle
constexpr Py_ssize_t kValueBytes = 32;     // shorter texts have no identity
constexpr u64 kOutOfBand = 4 * kKiB;       // an array has a block of its own from this size on

// A growing array of bytes in private memory. A function that returns false has set MemoryError.
class Bytes {
  public:
    Bytes() noexcept : begin_(small_), at_(small_), end_(small_ + sizeof small_) {}
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;
    ~Bytes() {
        if (begin_ != small_) PyMem_Free(begin_);
    }

    unsigned char* data() noexcept { return begin_; }
    const unsigned char* data() const noexcept { return begin_; }
    std::size_t size() const noexcept { return static_cast<std::size_t>(at_ - begin_); }
    bool room(std::size_t n) noexcept {
        if (static_cast<std::size_t>(end_ - at_) >= n) [[likely]]
            return true;
        return grow(n);
    }
    // For what `room` was asked for.
    void byte(u8 value) noexcept { *at_++ = value; }
    void node(Node node) noexcept { byte(static_cast<u8>(node)); }
    template <class T>
    void value(T value) noexcept {
        static_assert(std::is_trivially_copyable_v<T>);
        std::memcpy(at_, &value, sizeof value);
        at_ += sizeof value;
    }
    void run(const void* from, std::size_t n) noexcept {
        if (n != 0) std::memcpy(at_, from, n);
        at_ += n;
    }
    void count(u64 n) noexcept {  // at most 9 bytes
        if (n < 254) {
            byte(static_cast<u8>(n));
        } else if (n <= 0xffffffff) {
            byte(254);
            value(static_cast<u32>(n));
        } else {
            byte(255);
            value(n);
        }
    }
    Writer writer() noexcept { return {at_, end_}; }
    void advance_to(unsigned char* at) noexcept { at_ = at; }
    template <class T>
    void patch(std::size_t at, T value) noexcept {
        std::memcpy(begin_ + at, &value, sizeof value);
    }

  private:
    bool grow(std::size_t n) noexcept;

    unsigned char* begin_;
    unsigned char* at_;
    unsigned char* end_;
    unsigned char small_[488];
};
constexpr std::size_t kCountBytes = 9;
inline std::size_t count_bytes(u64 n) noexcept {
    return n < 254 ? 1 : n <= 0xffffffff ? 5 : 9;
}

// Where each object was met first.
class Memo {
  public:
    struct Seen {
        PyObject* object;  // borrowed: the walk runs no code, so the object lives as long as the
                           // walk (without the GIL: what it lies in is kept as long)
        u64 where;
    };
    Memo() = default;
    Memo(const Memo&) = delete;
    Memo& operator=(const Memo&) = delete;
    ~Memo() { PyMem_Free(slots_); }
    // The place where it was met; kNew if this call noted it, at `where`. kFailed with MemoryError
    // set.
    static constexpr u64 kNew = ~u64{0}, kFailed = kNew - 1;
    u64 meet(PyObject* object, u64 where) noexcept;
    std::size_t size() const noexcept { return seen_.size(); }
    const Seen& operator[](std::size_t i) const noexcept { return seen_[i]; }

  private:
    static constexpr std::size_t kLinear = 12;
    std::size_t slot_of(PyObject* object) const noexcept;
    bool arrange() noexcept;

    Few<Seen, kLinear> seen_;
    u32* slots_ = nullptr;  // index into `seen_`, plus 1; when there are more than kLinear
    std::size_t mask_ = 0;
};

// ---- classes: codec_classes.cpp -----------------------------------------------------------------
enum class PlanKind : u8 {
    none = 0,
    plain = 1,
    named = 2,
    member = 3,
    slotted = 4,
    frozen = 5,
    called = 6,
    called_by_name = 7,
    built = 8,
};
// A plan is valid as long as its class has the same version tag. No two classes, and no two states
// of one class, have the same tag. So the plan of a deleted class is never found.
struct Plan {
    PyTypeObject* type = nullptr;  // borrowed, and only compared
    unsigned int tag = 0;
    PlanKind kind = PlanKind::none;
    u32 fields = 0;
    PyObject* module = nullptr;
    PyObject* name = nullptr;
    PyObject* slots = nullptr;  // a tuple of member descriptors: where the fields are
};
// The plans that a message uses. With the GIL, they are those of the table: a walk runs no code,
// and only code makes plans. Otherwise another thread may replace one of the table at any time, so
// they are copied, with references of their own.
#ifdef Py_GIL_DISABLED
class OwnPlans {
  public:
    OwnPlans() = default;
    OwnPlans(const OwnPlans&) = delete;
    OwnPlans& operator=(const OwnPlans&) = delete;
    ~OwnPlans();
    // The plan of a class; nullptr: it has none now.
    const Plan* find(PyTypeObject* type) noexcept;

  private:
    Few<Plan*, 4> all_;
};
#else
struct OwnPlans {
    const Plan* find(PyTypeObject* type) noexcept;
};
#endif
// Asks Python for the plan of a class. yes: it has a plan now, which may be to pickle it. no: the
// plan cannot be kept.
Done make_plan(PyTypeObject* type) noexcept;
// Whether a type is registered with `copyreg` or multiprocessing.
bool is_registered(PyTypeObject* type) noexcept;
// The field of an object that a member descriptor is for.
PyObject*& field_at(PyObject* object, PyObject* descriptor) noexcept;
// Whether these are member descriptors of fields that every object of the class has.
bool are_fields_of(PyTypeObject* type, PyObject* slots) noexcept;

// ---- objects that Python code takes apart: codec_built.cpp --------------------------------------
// The walk runs no code. It collects the objects of a message that must be taken apart, ends, and
// begins again when that is done.
class Apart {
  public:
    enum class State : u8 { wanted, refused, ready };
    struct Entry {
        PyObject* object;
        PyObject* arguments;  // a tuple, or nullptr
        u8 builder;
        State state;
    };
    Apart() = default;
    Apart(const Apart&) = delete;
    Apart& operator=(const Apart&) = delete;
    ~Apart();
    // The entry of an object; a new one is wanted. nullptr with MemoryError set.
    const Entry* find(PyObject* object) noexcept;
    bool wants() const noexcept { return settled_ < entries_.size(); }
    // Takes apart what is wanted. False with an exception set.
    bool settle() noexcept;
    // What is found from now on is pickled.
    void close() noexcept { closed_ = true; }

  private:
    Few<Entry, 4> entries_;
    Memo index_;
    std::size_t settled_ = 0;
    bool closed_ = false;
};

// An object that is being packed into a message. The steps: docs/design/0019.
class Packer {
  public:
    // `may_ask`: whether the walk may end because a class has no plan yet (`unknown`).
    Packer(const PoolPtr& pool, Encoding& encoding, Apart& apart, bool may_ask) noexcept
        : pool_(pool), encoding_(encoding), apart_(apart), may_ask_(may_ask) {}
    Packer(const Packer&) = delete;
    Packer& operator=(const Packer&) = delete;
    ~Packer();

    // no: the complete object is pickled. Nothing was taken. failed without an exception: the walk
    // must begin again, because a class needs a plan (`unknown`), or an object must be taken apart.
    Done pack(PyObject* object) noexcept;
    // A class that needs a plan.
    PyTypeObject* unknown() const noexcept { return unknown_; }

  private:
    // ---- the walk: codec_containers.cpp. False: stop; an exception is set, or `whole_` is.
    bool write(PyObject* object, int depth, bool in_key) noexcept;
    bool write_int(PyObject* object) noexcept;
    bool write_big_int(PyObject* object) noexcept;
    bool write_text(PyObject* object) noexcept;
    bool write_bytes(PyObject* object) noexcept;
    bool write_run(Node node, const char* from, Py_ssize_t n) noexcept;
    bool write_dict(PyObject* object, int depth) noexcept;
    bool write_set(Node node, PyObject* object, int depth) noexcept;
    bool write_part(u64 index) noexcept;
    bool add_part(PyObject* object) noexcept;
    bool write_again(PyObject* object, u64 where, bool in_key) noexcept;
    // yes, no (of none of these types), failed.
    Done write_scalar(PyObject* object) noexcept;
    Done write_of_class(PyObject* object, int depth) noexcept;
    Done write_plain(PyObject* object, PyTypeObject* type, const Plan& plan, PyObject* dict,
                     int depth) noexcept;
    Done write_named(PyObject* object, PyTypeObject* type, const Plan& plan, int depth) noexcept;
    Done write_slotted(PyObject* object, PyTypeObject* type, const Plan& plan, int depth) noexcept;
    Done write_frozen(PyObject* object, PyTypeObject* type, const Plan& plan, int depth) noexcept;
    Done write_called(PyObject* object, PyTypeObject* type, const Plan& plan, int depth) noexcept;
    Done write_built(PyObject* object, int depth) noexcept;
    Done begin_whole(PyObject* object) noexcept;
    Done meet(PyObject* object) noexcept;
    bool write_class(PyTypeObject* type, const Plan& plan, Node node) noexcept;
    bool is_reachable(PyTypeObject* type, const Plan& plan) noexcept;
    bool go_whole() noexcept {
        whole_ = true;
        return false;
    }

    // ---- parts, and the layout of the message: codec_parts.cpp
    bool settle_parts() noexcept;
    Done add_array(PyArrayObject* array) noexcept;
    Done add_object(PyObject* object) noexcept;
    Done add_standard(PyObject* object) noexcept;
    Done add_zone(PyObject* zone) noexcept;
    Done add_text(PyObject* object) noexcept;
    bool write_head_of_array(PyArrayObject* array, PartKind kind, bool& too_long) noexcept;
    bool child_of(Place&& place, u32& child) noexcept;
    Done pickle_rest() noexcept;
    PyObject* met_outside() noexcept;
    std::size_t body_bytes() const noexcept;
    bool lay_inline() noexcept;
    bool lay_in_block() noexcept;
    bool fill(PyArrayObject* array, unsigned char* to) noexcept;
    u8 flags() const noexcept {
        return static_cast<u8>((pickle_ != nullptr ? kHasPickle : 0) |
                               (classes_.size() != 0 || by_name_ ? kHasClasses : 0));
    }

    struct Part {
        PyObject* object;  // a reference of its own
        bool in_pickle = false;
    };
    // An array that is copied into the pool: where its head in `parts_` has the child, the offset.
    struct Copied {
        PyArrayObject* array;
        std::size_t child_at, offset_at;
        u64 bytes;
    };
    struct Child {
        Handle handle;
        Held held;
    };

    const PoolPtr& pool_;
    Encoding& encoding_;
    Apart& apart_;
    bool may_ask_;
    bool whole_ = false;
    bool by_name_ = false;  // it names a zone or a builder
    PyTypeObject* unknown_ = nullptr;
    Few<PyTypeObject*, 4> classes_;  // borrowed: of objects that the walk has seen
    Few<u64, 4> open_;         // places of objects that are being written and must be complete
    Few<PyObject*, 2> zones_;  // borrowed: of dates and times in `objects_`
    [[no_unique_address]] Stills stills_;
    [[no_unique_address]] OwnPlans plans_;
    Bytes nodes_;
    Memo memo_;
    Few<Part, 4> objects_;
    std::size_t settled_ = 0;  // of these
    Bytes parts_;
    Few<Child, 4> children_;
    Few<Copied, 2> copies_;
    PyObject* rest_ = nullptr;     // a list of the objects that the core does not know
    PyObject* pickle_ = nullptr;   // of that list
    PyObject* buffers_ = nullptr;  // a list
};

// Whether the time to hash it is bounded, as a reader requires for a key that is met again.
bool is_bounded_key(PyObject* object) noexcept;

// A reader of a body. Each function returns nullptr with an exception set if it fails.
class Unpacker {
  public:
    // The blocks of a message.
    struct Children {
        Held one;  // of a message in a slot: its block, if it has one
        const shm_atomic<u64>* cells = nullptr;
        u32 count = 0;
        Held whole;  // of a message in a block: that block, and the place in it
        const unsigned char* whole_at = nullptr;
    };
    Unpacker(const PoolPtr& pool, const unsigned char* body, std::size_t n, u8 flags, Copy how,
             Children& children) noexcept
        : pool_(pool), from_(body, n), flags_(flags), how_(how), children_(children) {}
    Unpacker(const Unpacker&) = delete;
    Unpacker& operator=(const Unpacker&) = delete;
    ~Unpacker();

    // `buffers`: of the pickle; this takes the reference, which may be nullptr.
    PyObject* unpack(PyObject* buffers) noexcept;

  private:
    struct Met {
        u64 where;
        PyObject* object;  // a reference of its own; nullptr: not complete
        bool open;         // its elements are still being read
    };
    struct Known {  // a class of the message
        PyTypeObject* type;
        PlanKind kind;
        u32 fields;
        PyObject* slots;  // a reference of its own, or nullptr
    };
    PyObject* wrong() noexcept;
    bool get_count(u64& out) noexcept;
    bool read_parts(u64 count) noexcept;
    PyObject* read_array_inside() noexcept;
    bool load_rest(u64 bytes, PyObject* buffers) noexcept;
    PyObject* read(int depth, bool in_key) noexcept;
    PyObject* read_big_int() noexcept;
    PyObject* read_latin1(std::size_t n, bool in_key) noexcept;
    PyObject* read_text(u8 width, bool in_key) noexcept;
    PyObject* read_bytes(bool array) noexcept;
    PyObject* read_tuple(u64 where, bool shared, int depth, bool in_key) noexcept;
    PyObject* read_list(u64 where, bool shared, int depth) noexcept;
    PyObject* read_dict(u64 where, bool shared, int depth) noexcept;
    bool fill_dict(PyObject* dict, u64 pairs, int depth) noexcept;
    PyObject* read_set(Node node, u64 where, bool shared, int depth) noexcept;
    PyObject* read_part(bool in_key) noexcept;
    PyObject* read_again(bool in_key) noexcept;
    PyObject* read_scalar() noexcept;
    PyObject* read_moment() noexcept;
    PyObject* read_standard() noexcept;
    PyObject* read_zone() noexcept;
    PyObject* read_of_class(Node node, u64 where, bool shared, int depth) noexcept;
    bool read_class(Known& out) noexcept;
    PyObject* read_plain(const Known& known, u64 where, bool shared, int depth) noexcept;
    PyObject* read_named(const Known& known, u64 where, bool shared, int depth) noexcept;
    PyObject* read_slotted(const Known& known, u64 where, bool shared, int depth) noexcept;
    PyObject* read_frozen(const Known& known, u64 where, bool shared, int depth) noexcept;
    PyObject* read_called(const Known& known, bool by_name, u64 where, bool shared,
                          int depth) noexcept;
    PyObject* read_built(u64 where, bool shared, int depth) noexcept;
    PyObject* new_object(const Known& known, bool direct) noexcept;
    bool set_state(PyObject* object, PyObject* state) noexcept;
    bool get_elements(u64& n, unsigned each) noexcept;
    bool note(u64 where, PyObject* object, bool open = false) noexcept;
    bool reserve(u64 where, std::size_t& at) noexcept;
    PyObject* refuse_key() noexcept;

    const PoolPtr& pool_;
    Reader from_;
    u8 flags_;
    Copy how_;
    Children& children_;
    const unsigned char* first_ = nullptr;  // node
    u64 elements_left_ = 0;
    Few<PyObject*, 4> parts_;
    Few<u32, 4> pickled_;  // for each part that is pickled: its number, then which element it is
    [[no_unique_address]] OwnPlans plans_;
    Few<Met, 4> met_;
    Few<Known, 4> classes_;
    Few<PyObject*, 2> zones_;
};

// Packs an object; asks for the plans of its classes first.
Done pack(const PoolPtr& pool, Encoding& encoding, PyObject* object) noexcept;
PyObject* decode_packed(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept;
PyObject* decode_packed_block(const PoolPtr& pool, Reader& from, Held block, Copy how) noexcept;

}  // namespace onecopy::py
