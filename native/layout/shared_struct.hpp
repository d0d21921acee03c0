// What a build knows of the structs that stand in shared memory, so that two builds which differ in
// one of them notice it (`layout_hash`).
//
// Every such struct ends with ONECOPY_SHARED_STRUCT and the names of all its fields, in their
// order:
//
//|     struct Subscriber {
//|         alignas(64) shm_atomic<u64> cursor;
//|         shm_atomic<u32> owner;
//|         ONECOPY_SHARED_STRUCT(Subscriber, cursor, owner)
//|     };
//
// That gives it `Subscriber::layout()`, a number made at compile time. It does not compile if a
// field is missing: between two fields, and behind the last one, there may be no more room than
// alignment explains. tests/structure/test_native_layout.py finds structs that are not registered.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "base/bits.hpp"

namespace onecopy {

struct FieldPlace {
    std::uint64_t offset, size, alignment;
};

// FNV-1a, with words in the place of bytes.
constexpr std::uint64_t kFirstLayout = 0xcbf29ce484222325ULL;
constexpr std::uint64_t add_to_layout(std::uint64_t so_far, std::uint64_t part) noexcept {
    return (so_far ^ part) * 0x100000001b3ULL;
}
constexpr std::uint64_t fold_layouts(std::initializer_list<std::uint64_t> parts) noexcept {
    std::uint64_t h = kFirstLayout;
    for (std::uint64_t part : parts)
        h = add_to_layout(h, part);
    return h;
}

// Not defined: a call of it is what the compiler's error names.
void a_field_is_missing_or_out_of_order();

consteval std::uint64_t layout_of(std::uint64_t size, std::uint64_t alignment,
                                  std::initializer_list<FieldPlace> fields) {
    std::uint64_t h = fold_layouts({size, alignment}), end = 0;
    for (const FieldPlace& field : fields) {
        if (field.offset != round_up(end, field.alignment)) a_field_is_missing_or_out_of_order();
        end = field.offset + field.size;
        h = add_to_layout(add_to_layout(h, field.offset), field.size);
    }
    if (size != round_up(end, alignment)) a_field_is_missing_or_out_of_order();
    return h;
}

}  // namespace onecopy

// clang-format off
// The preprocessor's recursion: one round for each field, 256 at most.
#define ONECOPY_PARENS_ ()
#define ONECOPY_ROUNDS_(...) ONECOPY_ROUNDS_64_(ONECOPY_ROUNDS_64_(ONECOPY_ROUNDS_64_(ONECOPY_ROUNDS_64_(__VA_ARGS__))))
#define ONECOPY_ROUNDS_64_(...) ONECOPY_ROUNDS_16_(ONECOPY_ROUNDS_16_(ONECOPY_ROUNDS_16_(ONECOPY_ROUNDS_16_(__VA_ARGS__))))
#define ONECOPY_ROUNDS_16_(...) ONECOPY_ROUNDS_4_(ONECOPY_ROUNDS_4_(ONECOPY_ROUNDS_4_(ONECOPY_ROUNDS_4_(__VA_ARGS__))))
#define ONECOPY_ROUNDS_4_(...) __VA_ARGS__
// __alignof__ of the field, not of its type: `alignas` counts.
#define ONECOPY_FIELD_(T, field) \
    ::onecopy::FieldPlace{offsetof(T, field), sizeof(T::field), __alignof__(static_cast<T*>(nullptr)->field)},
#define ONECOPY_FIELDS_(T, field, ...) \
    ONECOPY_FIELD_(T, field) __VA_OPT__(ONECOPY_FIELDS_AGAIN_ ONECOPY_PARENS_ (T, __VA_ARGS__))
#define ONECOPY_FIELDS_AGAIN_() ONECOPY_FIELDS_

#define ONECOPY_SHARED_STRUCT(T, ...)                                                      \
    static consteval std::uint64_t layout() {                                              \
        return ::onecopy::layout_of(sizeof(T), alignof(T),                                 \
                                    {ONECOPY_ROUNDS_(ONECOPY_FIELDS_(T, __VA_ARGS__))});   \
    }
// clang-format on
