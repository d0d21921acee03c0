// The pages of a private mapping of a file that this process has written. The kernel has copied
// them; all others are the file's own.
#pragma once
#include <cstddef>

namespace onecopy::os {

// unknown: the system does not tell it, or tells what is not so.
enum class Written : unsigned char { no, yes, unknown };

// Whether a page that any of these bytes lies on was written.
Written is_written_privately(const void* from, std::size_t length) noexcept;

// Gives the copied pages of a private mapping back, so that all of it shows the file again. The
// others stay mapped. False: they may be there still. `from` and `length` are whole pages, and no
// other thread uses them.
bool forget_written(void* from, std::size_t length) noexcept;

}  // namespace onecopy::os
