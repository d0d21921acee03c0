// Ref: an object in a pool, held by this process.
#pragma once
#include "bindings/pool.hpp"

namespace onecopy::py {

struct RefObject {
    HeldSlot held;  // on the envelope; empty: released
    Handle handle;
};

bool is_ref(PyObject* object) noexcept;
RefObject& ref_of(PyObject* object) noexcept;
PyObject* make_ref(Held held) noexcept;  // new reference; nullptr with an exception set

}  // namespace onecopy::py
