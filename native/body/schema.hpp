// The schema of a typed channel: a text at the end of its body, and in the fixed fields its length
// and hash. It is written before the body is finished, so a channel that can be found has its
// schema. The core does not read the text. docs/design/0020.
#pragma once
#include <string_view>

#include "base/shm_atomic.hpp"
#include "layout/layout.hpp"

namespace onecopy {

constexpr u32 kLongestSchema = 64 * 1024;  // bytes

// FNV-1a. It shows damage; schemas are compared as texts. 0 stands for no schema.
inline u64 schema_hash(std::string_view text) noexcept {
    u64 hash = kFirstLayout;
    for (const char c : text)
        hash = add_to_layout(hash, static_cast<unsigned char>(c));
    return hash == 0 ? 1 : hash;
}

// The body of a new channel that nobody can open yet. `at`: where its other parts end.
template <class Body>
void write_schema(Body& body, u64 at, std::string_view text) noexcept {
    if (text.empty()) return;
    copy_in(reinterpret_cast<unsigned char*>(&body) + at, text.data(), text.size());
    body.schema_bytes.store_relaxed(static_cast<u32>(text.size()));
    body.schema_hash.store_relaxed(schema_hash(text));
}

// The schema in a body of `length` bytes. False: its fields make no sense. The text is in shared
// memory: another user may change it while it is read.
template <class Body>
bool find_schema(const Body& body, u64 at, u64 length, std::string_view& text, u64& hash) noexcept {
    const u32 bytes = body.schema_bytes.load_relaxed();
    hash = body.schema_hash.load_relaxed();
    if (bytes > kLongestSchema || (bytes == 0) != (hash == 0) || length < at + bytes) return false;
    text = {reinterpret_cast<const char*>(&body) + at, bytes};
    return true;
}

}  // namespace onecopy
