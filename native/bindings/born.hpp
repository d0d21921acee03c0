// Ordinary arrays of numpy whose memory lies in a pool, because numpy's memory handler took it from
// there (docs/design/0026-born-in-pool.md).
#pragma once
#include <nanobind/nanobind.h>

#include "bindings/lease.hpp"

namespace onecopy::py {

// The block of such an array in which the memory lies, all of it. False: there is none in this
// pool. The caller has the array, so the block stays as long.
bool find_born(const Member& m, const unsigned char* memory, u64 length, u32& index) noexcept;

// Gives an array that owns such memory a lease as its base instead, through which it can never be
// written again. Nothing happens to other arrays. No exception is set.
void give_to_lease(PyArrayObject* array) noexcept;

void bind_born(nanobind::module_& m);

}  // namespace onecopy::py
