// How this process leaves its pools at its end.
#pragma once
#include <nanobind/nanobind.h>

namespace onecopy::py {

// Whether this process has left its pools because it is about to end.
bool has_left() noexcept;

void bind_leaving(nanobind::module_& m);

}  // namespace onecopy::py
