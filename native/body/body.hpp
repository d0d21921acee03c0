// The body of a structure: a block of a kind, with a magic number. What all structures do with it
// is here: create, finish, open, and ask whether the pool may be used. docs/design/0017.
#pragma once
#include <string>
#include <vector>

#include "heap/heap.hpp"
#include "sync/structure_lock.hpp"

namespace onecopy {

// A fresh body of `bytes` zeros, held once for the caller. Nobody opens it before its magic number
// is there. A death until then leaves a block that only the dead process holds.
inline Status create_body(Member& m, BodyKind kind, u64 bytes, WaitPolicy& p,
                          Allocated& out) noexcept {
    if (Status s = m.usable(); s != Status::ok) return s;
    return allocate(m, {.bytes = bytes, .flags = kFlagBody, .kind = kind, .zero = true}, p, out);
}

// To be called when all fixed fields are written: from here on the body can be opened.
template <class Body>
void finish_body(Body& body) noexcept {
    body.magic.store_release(Body::kMagic);  // [body.magic]
}

// Checks that a handle from shared memory names a block of this kind, and copies once where it
// lies. stale: another generation. bad_argument: another kind. corrupt: too short, or outside of
// the heap.
inline Status find_part(Member& m, Handle h, BodyKind kind, u64 least, BlockInfo& out) noexcept {
    const u32 index = handle_index(h);
    if (Status s = inspect(m, index, out); s != Status::ok) return s;
    if (handle_of(m, index) != h) return Status::stale;
    if (out.kind != kind) return Status::bad_argument;
    return out.length < least ? Status::corrupt : Status::ok;
}

// The body of a handle that the caller holds, at least `least` bytes long; `length` says how long
// it is. As `find_part`; corrupt also if it was never finished.
template <class Body>
Status open_body(Member& m, Handle h, BodyKind kind, u64 least, Body*& out, u64& length) noexcept {
    BlockInfo info;
    if (Status s = find_part(m, h, kind, least, info); s != Status::ok) return s;
    auto* body = reinterpret_cast<Body*>(info.data);
    if (body->magic.load_acquire() != Body::kMagic) return Status::corrupt;  // [body.magic]
    out = body;
    length = info.length;
    return Status::ok;
}
template <class Body>
Status open_body(Member& m, Handle h, BodyKind kind, u64 least, Body*& out) noexcept {
    u64 length = 0;
    return open_body(m, h, kind, least, out, length);
}

// Whether an operation on a structure may begin.
inline Status usable(const Member& m) noexcept {
    return m.usable();
}

// What `validate` waits with for a lock of a structure: two seconds, and no signal handler runs.
class CheckWait final : public WaitPolicy {
  public:
    CheckWait() noexcept : WaitPolicy(os::monotonic_ns() + 2'000'000'000) {}
    void about_to_block() noexcept override { outer_.about_to_block(); }

  private:
    UnboundedWait outer_;
};

using Findings = std::vector<std::string>;

// What `validate` says of a body that cannot be opened.
inline Findings makes_no_sense(const std::string& who) {
    return {who + "its fixed fields make no sense"};
}

}  // namespace onecopy
