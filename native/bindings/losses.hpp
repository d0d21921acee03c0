// Fault builds only.
#pragma once
#include "bindings/objects.hpp"

namespace onecopy::py {
void bind_losses(nanobind::module_& m);
}
