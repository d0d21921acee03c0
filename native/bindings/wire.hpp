// The bytes of a message: tags, and cursors that check their bounds. A change needs one in
// message_forms.py and decoding.py of src/onecopy/observer too, which read them for people. A test
// compares the numbers.
#pragma once
#include <cstring>
#include <type_traits>

#include "layout/layout.hpp"

namespace onecopy::py {

enum class Tag : u8 {
    none = 1,
    yes,
    no,
    integer,    // i64
    real,       // f64
    text,       // u8 length, UTF-8
    bytes,      // u8 length, bytes
    tuple,      // u8 count, elements
    array,      // dtype, u8 ndim, u8 order, u64 offset, i64 shape[ndim], strided: i64 strides[ndim]
    view,       // u8 format, u8 ndim, u64 offset, u64 bytes, i64 shape[ndim]
    long_text,  // u64 offset, u64 bytes
    long_bytes,  // u64 offset, u64 bytes
    ref,
    pickle,        // u8 buffers (0 or 1), [u64 offset, u64 bytes], the pickle
    pickle_block,  // u64 offset of a PickleHead in the block
    packed,        // u8 version, u8 flags, a body: codec_packed.hpp
    packed_block,  // u64 offset of a PackedHead in the block
};
enum class Order : u8 { c = 0, fortran = 1, strided = 2 };
// With an array's order, or a pickle's number of buffers: the block was made for this message, with
// a copy in it.
constexpr u8 kFresh = 0x80;

class Writer {
  public:
    Writer(unsigned char* at, unsigned char* end) noexcept : at_(at), end_(end) {}
    std::size_t room() const noexcept { return static_cast<std::size_t>(end_ - at_); }
    unsigned char* at() const noexcept { return at_; }
    // Callers ask `room` for what they are about to write; these say whether it did fit as well.
    template <class T>
    bool put(T value) noexcept {
        static_assert(std::is_trivially_copyable_v<T>);
        return put(&value, sizeof value);
    }
    bool put(const void* from, std::size_t n) noexcept {
        if (room() < n) return false;
        if (n != 0)
            std::memcpy(at_, from, n);  // an array without dimensions has no shape to point at
        at_ += n;
        return true;
    }

  private:
    unsigned char* at_;
    unsigned char* end_;
};

class Reader {
  public:
    Reader(const unsigned char* at, std::size_t n) noexcept : at_(at), end_(at + n) {}
    std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - at_); }
    template <class T>
    bool get(T& out) noexcept {
        static_assert(std::is_trivially_copyable_v<T>);
        if (left() < sizeof out) return false;
        std::memcpy(&out, at_, sizeof out);
        at_ += sizeof out;
        return true;
    }
    // The next n bytes, or nullptr.
    const unsigned char* take(std::size_t n) noexcept {
        if (left() < n) return nullptr;
        const unsigned char* here = at_;
        at_ += n;
        return here;
    }

  private:
    const unsigned char* at_;
    const unsigned char* end_;
};

}  // namespace onecopy::py
