// Descriptors that are open while a pool is made, opened, checked, swept or left.
#pragma once
#include <cerrno>
#include <concepts>
#include <mutex>
#include <utility>

#include "os/descriptor.hpp"
#include "os/shared_file.hpp"
#include "storage/forks.hpp"

namespace onecopy {

// Owns a descriptor, or nothing. A forked child must not keep a copy: the locks on the descriptor
// belong to the open file description, so they would last as long as the child. Therefore each
// descriptor is on a list from the moment it is opened. The fork handler closes it in the child,
// and the child's object owns nothing after that.
template <class Descriptor>
class Unforked {
  public:
    Unforked() noexcept = default;
    // `open` returns the descriptor or its number. On failure it returns an empty one and sets
    // errno. A fork waits for `open`, so `open` must neither wait nor open another object of this
    // class.
    template <std::invocable Open>
    explicit Unforked(Open open) noexcept {
        follow_forks();
        std::lock_guard guard(pools_mutex());
        adopt_locked(Descriptor(open()));
    }
    ~Unforked() { reset(); }
    Unforked(Unforked&& other) noexcept { *this = std::move(other); }
    Unforked& operator=(Unforked&& other) noexcept {
        if (this == &other) return *this;
        reset();
        std::lock_guard guard(pools_mutex());
        adopt_locked(other.release_locked());
        return *this;
    }
    int get() const noexcept { return descriptor_.number(); }
    const Descriptor& operator*() const noexcept { return descriptor_; }
    const Descriptor* operator->() const noexcept { return &descriptor_; }
    explicit operator bool() const noexcept { return static_cast<bool>(descriptor_); }
    void reset() noexcept {
        if (!descriptor_) return;
        const int saved = errno;
        std::lock_guard guard(pools_mutex());
        release_locked().close();
        errno = saved;
    }

    // ---- with pools_mutex held
    Descriptor release_locked() noexcept {
        if (descriptor_) {
            (previous_ == nullptr ? first_ : previous_->next_) = next_;
            if (next_ != nullptr) next_->previous_ = previous_;
            previous_ = next_ = nullptr;
        }
        return std::move(descriptor_);
    }
    void adopt_locked(Descriptor descriptor) noexcept {  // this owns nothing yet
        descriptor_ = std::move(descriptor);
        if (!descriptor_) return;
        next_ = first_;
        if (next_ != nullptr) next_->previous_ = this;
        first_ = this;
    }
    // In the child: the owners may be on the stacks of threads that do not exist here, so the list
    // is not read again.
    static void close_all_in_child() noexcept {
        for (Unforked* each = std::exchange(first_, nullptr); each != nullptr;) {
            each->descriptor_.close();
            each->previous_ = nullptr;
            each = std::exchange(each->next_, nullptr);
        }
    }

  private:
    Descriptor descriptor_;
    Unforked *previous_ = nullptr, *next_ = nullptr;
    static inline Unforked* first_ = nullptr;
};

using Fd = Unforked<os::Descriptor>;  // of a directory, or of a file that is not a pool
using PoolFd = Unforked<os::SharedFile>;

}  // namespace onecopy
