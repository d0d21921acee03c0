// Guarded: an object and the lock under which it is read and written.
#pragma once
#include "bindings/objects.hpp"

namespace onecopy::py {

bool init_guarded(PyObject* module) noexcept;  // Guarded and GuardedAttribute; after bind_mutex
void bind_fill(nb::module_& m);
void bind_compare(nb::module_& m);

}  // namespace onecopy::py
