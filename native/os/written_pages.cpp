// Read from /proc/self/pagemap: 8 bytes for each page. Bit 61 says that the page is one of a file,
// so it is not set for a page that was copied. Any process may read these bits of its own pages.
//
// The pages belong to a private mapping that nobody else uses meanwhile, so an answer stays true.
#include "os/written_pages.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>

#include "os/descriptor.hpp"
#include "os/files.hpp"
#include "os/os.hpp"

namespace onecopy::os {
namespace {

using Entry = std::uint64_t;
constexpr Entry kInMemory = Entry{1} << 63, kInSwap = Entry{1} << 62, kOfFile = Entry{1} << 61;
constexpr std::size_t kAtOnce = 1024;  // entries, on the stack

// A page of neither kind was not touched, or is gone from memory: it will be the file's.
constexpr bool is_copy(Entry entry) noexcept {
    return (entry & (kInMemory | kInSwap)) != 0 && (entry & kOfFile) == 0;
}

// Opened for each use: after a fork, a descriptor shows the pages of the parent.
class Pagemap {
  public:
    Pagemap() noexcept : fd_(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)) {}

    // Calls act(first page, number of pages) for each run of pages that were copied, until it
    // answers false. False: it did, or the system does not tell.
    template <class Act>
    bool each_run(std::uintptr_t page, std::size_t pages, Act act) const noexcept {
        Entry entries[kAtOnce];
        while (pages != 0) {
            const std::size_t n = std::min(pages, kAtOnce);
            if (!read(page, entries, n)) return false;
            for (std::size_t i = 0; i < n;) {
                if (!is_copy(entries[i])) {
                    ++i;
                    continue;
                }
                const std::size_t first = i;
                while (i < n && is_copy(entries[i]))
                    ++i;
                if (!act(page + first, i - first)) return false;
            }
            page += n;
            pages -= n;
        }
        return true;
    }

    bool read(std::uintptr_t page, Entry* to, std::size_t n) const noexcept {
        if (!fd_) return false;
        const std::size_t bytes = n * sizeof(Entry);
        ssize_t got;
        do {
            got = pread(fd_.number(), to, bytes, static_cast<off_t>(page * sizeof(Entry)));
        } while (got < 0 && errno == EINTR);
        return got == static_cast<ssize_t>(bytes);
    }

  private:
    Descriptor fd_;
};

Written look(const void* from, std::size_t length) noexcept {
    if (length == 0) return Written::no;
    const auto at = reinterpret_cast<std::uintptr_t>(from);
    const std::uintptr_t first = at / page_size(), last = (at + length - 1) / page_size();
    bool found = false;
    const bool to_the_end =
        Pagemap().each_run(first, last - first + 1, [&found](std::uintptr_t, std::size_t) noexcept {
            found = true;
            return false;
        });
    return found ? Written::yes : to_the_end ? Written::no : Written::unknown;
}

bool discard(void* from, std::size_t length) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(from);
    return Pagemap().each_run(
        at / page_size(), length / page_size(), [](std::uintptr_t page, std::size_t n) noexcept {
            void* run = reinterpret_cast<void*>(page * page_size());
            int error;
            do {
                error = madvise(run, n * page_size(), MADV_DONTNEED) == 0 ? 0 : errno;
            } while (error == EINTR || error == EAGAIN);
            return error == 0;
        });
}

enum class Answer : unsigned char { unknown, yes, no };

// What it says of a page of a file before a store, after it, and after the page was given back.
Answer look_at_a_page(unsigned char* page) noexcept {
    volatile unsigned char* byte = page;
    const auto is = [page](Written expected) {
        const Written found = look(page, page_size());
        return found == Written::unknown ? Answer::unknown
               : found == expected       ? Answer::yes
                                         : Answer::no;
    };
    if (*byte != 0) return Answer::no;
    if (const Answer a = is(Written::no); a != Answer::yes) return a;
    *byte = 1;
    if (const Answer a = is(Written::yes); a != Answer::yes) return a;
    // Locked memory (mlockall) refuses; it may not be locked next time.
    if (!discard(page, page_size())) return Answer::unknown;
    if (const Answer a = is(Written::no); a != Answer::yes) return a;
    return *byte == 0 ? Answer::yes : Answer::no;
}

// Under qemu-user, /proc/self/pagemap is the one of the emulator, whose addresses may be others,
// and MADV_DONTNEED can do nothing and answer 0. So the process asks about a page that it knows.
bool is_told() noexcept {
    static std::atomic<Answer> known{Answer::unknown};  // of this process; threads find the same
    Answer answer = known.load(std::memory_order_relaxed);
    if (answer != Answer::unknown) [[likely]]
        return answer == Answer::yes;
    // Where pagemap cannot be read, or a signal could come instead of an error, nothing is made.
    Entry ignored;
    if (!Pagemap().read(0, &ignored, 1) || !files_may_grow()) return false;
    const Descriptor file(make_memfd());
    if (!file || ftruncate(file.number(), static_cast<off_t>(page_size())) != 0) return false;
    void* page = map_private(file.number(), page_size());
    if (page == nullptr) return false;
    answer = look_at_a_page(static_cast<unsigned char*>(page));
    unmap(page, page_size());
    known.store(answer, std::memory_order_relaxed);
    return answer == Answer::yes;
}

}  // namespace

Written is_written_privately(const void* from, std::size_t length) noexcept {
    return is_told() ? look(from, length) : Written::unknown;
}

bool forget_written(void* from, std::size_t length) noexcept {
    return is_told() && discard(from, length);
}

}  // namespace onecopy::os
