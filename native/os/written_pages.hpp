// The pages of a private mapping of a file that this process has written. The kernel has copied
// them; all others are the file's own.
#pragma once
#include <cstddef>

namespace onecopy::os {

// unknown: the system does not tell it, or tells what is not so.
enum class Written : unsigned char { no, yes, unknown };

// Whether a page that any of these bytes lies on was written.
Written is_written_privately(const void* from, std::size_t length) noexcept;

// Whether the system has written to a private mapping by itself since `forget_written`: mlockall
// copies all pages of such a mapping, also those that nobody uses. The first one comes first.
inline bool is_still_the_file(const void* from) noexcept {
    return is_written_privately(from, 1) == Written::no;
}

// Gives the copied pages of a private mapping back, so that all of it shows the file again. The
// others stay mapped. False: they may be there still. `from` and `length` are whole pages, and no
// other thread uses them.
bool forget_written(void* from, std::size_t length) noexcept;

}  // namespace onecopy::os
