#include "storage/shared_memory_sweep.hpp"

#include <algorithm>

#include "storage/owner.hpp"

namespace onecopy {
namespace storage {

bool is_segment(const os::FileStatus& file) noexcept {
    return file.is_file && (file.mode & kSegmentMadeHere) != 0 && file.user == os::effective_user();
}

os::Life owner_life(const os::FileStatus& file, const std::string& name) noexcept {
    return name.starts_with(kHiddenSegment) ? os::Life::dead : life_of_owner(owner_of(file));
}

SegmentState sweep_segment(int directory, const std::string& name, bool remove) noexcept {
    const os::Descriptor file(os::open_at(directory, name.c_str(), os::Access::write));
    if (!file) return errno == ENOENT ? SegmentState::none : SegmentState::failed;
    os::FileStatus status;
    if (!os::look_at(file.number(), status)) return SegmentState::failed;
    if (!is_segment(status)) return SegmentState::none;
    // A segment that is being made has no owner yet, whatever its mode.
    const bool stays = (status.mode & kSegmentStays) != 0 && !name.starts_with(kHiddenSegment);
    const os::Life owner = stays ? os::Life::alive : owner_life(status, name);
    if (owner == os::Life::unknown) return SegmentState::failed;
    if (owner == os::Life::alive) {
        // It queries the lock and does not take it: a lock would disturb a process that attaches.
        switch (os::others_of(file.number(), kSegmentHoldByte)) {
            case os::Others::none:
                return stays ? SegmentState::persistent : SegmentState::kept;
            case os::Others::unknown:
                return SegmentState::failed;
            default:
                return SegmentState::in_use;
        }
    }
    switch (os::lock_byte(file.number(), kSegmentHoldByte, true)) {
        case os::ByteLock::busy:
            return SegmentState::in_use;
        case os::ByteLock::failed:
            return SegmentState::failed;
        case os::ByteLock::taken:
            break;
    }
    os::FileStatus now;
    if (!os::look_at(directory, name.c_str(), now) || !now.same_file(status))
        return SegmentState::none;
    if (!remove) return SegmentState::stale;
    return os::remove_name(directory, name.c_str()) ? SegmentState::removed : SegmentState::failed;
}

}  // namespace storage

using namespace storage;

bool sweep_segments(const std::string& directory, bool remove, std::vector<SegmentInfo>& out) {
    follow_forks();
    const Fd folder([&] { return os::open_directory(directory.c_str()); });
    if (!folder) return false;
    std::vector<std::string> names;
    for (std::string& name : os::names_in(folder.get(), {})) {
        os::FileStatus status;
        if (os::look_at(folder.get(), name.c_str(), status) && is_segment(status))
            names.push_back(std::move(name));
    }
    std::sort(names.begin(), names.end());
    for (std::string& name : names) {
        // A fork waits for one name at a time.
        std::lock_guard guard(segments_mutex());
        os::FileStatus status;
        if (!os::look_at(folder.get(), name.c_str(), status)) continue;
        const SegmentState state = sweep_segment(folder.get(), name, remove);
        if (state != SegmentState::none) out.push_back({std::move(name), state, status.size});
    }
    return true;
}

}  // namespace onecopy
